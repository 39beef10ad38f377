# cython: language_level=3
"""A wait on fastws._waking that a test ends, and what is to follow a step of the loop."""

from cpython.object cimport PyObject

from fastws._awaitables cimport Awaitable, give, install
from fastws._waking cimport LoopStep, Waiter


cdef class Source:
    """Makes one task at a time wait until wake()."""

    cdef readonly Waiter waiter

    def __init__(self, LoopStep step):
        self.waiter = step.waiter()

    def wait(self):
        cdef Wait wait = Wait.__new__(Wait)
        wait.source = self
        return wait

    def wake(self):
        self.waiter.wake()


cdef class Wait(Awaitable):
    cdef Source source
    cdef bint waited

    cdef int step(self, PyObject **result) except -1:
        if self.waited:
            give(None, result)
            return 1
        self.waited = True
        self.source.waiter._asyncio_future_blocking = True
        give(self.source.waiter, result)
        return 0

    cdef int abandon(self) except -1:
        self.source.waiter.forget()
        return 0


install(Wait)


cdef int tell(object owner) except -1:
    owner.on_step_end()
    return 0


def at_end(LoopStep step, owner):
    step.at_end(owner, tell)
