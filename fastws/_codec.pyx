"""The framing of RFC 6455 for both roles: bytes in, events out; messages in, bytes out."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.object cimport PyObject
from cpython.ref cimport Py_CLEAR, Py_DECREF, Py_XDECREF
from libc.stdint cimport uint8_t, uint16_t, uint32_t, uint64_t
from libc.string cimport memcpy

from fastws.codes import MAX_CONTROL_PAYLOAD, VIOLATIONS, is_valid_close_code
from fastws.events import Close, Ping, Pong
from fastws.limits import DEFAULT_LIMITS

__all__ = ["FrameParser", "PreparedMessage", "build_frame"]

cdef extern from "Python.h":
    object PyUnicode_New(Py_ssize_t size, Py_UCS4 maxchar)
    void *PyUnicode_DATA(object text)
    object PyUnicode_DecodeUTF8(const char *p, Py_ssize_t size, const char *errors)
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    PyObject *PyBytes_New "PyBytes_FromStringAndSize"(const char *p, Py_ssize_t size) except NULL
    int _PyBytes_Resize(PyObject **bytes, Py_ssize_t size) except -1

cdef enum:
    RSV = 0x70
    OPCODE = 0x0F
    CONTROL = 0x08
    LENGTH = 0x7F
    CONTROL_MAX = 125
    NO_STATUS = 1005
    INFLATED_AT_ONCE = 16384  # compressed bytes, which are copied to be unmasked
    SMALLEST_BODY = 256  # bytes reserved at least for a message that comes in pieces
    READ_AT_ONCE = 65536  # bytes for which space() has room at least

cdef uint64_t NO_LIMIT = (<uint64_t>1 << 63) - 1


cdef uint64_t _limit(object value) except? 0:
    """A limit as the parser keeps it: ``None`` is the largest length the protocol can announce."""
    return NO_LIMIT if value is None else min(<object>NO_LIMIT, value)


cdef class FrameParser:
    def __init__(self, *, client=False, limits=DEFAULT_LIMITS, inflater=None):
        self.expect_masked = not client
        self.max_size = _limit(limits.max_size)
        self.max_fragments = _limit(limits.max_fragments)
        # Deflate may lengthen what it cannot compress, and a peer may flush often; but a message
        # that takes twice its largest inflated size is an attempt to burn time (C4).
        self.max_wire_size = (
            NO_LIMIT if self.max_size > NO_LIMIT // 4 else 2 * self.max_size + 65536
        )
        self.budget = NO_LIMIT
        self.inflater = inflater

    def __dealloc__(self):
        Py_XDECREF(self.control)
        Py_XDECREF(self.body)

    def feed(self, data):
        cdef int event
        cdef list events = []
        self.receive(data)
        while True:
            event = self.next_event()
            if event == NEED_DATA or event == FAILED:
                return events
            if event == OP_CLOSE:
                events.append(Close(self.close_code, self.close_reason))
            elif event == OP_PING:
                events.append(Ping(self.pop_payload()))
            elif event == OP_PONG:
                events.append(Pong(self.pop_payload()))
            else:
                events.append(self.pop_payload())

    @property
    def is_finished(self):
        return bool(self.finished)

    # -- for other Cython modules ------------------------------------------------------------

    cdef int receive(self, object data) except -1:
        """Take ``data``; next_event() reads it. Anything but bytes is copied."""
        if self.finished:
            return 0
        cdef bytes chunk = data if type(data) is bytes else bytes(memoryview(data))
        if PyBytes_GET_SIZE(chunk) == 0:
            return 0
        if self.chunk is None:
            self.chunk = chunk
        else:
            self.chunk = self.chunk[self.position :] + chunk
        self.position = 0
        return 0

    cdef int next_event(self) except -3:
        """The next event in wire order: an opcode, NEED_DATA or FAILED.

        For a message, PING or PONG the caller takes pop_payload(), for CLOSE close_code and
        close_reason, before it calls again. After an exception (there is no memory for a message,
        or a fault of the inflater) the parser is finished: it has lost its place.
        """
        cdef int event = FAILED
        cdef bint sound = False
        # Not `except`, which would save the exception that is being handled, every time.
        try:
            event = self._next_event()
            sound = True
        finally:
            if not sound:
                self._finish()
        return event

    cdef int _next_event(self) except -3:
        cdef bytes chunk
        cdef const uint8_t *p
        cdef Py_ssize_t have
        cdef int outcome
        while self.chunk is not None:
            # A strong reference for this round; the pointer is taken anew after each call into
            # Python, which may have replaced the chunk.
            chunk = self.chunk
            p = <const uint8_t *>PyBytes_AS_STRING(chunk) + self.position
            have = PyBytes_GET_SIZE(chunk) - self.position
            if self.in_payload:
                # An empty payload is complete without any byte.
                if have == 0 and self.remaining != 0:
                    self.chunk = None
                    break
                outcome = self._control(p, have) if self.opcode & CONTROL else self._data(p, have)
            elif have == 0:
                self.chunk = None
                break
            else:
                outcome = self._short_message(p, have)
                if outcome == 0:
                    outcome = self._header(p, have)
            if outcome != 0:
                if self.chunk is chunk and self.position == PyBytes_GET_SIZE(chunk):
                    self.chunk = None
                return outcome
        if self.is_filled():
            self.in_payload = False
            if self.fin:
                return self._finish_message()
        return NEED_DATA if self.error is None else FAILED

    cdef bint has_input(self) noexcept:
        """Whether bytes were received that next_event() has not read yet."""
        return self.chunk is not None or self.is_filled()

    # -- reading in place --------------------------------------------------------------------

    cdef uint64_t lacks(self) noexcept:
        """Payload bytes that the frame under way still lacks, and that can be read to where they
        belong: not those of control frames, nor compressed ones."""
        if not self.in_payload or self.opcode & CONTROL or self.compressed:
            return 0
        return self.remaining if self.chunk is None else 0

    cdef bint is_filled(self) noexcept:
        """Whether filled() has completed a frame. Without it next_event() leaves no payload that
        lacks nothing."""
        return self.in_payload and self.remaining == 0

    cdef uint8_t *space(self, Py_ssize_t *size) except NULL:
        """Where some of lacks() bytes go, and how many; until any other call of the parser."""
        if self.body == NULL or self.body_have == PyBytes_GET_SIZE(<object>self.body):
            self._reserve(
                self.body_have + <Py_ssize_t>min(<uint64_t>READ_AT_ONCE, self.remaining)
            )
        size[0] = min(
            <uint64_t>(PyBytes_GET_SIZE(<object>self.body) - self.body_have), self.remaining
        )
        return <uint8_t *>PyBytes_AS_STRING(<object>self.body) + self.body_have

    cdef int filled(self, size_t n) except -1:
        """``n`` bytes were put into space(). What comes of them next_event() tells."""
        cdef const uint8_t *p
        p = <const uint8_t *>PyBytes_AS_STRING(<object>self.body) + self.body_have
        if self._take_in(p, n, self.expect_masked) != FAILED:
            self._consumed(n)
        return 0

    cdef bint at_boundary(self) noexcept:
        """Whether nothing is under way: no message, no frame, no part of a header."""
        return not self.in_payload and self.head_have == 0 and self.message == 0

    cdef int _short_message(self, const uint8_t *p, Py_ssize_t have) except -3:
        """What most frames are: a whole message of at most 125 bytes, all of it here. 0: this is
        none, or there is something to say about it; nothing was read."""
        cdef int header = 6 if self.expect_masked else 2
        cdef uint8_t size
        if have < header or self.head_have != 0 or self.message != 0 or self.budget == 0:
            return 0
        size = p[1] ^ (<uint8_t>MASK if self.expect_masked else 0)
        if (p[0] != FIN | OP_TEXT and p[0] != FIN | OP_BINARY) or size > CONTROL_MAX:
            return 0
        if have < header + size or size > self.max_size:
            return 0
        self.budget -= 1
        self.opcode = p[0] & OPCODE
        if self.expect_masked:
            memcpy(&self.key, p + 2, 4)
        self.position += header
        return self._whole_message(p + header, size)

    # -- the frame header (RFC 6455 section 5.2) ---------------------------------------------

    cdef int _header(self, const uint8_t *p, Py_ssize_t have) except -3:
        cdef Py_ssize_t used = 0
        cdef int need
        if self.head_have == 0 and have >= 2:
            need = _header_length(p[1])
            if have >= need:
                if self._check_start(p[0], p[1]) == FAILED:
                    return FAILED
                self.position += need
                return self._open_frame(p)
        while used < have:
            self.head[self.head_have] = p[used]
            self.head_have += 1
            used += 1
            if self.head_have < 2:
                continue
            # Two bytes tell a wrong frame; its length may never come.
            if self.head_have == 2 and self._check_start(self.head[0], self.head[1]) == FAILED:
                return FAILED
            if self.head_have == _header_length(self.head[1]):
                self.head_have = 0
                self.position += used
                return self._open_frame(self.head)
        self.position += used
        return 0

    cdef int _check_start(self, uint8_t first, uint8_t second) except -3:
        """Everything the first two bytes can do wrong."""
        cdef uint8_t opcode = first & OPCODE
        if first & RSV:
            # Section 5.2; RFC 7692 section 6: RSV1 on the first frame of a message only.
            if first & RSV != RSV1 or self.inflater is None:
                return self._fail("RESERVED_BITS")
            if opcode != OP_TEXT and opcode != OP_BINARY:
                return self._fail("RESERVED_BITS")
        if opcode > OP_BINARY and (opcode < OP_CLOSE or opcode > OP_PONG):
            return self._fail("RESERVED_OPCODE")
        if opcode & CONTROL:  # section 5.5
            if not first & FIN:
                return self._fail("FRAGMENTED_CONTROL")
            if second & LENGTH > CONTROL_MAX:
                return self._fail("CONTROL_TOO_LONG")
        elif opcode == OP_CONTINUATION:  # section 5.4
            if self.message == 0:
                return self._fail("UNEXPECTED_CONTINUATION")
        elif self.message != 0:
            return self._fail("EXPECTED_CONTINUATION")
        if ((second & MASK) != 0) != self.expect_masked:  # section 5.1
            return self._fail("UNMASKED_FRAME" if self.expect_masked else "MASKED_FRAME")
        return 0

    cdef int _open_frame(self, const uint8_t *p) except -3:
        """Read lengths and key of a complete header and check the limits it announces."""
        cdef uint64_t length = p[1] & LENGTH
        cdef int after = 2
        cdef int i
        if length == LENGTH_16:
            length = (<uint64_t>p[2] << 8) | p[3]
            after = 4
            if length < LENGTH_16:
                return self._fail("LENGTH_NOT_MINIMAL")
        elif length == LENGTH_64:
            # Before any arithmetic: section 5.2 forbids the top bit.
            if p[2] & 0x80:
                return self._fail("LENGTH_TOP_BIT")
            length = 0
            for i in range(2, 10):
                length = (length << 8) | p[i]
            after = 10
            if length <= 0xFFFF:
                return self._fail("LENGTH_NOT_MINIMAL")
        if self.expect_masked:
            memcpy(&self.key, p + after, 4)
        self.fin = (p[0] & FIN) != 0
        self.opcode = p[0] & OPCODE
        self.remaining = length
        if not self.opcode & CONTROL:
            if self.opcode != OP_CONTINUATION:
                if self.budget == 0:
                    return self._fail("TOO_MANY_MESSAGES")
                self.budget -= 1
                self.message = self.opcode
                self.compressed = (p[0] & RSV1) != 0
                self.size = self.wire_size = self.fragments = 0
                self.high = 0
                fastws_utf8_reset(&self.utf8)
            self.fragments += 1
            if self.fragments > self.max_fragments:
                return self._fail("TOO_MANY_FRAGMENTS")
            if self.compressed:
                if length > self.max_wire_size - self.wire_size:
                    return self._fail("MESSAGE_TOO_BIG")
                self.wire_size += length
            elif length > self.max_size - self.size:
                return self._fail("MESSAGE_TOO_BIG")
        self.in_payload = True
        return 0

    # -- payloads ----------------------------------------------------------------------------

    cdef int _data(self, const uint8_t *p, Py_ssize_t have) except -3:
        cdef size_t n
        cdef bytes compressed
        cdef int outcome
        if self.fin and self.fragments == 1 and not self.compressed and self.body_have == 0:
            if <uint64_t>have >= self.remaining:
                return self._whole_message(p, <size_t>self.remaining)
        n = <size_t>have if <uint64_t>have < self.remaining else <size_t>self.remaining
        if self.compressed:
            n = min(n, <size_t>INFLATED_AT_ONCE)
        self.position += n
        if self.compressed:
            compressed = PyBytes_FromStringAndSize(NULL, n)
            _unmask(<uint8_t *>PyBytes_AS_STRING(compressed), p, n, self.key, self.expect_masked)
            self._consumed(n)
            outcome = self._inflate(compressed)
        else:
            # Before remaining is lowered: it tells how much to reserve.
            outcome = self._append(p, n, self.expect_masked)
            self._consumed(n)
        if outcome == FAILED or self.remaining != 0:
            return outcome
        self.in_payload = False
        return self._finish_message() if self.fin else 0

    cdef int _whole_message(self, const uint8_t *p, size_t n) except -3:
        """A message that is here in one piece goes straight into the object handed out."""
        cdef uint8_t *target
        cdef unsigned high
        self.position += n
        self.size = n
        self.in_payload = False
        self.message = 0
        if self.opcode == OP_BINARY:
            self.payload = PyBytes_FromStringAndSize(NULL, n)
            target = <uint8_t *>PyBytes_AS_STRING(self.payload)
            _unmask(target, p, n, self.key, self.expect_masked)
            return OP_BINARY
        # Unmasked as if it were ASCII; no high bit means that it was, and the str is finished.
        text = PyUnicode_New(n, 0x7F)
        target = <uint8_t *>PyUnicode_DATA(text)
        if self.expect_masked:
            high = fastws_mask_or(target, p, n, self.key, 0)
        else:
            high = fastws_copy_or(target, p, n)
        if high:
            # CPython's strict decoder accepts exactly RFC 3629.
            try:
                text = PyUnicode_DecodeUTF8(<const char *>target, n, NULL)
            except UnicodeDecodeError:
                return self._fail("INVALID_UTF8")
        self.payload = text
        return OP_TEXT

    cdef void _consumed(self, size_t n) noexcept:
        self.key = fastws_mask_rotate(self.key, n & 3)
        self.remaining -= n

    cdef int _inflate(self, bytes compressed) except -3:
        """Inflate what has arrived of a message; ``None`` in its place ends the message."""
        cdef bytes plain
        cdef int outcome = 0
        room = -1 if self.max_size == NO_LIMIT else self.max_size - self.size
        try:
            if compressed is None:
                self.inflater.finish(room)
                return 0
            for plain in self.inflater.pieces(compressed, room):
                outcome = self._append(
                    <const uint8_t *>PyBytes_AS_STRING(plain), PyBytes_GET_SIZE(plain), False
                )
                if outcome == FAILED:
                    break
                # Let go of before the next one is made: a bomb has the message's room, no more.
                plain = None
        except ValueError as error:
            return self._fail(error.violation)
        return outcome

    cdef int _append(self, const uint8_t *p, size_t n, bint masked) except -3:
        """Add payload to the message under way."""
        if n == 0:
            return 0
        self._reserve(self.body_have + <Py_ssize_t>n)
        return self._take_in(p, n, masked)

    cdef int _take_in(self, const uint8_t *p, size_t n, bint masked) except -3:
        """The same where there is room; ``p`` may be in its place already. Text is validated as it
        arrives (section 8.1)."""
        cdef uint8_t *target
        cdef unsigned high
        target = <uint8_t *>PyBytes_AS_STRING(<object>self.body) + self.body_have
        self.body_have += n
        self.size += n
        if self.message == OP_BINARY:
            _unmask(target, p, n, self.key, masked)
            return 0
        high = (
            fastws_mask_or(target, p, n, self.key, 0) if masked else fastws_copy_or(target, p, n)
        )
        if high:
            self.high = True
        if high or not fastws_utf8_complete(&self.utf8):
            if fastws_utf8_feed(&self.utf8, target, n) < 0:
                return self._fail("INVALID_UTF8")
        return 0

    cdef int _reserve(self, Py_ssize_t needed) except -1:
        """Room for ``needed`` bytes in all, at most twice what has arrived and what the message
        may become: a header reserves nothing, however long the payload it announces."""
        cdef Py_ssize_t size
        cdef uint64_t whole = self.max_size
        if self.body == NULL:
            size = SMALLEST_BODY if needed < SMALLEST_BODY else needed
        elif needed <= PyBytes_GET_SIZE(<object>self.body):
            return 0
        else:
            size = max(needed, 2 * PyBytes_GET_SIZE(<object>self.body))
        if self.fin and not self.compressed:
            whole = <uint64_t>self.body_have + self.remaining
        if <uint64_t>size > whole:
            size = <Py_ssize_t>whole
        if self.body == NULL:
            self.body = PyBytes_New(NULL, size)
        else:
            _PyBytes_Resize(&self.body, size)
        return 0

    cdef int _finish_message(self) except -3:
        cdef int kind = self.message
        cdef uint8_t *target
        if self.compressed and self._inflate(None) == FAILED:
            return FAILED
        if kind == OP_TEXT:
            if not fastws_utf8_complete(&self.utf8):
                return self._fail("INVALID_UTF8")
            if self.high:
                self.payload = PyUnicode_DecodeUTF8(
                    PyBytes_AS_STRING(<object>self.body), self.body_have, NULL
                )
            else:
                self.payload = PyUnicode_New(self.body_have, 0x7F)
                if self.body_have:
                    target = <uint8_t *>PyUnicode_DATA(self.payload)
                    memcpy(target, PyBytes_AS_STRING(<object>self.body), self.body_have)
        elif self.body == NULL:
            self.payload = b""
        else:
            _PyBytes_Resize(&self.body, self.body_have)
            self.payload = <object>self.body
        self._drop_message()
        return kind

    cdef int _control(self, const uint8_t *p, Py_ssize_t have) except -3:
        cdef size_t n
        cdef bytes payload
        if self.control == NULL:
            self.control = PyBytes_New(NULL, <Py_ssize_t>self.remaining)
            self.control_have = 0
        n = <size_t>have if <uint64_t>have < self.remaining else <size_t>self.remaining
        _unmask(
            <uint8_t *>PyBytes_AS_STRING(<object>self.control) + self.control_have,
            p,
            n,
            self.key,
            self.expect_masked,
        )
        self.position += n
        self.control_have += n
        self._consumed(n)
        if self.remaining != 0:
            return 0
        payload = <bytes>self.control
        Py_CLEAR(self.control)
        self.in_payload = False
        if self.opcode == OP_CLOSE:
            return self._close_frame(payload)
        self.payload = payload
        return self.opcode

    cdef int _close_frame(self, bytes payload) except -3:
        """Section 5.5.1; section 7.4 for the codes. Nothing that follows is read."""
        cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(payload)
        if PyBytes_GET_SIZE(payload) == 1:
            return self._fail("CLOSE_PAYLOAD_OF_ONE_BYTE")
        self.close_code = NO_STATUS
        self.close_reason = ""
        if PyBytes_GET_SIZE(payload) >= 2:
            self.close_code = (p[0] << 8) | p[1]
            if not is_valid_close_code(self.close_code):
                return self._fail("INVALID_CLOSE_CODE")
            try:
                self.close_reason = payload[2:].decode("utf-8")
            except UnicodeDecodeError:
                return self._fail("INVALID_CLOSE_REASON")
        self._finish()
        return OP_CLOSE

    # -- ends --------------------------------------------------------------------------------

    cdef int _fail(self, str name) except -3:
        self.error = VIOLATIONS[name]
        self._finish()
        return FAILED

    cdef void _finish(self) noexcept:
        """The one way to stop: let go of everything, read nothing more."""
        self.finished = True
        self.chunk = None
        self.in_payload = False
        self.head_have = 0
        Py_CLEAR(self.control)
        self._drop_message()

    cdef void _drop_message(self) noexcept:
        self.message = 0
        self.body_have = 0
        Py_CLEAR(self.body)


cdef inline int _header_length(uint8_t second) noexcept nogil:
    """Bytes of a header whose second byte this is."""
    cdef int length = second & LENGTH
    return (
        2
        + (8 if length == LENGTH_64 else 2 if length == LENGTH_16 else 0)
        + (4 if second & MASK else 0)
    )


# -- building frames -----------------------------------------------------------------------------


cdef bytes frame(
    int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bint masked, uint32_t key
):
    """The same as an object of its own. The caller keeps ``p`` alive."""
    cdef bytes out = PyBytes_FromStringAndSize(NULL, header_size(n, masked) + n)
    write_frame(<uint8_t *>PyBytes_AS_STRING(out), opcode, fin, rsv1, p, n, masked, key)
    return out


def build_frame(int opcode, data=b"", *, bint fin=True, bint rsv1=False, mask=None):
    cdef uint32_t key = 0
    cdef bytes payload = _payload(data)
    if not (OP_CONTINUATION <= opcode <= OP_BINARY or OP_CLOSE <= opcode <= OP_PONG):
        raise ValueError(f"opcode {opcode} is reserved: expected 0-2 or 8-10")
    if opcode & CONTROL:
        if not fin:
            raise ValueError("a control frame must not be fragmented: pass fin=True")
        if len(payload) > CONTROL_MAX:
            raise ValueError(
                f"a control frame carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}"
            )
    if mask is not None:
        if len(mask) != 4:
            raise ValueError(f"a masking key has 4 bytes, not {len(mask)}")
        memcpy(&key, PyBytes_AS_STRING(bytes(mask)), 4)
    return frame(
        opcode,
        fin,
        rsv1,
        <const uint8_t *>PyBytes_AS_STRING(payload),
        PyBytes_GET_SIZE(payload),
        mask is not None,
        key,
    )


cdef bytes _payload(object data):
    """``data`` as the bytes of a payload: text as UTF-8."""
    if isinstance(data, str):
        return data.encode("utf-8")
    return data if type(data) is bytes else bytes(memoryview(data))


cdef class PreparedMessage:
    def __init__(self, data):
        self.opcode = OP_TEXT if isinstance(data, str) else OP_BINARY
        self.payload = _payload(data)
        self.data = data if isinstance(data, str) else self.payload

    cdef bytes plain_frame(self):
        if self.plain is None:
            self.plain = build_frame(self.opcode, self.payload)
        return self.plain

    cdef bytes compressed_frame(self, object deflater):
        """For receivers whose compression keeps no context: the frame fits all that share the
        parameters. The caller checks deflater.context_takeover."""
        if self.compressed is None:
            self.compressed = {}
        cached = self.compressed.get(deflater.key)
        if cached is None:
            cached = build_frame(self.opcode, deflater.compress(self.payload), rsv1=True)
            self.compressed[deflater.key] = cached
        return cached

    def frame(self, deflater=None):
        if deflater is None or deflater.context_takeover:
            return self.plain_frame()
        return self.compressed_frame(deflater)
