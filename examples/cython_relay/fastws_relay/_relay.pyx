"""What one client sends, as frames for the others."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_GET_SIZE
from libc.stdint cimport uint8_t

from fastws._codec cimport (
    FAILED,
    NEED_DATA,
    OP_BINARY,
    OP_CLOSE,
    OP_PING,
    OP_PONG,
    OP_TEXT,
    FrameParser,
    frame,
)

from fastws.codes import encode_close
from fastws.limits import DEFAULT_LIMITS

cdef extern from "Python.h":
    # UTF-8 that the str keeps: valid for as long as the str is.
    const char *PyUnicode_AsUTF8AndSize(object text, Py_ssize_t *size) except NULL


cdef class Relay:
    cdef FrameParser parser
    cdef readonly unsigned long long messages
    cdef readonly unsigned long long payload_bytes
    cdef readonly bint is_finished

    def __init__(self, limits=DEFAULT_LIMITS):
        self.parser = FrameParser(limits=limits)

    def feed(self, data):
        cdef list others = []
        cdef list sender = []
        cdef int event
        self.parser.receive(data)
        while not self.is_finished:
            event = self.parser.next_event()
            if event == NEED_DATA:
                break
            elif event == OP_TEXT or event == OP_BINARY:
                others.append(self.message(event))
            elif event == OP_PING:
                sender.append(control(OP_PONG, self.parser.pop_payload()))
            elif event == OP_PONG:
                self.parser.pop_payload()
            elif event == OP_CLOSE:
                self.finish(sender, self.parser.close_code)
            elif event == FAILED:
                self.finish(sender, self.parser.error.code)
        return b"".join(others), b"".join(sender)

    cdef bytes message(self, int event):
        """The frame for a message: servers do not mask."""
        cdef object payload = self.parser.pop_payload()
        cdef const char *p
        cdef Py_ssize_t n = 0
        if event == OP_TEXT:
            p = PyUnicode_AsUTF8AndSize(payload, &n)
        else:
            p = PyBytes_AS_STRING(payload)
            n = PyBytes_GET_SIZE(payload)
        self.messages += 1
        self.payload_bytes += n
        return frame(event, True, False, <const uint8_t *>p, n, False, 0)

    cdef int finish(self, list sender, int code) except -1:
        """Answer with a CLOSE; one without a code is answered likewise (RFC 6455 section 7.4.1)."""
        sender.append(control(OP_CLOSE, encode_close(None if code == 1005 else code)))
        self.is_finished = True
        return 0


cdef bytes control(int opcode, bytes payload):
    cdef const uint8_t *p = <const uint8_t *>PyBytes_AS_STRING(payload)
    return frame(opcode, True, False, p, PyBytes_GET_SIZE(payload), False, 0)
