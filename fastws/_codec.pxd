# The WebSocket framing of RFC 6455, without sockets and without a clock.
#
# FrameParser turns bytes into events; write_header() and build_frame() turn messages into bytes.
# Another Cython module reads events with receive() and next_event(); Python reads them with feed().
# It is compiled with this package's folder on the include path, for the two headers below.

cimport cython
from cpython.object cimport PyObject
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

cdef extern from "_mask.h" nogil:
    void fastws_mask(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase) noexcept
    unsigned fastws_mask_or(uint8_t *dst, const uint8_t *src, size_t n, uint32_t key, unsigned phase) noexcept
    unsigned fastws_copy_or(uint8_t *dst, const uint8_t *src, size_t n) noexcept
    uint32_t fastws_mask_rotate(uint32_t key, unsigned phase) noexcept

cdef extern from "_utf8.h" nogil:
    ctypedef struct fastws_utf8:
        uint8_t due
        uint8_t low
        uint8_t high
    void fastws_utf8_reset(fastws_utf8 *state) noexcept
    int fastws_utf8_feed(fastws_utf8 *state, const uint8_t *p, size_t n) noexcept
    int fastws_utf8_complete(const fastws_utf8 *state) noexcept

# A truth value of one byte: there are many of them in a connection.
ctypedef uint8_t flag

# Opcodes (RFC 6455 section 5.2). They are also the results of FrameParser.next_event().
cdef enum:
    OP_CONTINUATION = 0x0
    OP_TEXT = 0x1
    OP_BINARY = 0x2
    OP_CLOSE = 0x8
    OP_PING = 0x9
    OP_PONG = 0xA

# The other results of FrameParser.next_event().
cdef enum:
    NEED_DATA = -1  # all bytes given were used
    FAILED = -2  # the peer broke a rule: parser.error says which; nothing more will come

cdef enum:
    MAX_HEADER = 14  # bytes: 2, a 64-bit length, a masking key

# The bits of a header's first two bytes, and the lengths that stand for longer ones.
cdef enum:
    FIN = 0x80
    RSV1 = 0x40
    MASK = 0x80
    LENGTH_16 = 126
    LENGTH_64 = 127


@cython.final
cdef class FrameParser:
    # The methods that return int give an event (an opcode), FAILED, or 0 to go on.
    # -- set once -----------------------------------------------------------------------------
    # Thousands of these are idle at a time: small fields stand together, so that none is padded.
    cdef uint64_t max_size  # bytes of a message, inflated; 2^63 - 1 for no limit
    cdef uint64_t max_wire_size  # payload bytes of a compressed message
    cdef uint64_t max_fragments  # frames of a message
    cdef uint64_t budget  # messages that may still begin: whoever has a clock adds to it
    cdef object inflater  # deflate.Inflater if the handshake negotiated it, else None
    # -- input not used yet -------------------------------------------------------------------
    cdef bytes chunk  # None when used up, so that an idle connection holds no buffer
    cdef Py_ssize_t position  # in chunk
    # -- the frame being read -----------------------------------------------------------------
    cdef uint8_t head[MAX_HEADER]  # a header that arrived in pieces
    cdef uint8_t head_have  # bytes in head
    cdef uint8_t opcode
    cdef flag fin
    cdef flag in_payload  # the header is done
    cdef uint8_t control_have  # bytes in control
    cdef flag expect_masked  # server role: clients mask, and only they (section 5.1)
    cdef flag finished  # after CLOSE or an error: all further input is ignored
    # -- the message being put together, and small ones of the results ------------------------
    cdef uint8_t message  # OP_TEXT or OP_BINARY while one is open, else 0
    cdef flag compressed
    cdef flag high  # a byte above 0x7F was seen
    cdef fastws_utf8 utf8
    cdef uint16_t close_code  # after OP_CLOSE; 1005 if the frame had none
    cdef uint32_t fragments  # frames of the message so far
    cdef uint32_t key  # masking key, rotated so that it fits the next payload byte
    # -- the frame being read, again -----------------------------------------------------------
    cdef uint64_t remaining  # payload bytes still to come
    cdef PyObject *control  # owned bytes: a control frame's payload being filled, or NULL
    # -- the message being put together, again --------------------------------------------------
    cdef uint64_t size  # bytes of it so far, inflated; also when it is done
    cdef uint64_t wire_size  # bytes its frames announced so far, for compressed messages
    cdef PyObject *body  # owned bytes, bigger than what is filled; NULL when empty
    cdef Py_ssize_t body_have
    # -- results ------------------------------------------------------------------------------
    cdef object payload  # of the last event: str for OP_TEXT, bytes for the others but OP_CLOSE
    cdef str close_reason
    cdef readonly object error  # codes.Violation after FAILED, else None

    cdef int receive(self, object data) except -1
    cdef int next_event(self) except -3
    # For who reads a long payload into the memory of its message, not through receive().
    cdef uint64_t lacks(self) noexcept
    cdef bint is_filled(self) noexcept
    cdef uint8_t *space(self, Py_ssize_t *size) except NULL
    cdef int filled(self, size_t n) except -1
    cdef bint has_input(self) noexcept
    cdef bint at_boundary(self) noexcept
    # The last event's payload; the parser keeps no reference to it.
    cdef inline object pop_payload(self):
        payload = self.payload
        self.payload = None
        return payload

    cdef int _next_event(self) except -3
    cdef int _fail(self, str name) except -3
    cdef void _finish(self) noexcept
    cdef int _short_message(self, const uint8_t *p, Py_ssize_t have) except -3
    cdef int _header(self, const uint8_t *p, Py_ssize_t have) except -3
    cdef int _check_start(self, uint8_t first, uint8_t second) except -3
    cdef int _open_frame(self, const uint8_t *p) except -3
    cdef int _data(self, const uint8_t *p, Py_ssize_t have) except -3
    cdef int _whole_message(self, const uint8_t *p, size_t n) except -3
    cdef int _inflate(self, bytes compressed) except -3
    cdef int _append(self, const uint8_t *p, size_t n, bint masked) except -3
    cdef int _take_in(self, const uint8_t *p, size_t n, bint masked) except -3
    cdef int _finish_message(self) except -3
    cdef int _control(self, const uint8_t *p, Py_ssize_t have) except -3
    cdef int _close_frame(self, bytes payload) except -3
    cdef void _consumed(self, size_t n) noexcept
    cdef void _drop_message(self) noexcept
    cdef int _reserve(self, Py_ssize_t needed) except -1


# -- building frames: inline, since every message goes through them -----------------------------


cdef inline void _unmask(
    uint8_t *target, const uint8_t *p, size_t n, uint32_t key, bint masked
) noexcept nogil:
    if masked:
        fastws_mask(target, p, n, key, 0)
    else:
        memcpy(target, p, n)


cdef inline Py_ssize_t header_size(uint64_t n, bint masked) noexcept nogil:
    """Bytes of the header in front of a payload of ``n`` bytes."""
    return (2 if n < LENGTH_16 else 4 if n <= 0xFFFF else 10) + (4 if masked else 0)


cdef inline Py_ssize_t write_header(
    uint8_t *dst, int opcode, bint fin, bint rsv1, uint64_t n, bint masked, uint32_t key
) noexcept nogil:
    """Write a header to ``dst``, which has room for header_size() bytes; returns that size."""
    cdef Py_ssize_t size
    cdef int i
    cdef uint8_t mask_bit = MASK if masked else 0
    dst[0] = <uint8_t>((FIN if fin else 0) | (RSV1 if rsv1 else 0) | opcode)
    if n < LENGTH_16:
        dst[1] = mask_bit | <uint8_t>n
        size = 2
    elif n <= 0xFFFF:
        dst[1] = mask_bit | LENGTH_16
        dst[2] = <uint8_t>(n >> 8)
        dst[3] = <uint8_t>(n & 0xFF)
        size = 4
    else:
        dst[1] = mask_bit | LENGTH_64
        for i in range(8):
            dst[2 + i] = <uint8_t>((n >> (56 - 8 * i)) & 0xFF)
        size = 10
    if masked:
        memcpy(dst + size, &key, 4)
        size += 4
    return size


cdef inline Py_ssize_t write_frame(
    uint8_t *dst,
    int opcode,
    bint fin,
    bint rsv1,
    const uint8_t *p,
    Py_ssize_t n,
    bint masked,
    uint32_t key,
) noexcept nogil:
    """Write a frame to ``dst``, which has room for header_size() bytes and ``n``; returns its
    size. The caller checks the length of control frames."""
    cdef Py_ssize_t size = write_header(dst, opcode, fin, rsv1, n, masked, key)
    _unmask(dst + size, p, n, key, masked)
    return size + n


cdef bytes frame(int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bint masked, uint32_t key)


cdef class PreparedMessage:
    cdef readonly object data  # str or bytes
    cdef int opcode
    cdef bytes payload
    cdef bytes plain  # the frame, built on first use
    cdef dict compressed  # (window bits, level, memory level) -> frame

    cdef bytes plain_frame(self)
    cdef bytes compressed_frame(self, object deflater)
