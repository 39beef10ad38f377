# One WebSocket on an asyncio (uvloop) transport, from its opening handshake to the end of TCP.
#
# Each base has a room of its own: the rules (Session), the messages that wait (ReceiveQueue), who
# may use it and how it has ended (Standing), sending (Writer), keepalive (Liveness), receiving
# (Receiver), the ends (Closing).
#
# A connection belongs to the thread of its loop. It is the transport's protocol from start() on.
# References in a circle (transport, task, timer) are cut in connection_lost().

cimport cython

from fastws._closing cimport Closing


@cython.final
cdef class Connection(Closing):
    cdef object deflate_options  # limits.DeflateOptions, None for no compression
    cdef object upgrade  # handshake.Upgrade until it is answered, then None
    cdef readonly bytes head
    cdef object known_client  # None where it is the transport's peer, or a client's end
    cdef readonly object server
    cdef readonly bint secure
    cdef readonly str root_path
    cdef readonly object lifespan_state
    cdef object extra_headers  # for the response, None once it is sent
    cdef object on_answered  # None once it is called
    cdef object on_lost
    cdef readonly str subprotocol
    cdef bytes early  # bytes received before the opening handshake was answered

    cdef object accept(self, object subprotocol, object headers)
    cdef object deny(self, int status, object headers, object body)
    cdef object close(self, object code, object reason)
    cdef int _take_transport(self) except -1
    cdef int _open_with(self, object inflater, object deflater, Py_ssize_t threshold) except -1
    cdef int _read_early(self, bytes early) except -1
    cdef int _check_not_lost(self) except -1
    cdef int _refuse(self, bytes response) except -1
    cdef int _answered(self, bytes response) except -1
    cdef int _refuse_with_text(self, int status, str text) except -1
    cdef int _refuse_with_exception(self, object error) except -1
    cdef int _finish_handler(self, object error, bint cancelled) except -1
    cdef int _crash(self, object error) except -1
