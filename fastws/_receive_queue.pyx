"""The messages received that no receive call has taken yet: a ring that grows to its limit."""

from cpython.mem cimport PyMem_Free, PyMem_Realloc
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR


cdef class ReceiveQueue(Session):
    def __dealloc__(self):
        self.drop_queue()
        PyMem_Free(self.ring)

    cdef bint is_low(self) noexcept:
        """Whether what waits is down to a quarter of what may."""
        return 4 * self.count <= self.max_queue and 4 * self.queued_bytes <= self.max_queue_bytes

    cdef int grow(self) except -1:
        cdef unsigned size = 2 * self.capacity if self.capacity else 4
        cdef unsigned i
        cdef PyObject **ring
        ring = <PyObject **>PyMem_Realloc(self.ring, size * sizeof(PyObject *))
        if ring == NULL:
            raise MemoryError()
        # The part that had wrapped around goes behind the rest.
        for i in range(self.first):
            ring[self.capacity + i] = ring[i]
        self.ring = ring
        self.capacity = size
        return 0

    cdef void drop_queue(self) noexcept:
        while self.count:
            self.count -= 1
            Py_CLEAR(self.ring[self.first])
            self.first = (self.first + 1) & (self.capacity - 1)
        self.queued_bytes = 0
