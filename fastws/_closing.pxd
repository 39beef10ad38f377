# How a connection ends: the closing handshake in both directions, and the end of TCP.

from fastws._codec cimport flag
from fastws._receiver cimport Receiver


cdef class Closing(Receiver):
    cdef readonly object task  # the handler's, None once it is done, and for a client
    cdef flag cancel_on_disconnect
    cdef object on_end  # called once when the handler or TCP has ended

    cdef object close_open(self, int code, str reason)
    cdef int close_with(self, int code, str reason) except -1
    cdef int leave(self) except -1
    cdef int abort_soon(self) except -1
    cdef int end_at_once(self) except -1
    cdef int end_tasks(self) except -1
    cdef int start_close_timer(self) except -1
    cdef int abort_unless_draining(self) except -1
