# The rules of a WebSocket connection after its opening handshake, without sockets or a clock.
#
# Session is the one implementation of those rules. It writes through emit(), which a subclass may
# override: Protocol (below) keeps frames in a list; the asyncio connection hands them to a transport.

cimport cython
from libc.stdint cimport uint8_t, uint32_t

from fastws._codec cimport FrameParser, fastws_utf8, flag

# codes.WebSocketState as C integers.
cdef enum:
    CONNECTING = 0
    CONNECTED = 1
    CLOSING = 2
    DISCONNECTED = 3


cdef class Session:
    # Small fields stand together, here and below: a hole behind each took 32 bytes a connection.
    cdef FrameParser parser  # None until open()
    cdef flag is_client
    cdef flag close_received  # end_code is from the peer's CLOSE
    cdef flag owes_close  # conclude() will send the CLOSE that answers the peer
    cdef flag compressing  # a message is being compressed, or is, and is not written yet
    cdef int state
    cdef object deflater  # deflate.Deflater if the handshake negotiated it, else None
    cdef Py_ssize_t threshold  # bytes from which a message is compressed
    cdef int sent_code  # of our CLOSE; 1005 if it had none, 0 before it is sent
    # Why no message will follow: the code of the peer's CLOSE, of the violation, or 1006;
    # 0 as long as messages may come.
    cdef int end_code
    cdef readonly str sent_reason
    cdef str end_reason
    # Whole messages, and bytes of their payloads as the application sees them (text as UTF-8).
    cdef readonly unsigned long long messages_received
    cdef readonly unsigned long long bytes_received
    cdef readonly unsigned long long messages_sent
    cdef readonly unsigned long long bytes_sent

    cdef int open(self, object limits, object inflater, object deflater, Py_ssize_t threshold) except -1
    cdef int pull(self) except -3
    cdef int conclude(self) except -1
    cdef int send_close(self, int code, str reason) except -1
    cdef int fail_with(self, int code, str reason) except -1
    cdef int end_of_input(self) except -1
    # Send a whole message; the caller keeps `p` alive and has checked the state. `payload` is the
    # object that `p` points into, or None.
    @cython.final
    cdef inline int send_message(
        self, int opcode, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        self.messages_sent += 1
        self.bytes_sent += n
        if self.deflater is None or n < self.threshold:
            return self.emit(opcode, True, False, p, n, payload)
        return self.send_compressed(opcode, p, n, payload)

    cdef int send_compressed(
        self, int opcode, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1
    cdef int send_text_data(self, object data) except -1
    cdef int send_binary_data(self, object data) except -1
    cdef int send_control(self, int opcode, bytes payload) except -1
    # Overridable.
    # `payload` is the object that `p` points into, or None.
    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1
    cdef int answer_ping(self, bytes payload) except -1


cdef uint32_t new_masking_key() except? 0


cdef class Protocol(Session):
    cdef object limits  # limits.Limits, for open()
    cdef list outgoing  # bytes; b"" stands for the end of our side of TCP
    cdef list incoming  # events
    cdef flag eof_sent
    cdef flag eof_received
    cdef int sending  # OP_TEXT or OP_BINARY while a message is sent in fragments, else 0
    cdef fastws_utf8 sent_utf8  # of the text message sent in fragments

    cdef int _read(self) except -1
    cdef int _send_fragment(self, int kind, int opcode, object data, bint fin) except -1
    cdef int _send_eof(self) except -1
