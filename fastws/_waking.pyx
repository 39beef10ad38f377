"""Waking tasks, many at a time.

An asyncio.Future for each wait costs its allocation, a method call to complete it, and a handle of
the loop for each task that is woken. A Waiter is made once a connection, and all tasks that are
woken in a step of the loop share one handle. They run when they would have run anyway, each in its
own context: never inside the parser.
"""

from asyncio import CancelledError
from contextvars import copy_context

from cpython.contextvars cimport PyContext_Enter, PyContext_Exit

cdef extern from "_clock.h":
    long long fastws_coarse_clock() noexcept

cdef enum:
    BATCH = 32  # tasks whose answers go out together
    LATE = 5  # milliseconds


def _no_loop():
    return None


cdef class Waiter:
    @property
    def get_loop(self):
        # Every task that waits asks for it: so it is the step's method, made once.
        # Python code could make a Waiter that no LoopStep knows: `type(waiter)()`.
        return _no_loop if self.step is None else self.step.get_loop

    def add_done_callback(self, callback, *, context=None):
        if self.step is None:
            raise RuntimeError("a Waiter that no LoopStep has made cannot be waited for")
        self.callback = callback
        self.context = copy_context() if context is None else context

    def done(self):
        return not self.is_awaited()

    def cancel(self, msg=None):
        # As with a Future: once it is done, the task has to be told in another way.
        if not self.is_awaited():
            return False
        self.is_cancelled = True
        self.message = msg
        self.wake()
        return True

    def cancelled(self):
        return bool(self.is_cancelled)

    def result(self):
        if self.is_cancelled:
            message = self.message
            self.is_cancelled = False
            self.message = None
            raise CancelledError() if message is None else CancelledError(message)
        return None

    cdef int wake(self) except -1:
        """Let the task that waits run in this step; without one there is nothing to do."""
        if self.is_awaited():
            self.due = True
            self.step.waking.append(self)
            self.step._schedule()
        return 0

    cdef int run(self) except -1:
        callback = self.callback
        context = self.context
        # is_cancelled stays: the task asks for the result.
        self.due = False
        self.callback = None
        self.context = None
        if callback is None:
            return 0
        PyContext_Enter(context)
        try:
            # The task asks what it is given for the result, a Future without a call into Python.
            callback(self if self.is_cancelled else self.step.done)
        finally:
            PyContext_Exit(context)
        return 0

    cdef void forget(self) noexcept:
        """Nobody waits any more."""
        self.due = False
        self.is_cancelled = False
        self.message = None
        self.callback = None
        self.context = None


cdef class LoopStep:
    def __init__(self, loop):
        self.loop = loop
        self.get_loop = self._get_loop
        self.waking = []
        self.ending = []

    def _get_loop(self):
        return self.loop

    cdef Waiter waiter(self):
        cdef Waiter waiter = Waiter.__new__(Waiter)
        waiter.step = self
        if self.done is None:
            self.done = self.loop.create_future()
            self.done.set_result(None)
        return waiter

    cdef int at_end(self, object owner, end_of_step end) except -1:
        """Call ``end`` with ``owner`` after the tasks of this step, or after some of them."""
        self.end = end
        self.ending.append(owner)
        if not self.running:
            self.start_clock()
            self._schedule()
        return 0

    cdef void start_clock(self) noexcept:
        """A task of ours begins, in a step or anew after it let others have their turn."""
        self.started = fastws_coarse_clock()

    cdef bint is_late(self) noexcept:
        """Whether a task of this step has kept the loop for long."""
        return fastws_coarse_clock() - self.started >= LATE

    cdef int _schedule(self) except -1:
        if not self.scheduled:
            self.loop.call_soon(self._run)
            self.scheduled = True
        return 0

    def _run(self):
        cdef Waiter waiter
        cdef Py_ssize_t done = 0
        cdef list waking = self.waking
        self.waking = []
        self.scheduled = False
        self.running = True
        self.crowded = len(waking) > 1
        self.start_clock()
        try:
            for waiter in waking:
                done += 1
                waiter.run()
                if done % BATCH == 0:
                    self._finish()
        finally:
            self.running = False
            self.crowded = False
            if done < len(waking):
                # A task raised SystemExit or KeyboardInterrupt; the others still have to run.
                self.waking[:0] = waking[done:]
                self._schedule()
            self._finish()

    cdef int _finish(self) except -1:
        if not self.ending:
            return 0
        ending = self.ending
        self.ending = []
        for owner in ending:
            try:
                self.end(owner)
            except Exception as error:
                self.loop.call_exception_handler(
                    {
                        "message": f"unhandled exception at the end of a step of {owner!r}",
                        "exception": error,
                    }
                )
        return 0
