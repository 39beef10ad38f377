# The messages received that no receive call has taken yet.

cimport cython
from cpython.bytes cimport PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_INCREF

from fastws._protocol cimport Session

cdef extern from "Python.h":
    Py_ssize_t PyUnicode_GET_LENGTH(object text)
    int PyUnicode_KIND(object text)


cdef inline Py_ssize_t size_of(object item) noexcept:
    if type(item) is bytes:
        return PyBytes_GET_SIZE(item)
    return PyUnicode_GET_LENGTH(item) * PyUnicode_KIND(item)


cdef class ReceiveQueue(Session):
    cdef PyObject **ring  # owned str and bytes
    cdef unsigned capacity  # a power of two, 0 before the first message
    cdef unsigned first
    cdef unsigned count
    cdef unsigned max_queue
    cdef readonly Py_ssize_t queued_bytes  # of memory, those that wait
    cdef Py_ssize_t max_queue_bytes

    cdef bint is_low(self) noexcept
    cdef int grow(self) except -1
    cdef void drop_queue(self) noexcept

    # Inline, since every message goes through them.

    @cython.final
    cdef inline bint is_full(self) noexcept:
        return self.count >= self.max_queue or self.queued_bytes >= self.max_queue_bytes

    @cython.final
    cdef inline int push(self, object item) except -1:
        if self.count == self.capacity:
            self.grow()
        Py_INCREF(item)
        self.ring[(self.first + self.count) & (self.capacity - 1)] = <PyObject *>item
        self.count += 1
        self.queued_bytes += size_of(item)
        return 0

    @cython.final
    cdef inline PyObject *take(self) noexcept:
        """The oldest message, with its reference; there is one."""
        cdef PyObject *owned = self.ring[self.first]
        self.first = (self.first + 1) & (self.capacity - 1)
        self.count -= 1
        self.queued_bytes -= size_of(<object>owned)
        return owned
