# Waking tasks: what a task waits on, and one call of the loop a step for all that are woken.

cimport cython

from fastws._codec cimport flag


# What follows the tasks of a step, for one owner that asked for it.
ctypedef int (*end_of_step)(object owner) except -1


# Yielded to an asyncio.Task in place of a Future. It has as much of a Future's interface as a Task
# uses, serves one wait after the other, and wakes its task through LoopStep.
@cython.final
cdef class Waiter:
    cdef LoopStep step
    cdef object callback  # the task's wake-up while it waits, else None
    cdef object context  # in which the callback runs
    cdef object message  # of the cancellation
    cdef public bint _asyncio_future_blocking
    cdef flag due  # in the step's list
    cdef flag is_cancelled

    # Whether a task waits that has not been woken yet.
    cdef inline bint is_awaited(self) noexcept:
        return self.callback is not None and not self.due

    cdef int wake(self) except -1
    cdef int run(self) except -1
    cdef void forget(self) noexcept


# What remains to be done in this step of one loop.
@cython.final
cdef class LoopStep:
    cdef readonly object loop
    cdef object get_loop  # a method that returns it, for every Waiter
    cdef object done  # a Future whose result is None; made with the first Waiter
    cdef list waking  # Waiters to run
    cdef list ending  # owners to call `end` with
    cdef end_of_step end  # one for all, so that at_end() makes no object
    cdef bint scheduled
    cdef bint running
    cdef bint crowded  # several tasks run in this step
    cdef long long started  # milliseconds of a coarse clock: since when a task may be at work

    cdef Waiter waiter(self)
    cdef int at_end(self, object owner, end_of_step end) except -1
    cdef void start_clock(self) noexcept
    cdef bint is_late(self) noexcept
    cdef int _schedule(self) except -1
    cdef int _finish(self) except -1
