"""Awaitables that finish without an exception, and without a task switch when nothing is due."""

import asyncio
import sys

from cpython.object cimport PyObject
from cpython.ref cimport Py_DECREF, Py_INCREF

cdef extern from "_await.h":
    ctypedef int (*fastws_step)(PyObject *self, PyObject **result) except -1
    int fastws_install_slots(object cls, fastws_step run_step, bint is_ready) except -1


if sys.version_info >= (3, 11):
    ReceiveTimeout = TimeoutError
else:
    # The two became one class in CPython 3.11; code written for either must catch this.
    ReceiveTimeout = type("ReceiveTimeout", (TimeoutError, asyncio.TimeoutError), {})


cdef int _run_step(PyObject *awaitable, PyObject **result) except -1:
    return (<Awaitable>awaitable).step(result)


cdef int install(object cls) except -1:
    """Give ``cls`` the slots of _await.h; each concrete Awaitable needs it once."""
    return fastws_install_slots(cls, _run_step, cls is Ready)


cdef int yield_future(object future, PyObject **result) except -1:
    """Yield ``future`` to the task that awaits, as Future.__await__ does."""
    future._asyncio_future_blocking = True
    return give(future, result)


cdef int give(object value, PyObject **result) except -1:
    """Make ``value`` the step's result, with a reference of its own."""
    Py_INCREF(value)
    result[0] = <PyObject *>value
    return 0


cdef class Awaitable:
    cdef int step(self, PyObject **result) except -1:
        raise NotImplementedError("step() is overridden")

    cdef int abandon(self) except -1:
        return 0

    def __await__(self):
        return self

    def __iter__(self):
        return self

    def __next__(self):
        return self.send(None)

    def send(self, value):
        cdef PyObject *owned = NULL
        cdef int done = self.step(&owned)
        result = <object>owned
        Py_DECREF(result)
        if done:
            raise StopIteration(result)
        return result

    def throw(self, kind, value=None, traceback=None):
        self.abandon()
        if value is None:
            value = kind() if isinstance(kind, type) else kind
        elif isinstance(kind, type) and not isinstance(value, BaseException):
            value = kind(value)
        raise value if traceback is None else value.with_traceback(traceback)

    def close(self):
        self.abandon()


cdef class Ready(Awaitable):
    cdef int step(self, PyObject **result) except -1:
        give(None, result)
        return 1


cdef class Waiting(Awaitable):
    cdef int step(self, PyObject **result) except -1:
        if not self.future.done():
            return yield_future(self.future, result)
        give(self.future.result(), result)
        return 1


def ready():
    return READY


cdef Waiting wait_for(object future):
    cdef Waiting waiting = Waiting.__new__(Waiting)
    waiting.future = future
    return waiting


cdef int wake_all(list group) except -1:
    waiters = group[:]
    group.clear()
    for future in waiters:
        if not future.done():
            future.set_result(None)
    return 0


install(Ready)
install(Waiting)

READY = Ready.__new__(Ready)
