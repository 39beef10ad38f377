# Waking tasks: what a task waits on, and one call of the loop a step for all that are woken.

cimport cython


# Yielded to an asyncio.Task in place of a Future. It has as much of a Future's interface as a Task
# uses, serves one wait after the other, and wakes its task through LoopStep.
@cython.final
cdef class Waiter:
    cdef LoopStep step
    cdef public bint _asyncio_future_blocking
    cdef object callback  # the task's wake-up while it waits, else None
    cdef object context  # in which the callback runs
    cdef bint due  # in the step's list
    cdef bint is_cancelled
    cdef object message  # of the cancellation

    cdef int wake(self) except -1
    cdef int run(self) except -1
    cdef void forget(self) noexcept


# What remains to be done in this step of one loop.
@cython.final
cdef class LoopStep:
    cdef readonly object loop
    cdef list waking  # Waiters to run
    cdef list ending  # owners whose on_step_end() follows
    cdef bint scheduled
    cdef bint running

    cdef Waiter waiter(self)
    cdef int at_end(self, object owner) except -1
    cdef int _schedule(self) except -1
