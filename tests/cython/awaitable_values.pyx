# cython: language_level=3
"""Awaitables with any value, error and number of waits: the slots of _await.h without a socket."""

from cpython.object cimport PyObject

from fastws._awaitables cimport READY, Awaitable, give, install, wait_for, yield_future


cdef class Value(Awaitable):
    """Waits for each of ``futures``, then gives ``value`` or raises ``error``."""

    cdef public object value
    cdef public object error
    cdef public list futures
    cdef public int steps  # calls of step()
    cdef public int abandoned  # calls of abandon()
    cdef object __weakref__

    def __init__(self, value=None, *futures, error=None):
        self.value = value
        self.error = error
        self.futures = list(futures)

    cdef int step(self, PyObject **result) except -1:
        self.steps += 1
        while self.futures:
            if not self.futures[0].done():
                return yield_future(self.futures[0], result)
            self.futures.pop(0).result()
        if self.error is not None:
            raise self.error
        give(self.value, result)
        return 1

    cdef int abandon(self) except -1:
        self.abandoned += 1
        return 0


install(Value)


def ready():
    """What a send returns that has nothing to wait for."""
    return READY


def waiting(future):
    """What waits for a future, such as a ping does."""
    return wait_for(future)
