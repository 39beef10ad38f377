# What receive_…() and send_…() return: objects that `await`, create_task() and gather() accept, and
# that cost neither an allocation nor an exception where nothing has to be waited for.

cimport cython
from cpython.object cimport PyObject


cdef class Awaitable:
    # One step, as _await.h says: 1 done, 0 a future to yield, -1 an exception; result is owned.
    cdef int step(self, PyObject **result) except -1
    # Called once when the awaitable is thrown into or closed while it waits.
    cdef int abandon(self) except -1


@cython.final
cdef class Ready(Awaitable):
    pass


@cython.final
cdef class Waiting(Awaitable):
    cdef object future  # yielded until it is done; its result is the awaitable's


cdef Ready READY  # stands for "done already"; stateless, so that one serves all


cdef int install(object cls) except -1
cdef int yield_future(object future, PyObject **result) except -1
cdef int give(object value, PyObject **result) except -1
cdef Waiting wait_for(object future)
cdef int wake_all(list group) except -1
