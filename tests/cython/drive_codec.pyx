# cython: language_level=3
"""Another project's Cython code on fastws._codec: events without a list, frames into a buffer."""

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize
from libc.stdint cimport uint8_t, uint64_t
from libc.string cimport memcpy

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


def read_in_place(pieces, limits, least=1, client=False):
    """The same as read(), where payload that can be is put into space(), as a transport does; and
    the most that was reserved beyond twice what had arrived of a message."""
    cdef FrameParser parser = FrameParser(limits=limits, client=client)
    cdef list found = []
    cdef Py_ssize_t excess = 0
    cdef Py_ssize_t in_place = 0
    for piece in pieces:
        piece = bytes(piece)
        while piece and not parser.finished:
            if parser.lacks() >= <uint64_t>least:
                n = _put(parser, piece, &excess)
                in_place += n
                piece = piece[n:]
            else:
                parser.receive(piece)
                piece = b""
            _tell(parser, found)
    return found, in_place, excess


cdef Py_ssize_t _put(FrameParser parser, bytes piece, Py_ssize_t *excess) except -1:
    cdef Py_ssize_t size = 0
    cdef Py_ssize_t n
    cdef Py_ssize_t lacking = <Py_ssize_t>parser.lacks()
    cdef uint8_t *space = parser.space(&size)
    assert 0 < size <= lacking
    excess[0] = max(excess[0], size + parser.body_have - 2 * parser.body_have)
    n = min(size, len(piece))
    memcpy(space, PyBytes_AS_STRING(piece), n)
    parser.filled(n)
    return n


cdef int _tell(FrameParser parser, list found) except -1:
    cdef int event
    while True:
        event = parser.next_event()
        if event == NEED_DATA:
            return 0
        if event == FAILED:
            found.append((event, parser.error.name))
            return 0
        if event == OP_CLOSE:
            found.append((event, parser.close_code, parser.close_reason))
        else:
            found.append((event, parser.pop_payload()))


def read_with_budget(pieces, limits, uint64_t budget, client=False):
    """What read() tells of a parser that may be given so many messages, and what is left of them."""
    cdef FrameParser parser = FrameParser(limits=limits, client=client)
    cdef list found = []
    parser.budget = budget
    for piece in pieces:
        parser.receive(piece)
        _tell(parser, found)
        if parser.finished:
            break
    return found, parser.budget
