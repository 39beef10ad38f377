"""The rules of a connection after its opening handshake (RFC 6455 sections 5 to 7)."""

import os

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.unicode cimport PyUnicode_Check
from libc.stdint cimport uint8_t, uint32_t
from libc.string cimport memcpy

from fastws._codec cimport (
    FAILED,
    NEED_DATA,
    OP_BINARY,
    OP_CLOSE,
    OP_CONTINUATION,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    FrameParser,
    fastws_utf8,
    fastws_utf8_complete,
    fastws_utf8_feed,
    fastws_utf8_reset,
    frame,
)

from fastws.codes import MAX_CONTROL_PAYLOAD, WebSocketState, encode_close
from fastws.events import Close, Ping, Pong
from fastws.limits import DEFAULT_LIMITS

__all__ = ["Protocol", "Session"]

cdef extern from "Python.h":
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL
    bint PyUnicode_IS_COMPACT_ASCII(object text)
    void *PyUnicode_DATA(object text)
    Py_ssize_t PyUnicode_GET_LENGTH(object text)

cdef enum:
    NO_STATUS = 1005
    ABNORMAL = 1006

cdef tuple STATES = tuple(WebSocketState)


cdef class Session:
    @property
    def close_code(self):
        return self.end_code or None

    @property
    def close_reason(self):
        return self.end_reason if self.end_code else None

    cdef int open(
        self, object limits, object inflater, object deflater, Py_ssize_t threshold
    ) except -1:
        """The opening handshake is done; ``inflater`` and ``deflater`` are what it negotiated."""
        self.parser = FrameParser(client=self.is_client, limits=limits, inflater=inflater)
        self.deflater = deflater
        self.threshold = threshold
        self.state = CONNECTED
        return 0

    # -- receiving ---------------------------------------------------------------------------

    cdef int pull(self) except -3:
        """The next event of what the parser was given, after this side's duties to it.

        The result is FrameParser.next_event()'s; a message that comes after our own CLOSE is
        dropped. After CLOSE and FAILED the caller calls conclude() once the messages before them
        have had their answers.
        """
        cdef int event
        while self.end_code == 0:
            event = self.parser.next_event()
            if event == OP_TEXT or event == OP_BINARY:
                if self.sent_code == 0:
                    self.messages_received += 1
                    self.bytes_received += self.parser.size
                    return event
                self.parser.pop_payload()  # section 1.4: discarded after a CLOSE of ours
            elif event == OP_PING:
                self.answer_ping(self.parser.payload)
                return event
            elif event == OP_CLOSE:
                self.end_code = self.parser.close_code
                self.end_reason = self.parser.close_reason
                self.close_received = True
                self.owes_close = self.sent_code == 0
                return event
            elif event == FAILED:
                self.end_code = self.parser.error.code
                self.end_reason = self.parser.error.reason
                self.owes_close = self.sent_code == 0
                return event
            else:
                return event
        return NEED_DATA

    cdef int conclude(self) except -1:
        """Send the CLOSE that answers the peer's, or its violation (section 7.1.7)."""
        if self.owes_close:
            # The peer's code is echoed (section 5.5.1), its reason is not.
            self.send_close(self.end_code, "" if self.close_received else self.end_reason)
        return 0

    cdef int end_of_input(self) except -1:
        """TCP has ended: without a CLOSE or a violation before it, that is 1006 (7.1.5)."""
        if self.end_code == 0:
            self.end_code = ABNORMAL
            self.end_reason = ""
        return 0

    # -- sending -----------------------------------------------------------------------------

    cdef int send_close(self, int code, str reason) except -1:
        """Send CLOSE, unless one was sent. ValueError for a code or reason that must not be."""
        cdef bytes payload = encode_close(None if code == NO_STATUS else code, reason)
        if self.state != CONNECTED:
            return 0
        self.owes_close = False
        self.sent_code = code
        self.sent_reason = reason
        self.emit(
            OP_CLOSE,
            True,
            False,
            <const uint8_t *>PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
            payload,
        )
        self.state = CLOSING
        return 0

    cdef int fail_with(self, int code, str reason) except -1:
        """Fail the connection from this side: CLOSE goes out, nothing more is read (7.1.7)."""
        if self.end_code == 0:
            self.end_code = code
            self.end_reason = reason
        return self.send_close(code, reason)

    cdef int send_compressed(
        self, int opcode, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        if self.compressing:
            # A finalizer sends in the middle of another send, and overtakes it: only a message that
            # is not compressed leaves the window as the one behind it expects it.
            return self.emit(opcode, True, False, p, n, payload)
        if payload is None:
            payload = PyBytes_FromStringAndSize(<const char *>p, n)
        self.compressing = True
        try:
            payload = self.deflater.compress(payload)
            return self.emit(
                opcode,
                True,
                True,
                <const uint8_t *>PyBytes_AS_STRING(payload),
                PyBytes_GET_SIZE(payload),
                payload,
            )
        finally:
            self.compressing = False

    cdef int send_text_data(self, object data) except -1:
        cdef Py_ssize_t n = 0
        cdef const char *p
        if PyUnicode_Check(data):
            if PyUnicode_IS_COMPACT_ASCII(data):
                p = <const char *>PyUnicode_DATA(data)
                n = PyUnicode_GET_LENGTH(data)
            else:
                p = PyUnicode_AsUTF8AndSize(data, &n)
            return self.send_message(OP_TEXT, <const uint8_t *>p, n, None)
        payload = _utf8_bytes(data)
        return self.send_message(
            OP_TEXT, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload), payload
        )

    cdef int send_binary_data(self, object data) except -1:
        payload = _binary(data)
        return self.send_message(
            OP_BINARY,
            <const uint8_t *>PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
            payload,
        )

    cdef int send_control(self, int opcode, bytes payload) except -1:
        if PyBytes_GET_SIZE(payload) > MAX_CONTROL_PAYLOAD:
            raise ValueError(
                f"a ping or pong carries at most {MAX_CONTROL_PAYLOAD} bytes, not {len(payload)}"
            )
        return self.emit(
            opcode,
            True,
            False,
            <const uint8_t *>PyBytes_AS_STRING(payload),
            PyBytes_GET_SIZE(payload),
            payload,
        )

    cdef int answer_ping(self, bytes payload) except -1:
        """Section 5.5.2; also after our own CLOSE, until the peer's (section 5.5.1 forbids data
        frames there, not control frames)."""
        return self.send_control(OP_PONG, payload)

    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        raise NotImplementedError("emit() is overridden")


cdef bytes _binary(object data):
    """``data`` as bytes; anything with a buffer will do."""
    if type(data) is bytes:
        return data
    if isinstance(data, str):
        raise TypeError("a binary message is bytes, not str: use send_text() for text")
    try:
        return bytes(memoryview(data))
    except TypeError:
        raise TypeError(
            f"a binary message is bytes or another buffer, not {type(data).__name__}"
        ) from None


cdef bytes _utf8_bytes(object data):
    """Text that is UTF-8 already: checked, not encoded again."""
    cdef fastws_utf8 state
    cdef bytes payload
    try:
        payload = bytes(memoryview(data))
    except TypeError:
        raise TypeError(
            f"a text message is str or UTF-8 bytes, not {type(data).__name__}; "
            "use send_json() for other objects"
        ) from None
    fastws_utf8_reset(&state)
    if (
        fastws_utf8_feed(
            &state, <const uint8_t *>PyBytes_AS_STRING(payload), PyBytes_GET_SIZE(payload)
        )
        < 0
        or not fastws_utf8_complete(&state)
    ):
        raise ValueError("the bytes given as a text message are not valid UTF-8")
    return payload


cdef bytes _key_pool = b""
cdef Py_ssize_t _key_position = 0


cdef uint32_t new_masking_key() except? 0:
    """Four bytes nobody can predict (section 5.3), from the system's generator."""
    global _key_pool, _key_position
    cdef uint32_t key = 0
    if _key_position == PyBytes_GET_SIZE(_key_pool):
        _key_pool = os.urandom(4096)
        _key_position = 0
    memcpy(&key, PyBytes_AS_STRING(_key_pool) + _key_position, 4)
    _key_position += 4
    return key


def _forget_keys():
    """A forked process must not use the keys that its parent is going to use as well."""
    global _key_pool, _key_position
    _key_pool = b""
    _key_position = 0


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_keys)


cdef class Protocol(Session):
    def __cinit__(self):
        self.outgoing = []
        self.incoming = []

    def __init__(
        self,
        *,
        client=False,
        limits=DEFAULT_LIMITS,
        inflater=None,
        deflater=None,
        threshold=0,
        connecting=False,
    ):
        self.is_client = client
        self.limits = limits
        if not connecting:
            self.open(limits, inflater, deflater, threshold)

    @property
    def state(self):
        return STATES[self.state]

    @property
    def error(self):
        return None if self.parser is None else self.parser.error

    @property
    def close_expected(self):
        return self.state == DISCONNECTED or (
            self.sent_code != 0 and (self.end_code != 0 or self.eof_sent)
        )

    # -- bytes in, events out ----------------------------------------------------------------

    def receive_data(self, data):
        if self.eof_received:
            raise RuntimeError("receive_data() after receive_eof(): the peer's side has ended")
        if self.state == CONNECTING:
            data = data if type(data) is bytes else bytes(memoryview(data))
            if data:
                self._receive_handshake(data)
        elif self.parser is not None:  # after a failed handshake no byte means anything
            self.parser.receive(data)
            self._read()

    def receive_eof(self):
        if self.eof_received:
            return
        self.eof_received = True
        if self.state == CONNECTING:
            self._receive_handshake(b"")
        self.end_of_input()

    def events_received(self):
        events = self.incoming
        self.incoming = []
        return events

    cdef int _read(self) except -1:
        cdef int event
        while True:
            event = self.pull()
            if event == NEED_DATA or event == FAILED:
                return 0
            if event == OP_CLOSE:
                self.incoming.append(Close(self.end_code, self.end_reason))
            elif event == OP_PING:
                self.incoming.append(Ping(self.parser.pop_payload()))
            elif event == OP_PONG:
                self.incoming.append(Pong(self.parser.pop_payload()))
            else:
                self.incoming.append(self.parser.pop_payload())

    # -- messages in, bytes out --------------------------------------------------------------

    def data_to_send(self):
        # What answers a CLOSE or a violation goes behind the answers to the messages before it.
        if not self.incoming:
            self.conclude()
            # Section 7.1.1: the server ends TCP first; a client only after the server did, or
            # after it failed the connection.
            if self.eof_received or (
                self.sent_code != 0
                and self.end_code != 0
                and not (self.is_client and self.close_received)
            ):
                self._send_eof()
        outgoing = self.outgoing
        self.outgoing = []
        return outgoing

    def send_text(self, data, *, bint fin=True):
        self._check_no_message_open()
        if fin:
            self.send_text_data(data)
        else:
            fastws_utf8_reset(&self.sent_utf8)
            self._send_fragment(OP_TEXT, OP_TEXT, data, False)

    def send_bytes(self, data, *, bint fin=True):
        self._check_no_message_open()
        if fin:
            self.send_binary_data(data)
        else:
            self._send_fragment(OP_BINARY, OP_BINARY, data, False)

    def send_continuation(self, data, *, bint fin):
        self._check_sendable()
        if self.sending == 0:
            raise RuntimeError("there is no message to continue: begin one with fin=False")
        self._send_fragment(self.sending, OP_CONTINUATION, data, fin)

    def send_ping(self, data=b""):
        self._check_sendable()
        self.send_control(OP_PING, _binary(data))

    def send_pong(self, data=b""):
        self._check_sendable()
        self.send_control(OP_PONG, _binary(data))

    def close(self, code=1000, reason=""):
        encode_close(code, reason)
        if self.state == CONNECTING:
            raise RuntimeError(
                "the opening handshake is not done, so there is no CLOSE yet: a server calls "
                "reject(), a client fail()"
            )
        if self.owes_close:
            self.conclude()
        else:
            self.send_close(NO_STATUS if code is None else code, reason or "")

    def fail(self, code, reason=""):
        encode_close(code, reason)
        if self.state == CONNECTING:
            self._give_up()
        elif self.parser is not None:
            self.parser.finished = True
            self.fail_with(code, reason)

    def _check_sendable(self):
        if self.state != CONNECTED:
            raise RuntimeError(
                f"the connection is {STATES[self.state].name}: only a CONNECTED one can send"
            )

    def _check_no_message_open(self):
        self._check_sendable()
        if self.sending != 0:
            raise RuntimeError("a fragmented message is open: finish it with send_continuation()")

    cdef int _send_fragment(self, int kind, int opcode, object data, bint fin) except -1:
        """One frame of a message of ``kind``; fragments are not compressed."""
        cdef fastws_utf8 utf8 = self.sent_utf8
        cdef bytes payload
        cdef const uint8_t *p
        if kind == OP_TEXT and isinstance(data, str):
            payload = data.encode("utf-8")
        else:
            payload = _binary(data)
        p = <const uint8_t *>PyBytes_AS_STRING(payload)
        if kind == OP_TEXT:
            # A fragment may end inside a code point, a message may not (section 5.6).
            if fastws_utf8_feed(&utf8, p, PyBytes_GET_SIZE(payload)) < 0 or (
                fin and not fastws_utf8_complete(&utf8)
            ):
                raise ValueError("the fragments of the text message are not valid UTF-8")
            self.sent_utf8 = utf8
        self.sending = 0 if fin else kind
        self.messages_sent += fin
        self.bytes_sent += PyBytes_GET_SIZE(payload)
        return self.emit(opcode, fin, False, p, PyBytes_GET_SIZE(payload), payload)

    cdef int _send_eof(self) except -1:
        if not self.eof_sent:
            self.eof_sent = True
            self.outgoing.append(b"")
            self.state = DISCONNECTED
        return 0

    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        cdef uint32_t key = new_masking_key() if self.is_client else 0
        self.outgoing.append(frame(opcode, fin, rsv1, p, n, self.is_client, key))
        return 0

    # -- for the subclasses that do the opening handshake -------------------------------------

    def _receive_handshake(self, bytes data):
        raise NotImplementedError("a subclass that starts CONNECTING reads the handshake itself")

    def _report(self, event):
        self.incoming.append(event)

    def _queue(self, bytes data):
        self.outgoing.append(data)

    def _connect(self, inflater=None, deflater=None, threshold=0):
        self.open(self.limits, inflater, deflater, threshold)

    def _give_up(self):
        self.end_of_input()
        self._send_eof()
