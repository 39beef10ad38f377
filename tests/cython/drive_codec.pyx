# cython: language_level=3
"""Another project's Cython code on fastws._codec: events without a list, frames into a buffer."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
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
    PreparedMessage,
    frame,
    header_size,
    write_header,
)


def read(pieces, limits):
    """What FrameParser.feed() tells, as tuples of an opcode and what goes with it."""
    cdef FrameParser parser = FrameParser(limits=limits)
    cdef int event
    found = []
    for piece in pieces:
        parser.receive(piece)
        while True:
            event = parser.next_event()
            if event == NEED_DATA:
                break
            if event == FAILED:
                found.append((event, parser.error.name))
                break
            if event == OP_CLOSE:
                found.append((event, parser.close_code, parser.close_reason))
            elif event in (OP_TEXT, OP_BINARY, OP_PING, OP_PONG):
                found.append((event, parser.pop_payload()))
        if parser.finished:
            break
    return found


def read_late(pieces):
    """The texts in ``pieces`` where all of them are received before the next event is asked for."""
    cdef FrameParser parser = FrameParser()
    cdef list found = []
    cdef int event
    for piece in pieces:
        for _ in range(2):
            parser.receive(piece)
        event = parser.next_event()
        assert event == OP_TEXT
        found.append(parser.pop_payload())
    while parser.next_event() == OP_TEXT:
        found.append(parser.pop_payload())
    return found


def rests(piece):
    """Whether a parser is between frames and messages after ``piece``, and has read all of it."""
    cdef FrameParser parser = FrameParser()
    parser.receive(piece)
    unread = parser.has_input()
    while parser.next_event() not in (NEED_DATA, FAILED):
        pass
    return unread, parser.has_input(), parser.at_boundary()


def build(bytes payload):
    """The same frame by each of the ways to build one."""
    cdef Py_ssize_t size = header_size(len(payload), False)
    cdef bytes out = PyBytes_FromStringAndSize(NULL, size + len(payload))
    cdef uint8_t *target = <uint8_t *>PyBytes_AS_STRING(out)
    cdef PreparedMessage prepared = PreparedMessage(payload)
    assert write_header(target, OP_BINARY, True, False, len(payload), False, 0) == size
    for i in range(len(payload)):
        target[size + i] = payload[i]
    p = <const uint8_t *>PyBytes_AS_STRING(payload)
    return out, frame(OP_BINARY, True, False, p, len(payload), False, 0), prepared.plain_frame()
