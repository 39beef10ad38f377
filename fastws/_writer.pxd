# From messages to frames, and sends that wait while a peer reads too slowly.

cimport cython
from cpython.object cimport PyObject

from fastws._codec cimport flag
from fastws._awaitables cimport Awaitable
from fastws._codec cimport PreparedMessage
from fastws._outlet cimport Outlet
from fastws._protocol cimport CONNECTED


cdef class Writer(Outlet):
    cdef object limits  # limits.Limits
    cdef double last_message  # the wheel's clock, of the last one received or sent
    cdef list drainers  # futures of sends that wait for the write buffer; None before the first
    cdef list closers  # futures of close() calls that wait for the closing handshake; likewise
    cdef bytes owed_pong  # the one to send when the writer has drained
    cdef unsigned loose  # sends above the write buffer's mark that no task waits for
    cdef flag streak  # sends since a message was taken or a send waited, as far as STREAK
    cdef flag stalled  # the queue is full: input waits undecoded, or in the kernel

    # Whether to send, or to drop without a word; raises what tells that it is too late.
    @cython.final
    cdef inline bint may_send(self) except -1:
        self.check_thread()
        return True if self.state == CONNECTED else self.may_send_late()

    cdef bint may_send_late(self) except -1
    cdef object send_text(self, object data)
    cdef object send_binary(self, object data)
    cdef object send_json_bytes(self, bytes data, bint binary)
    cdef int send_prepared(self, PreparedMessage message) except -1
    cdef object sent(self)
    cdef bint note_loose(self) except -1
    # Overridable.
    cdef int fail_and_abort(self, int code, str reason) except -1


# A send above the write buffer's mark, or a close() before the closing handshake is done.
@cython.final
cdef class Pause(Awaitable):
    cdef Writer connection
    cdef flag closing
    cdef flag awaited
    cdef object future  # in the connection's drainers or closers while it waits


cdef Pause pause(Writer connection, bint closing)


# A send that waits for one step of the loop.
@cython.final
cdef class Breath(Awaitable):
    cdef Writer connection
    cdef flag taken
