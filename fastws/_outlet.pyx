"""From frames to the kernel: gathered, and past a transport that holds nothing back.

A transport's write() costs a call into Python and an object for the bytes, and in the end it calls
send(2) on a non-blocking socket. On a plain socket whose transport has nothing left to write, the
same call is made here. What the kernel does not take goes to the transport, which waits for it to
have room again; until it has, everything goes to the transport, so that the order holds.

The descriptor is the transport's. It is used only while the transport is alive: it closes its socket
after connection_lost(), or when its loop is closed.

Whatever runs Python, every question to the transport among it, may also run a finalizer, and that
may send on this very connection. So what is gathered is looked at only behind such a call, is taken
out of its place before the next one, and a frame of which a part is written goes on before any other.
"""

import sys

from cpython.bytes cimport PyBytes_AS_STRING, PyBytes_FromStringAndSize, PyBytes_GET_SIZE
from cpython.mem cimport PyMem_Free
from libc.stdint cimport uint8_t
from libc.string cimport memcpy

from fastws._buffers cimport BUFFER
from fastws._codec cimport MAX_HEADER, frame, write_frame, write_header
from fastws._protocol cimport new_masking_key

cdef extern from "_tcp.h":
    Py_ssize_t fastws_send(
        int fd, const void *head, size_t head_size, const void *body, size_t body_size
    ) noexcept
    bint fastws_end_output(int fd) noexcept

cdef enum:
    CHECK = 65536  # bytes
    MANY = 8  # frames in answer to one message
    SMALL = 4096  # bytes

# The transports that write to their socket what they are given and nothing else.
cdef frozenset PLAIN = frozenset(
    {
        ("uvloop.loop", "TCPTransport"),
        ("uvloop.loop", "UnixTransport"),
        ("asyncio.selector_events", "_SelectorSocketTransport"),
    }
)


cdef int descriptor_of(object transport) except -2:
    """That of a plain socket's transport, which may be written to directly; else NONE_TO_USE."""
    kind = type(transport)
    if sys.platform == "win32" or (kind.__module__, kind.__qualname__) not in PLAIN:
        return NONE_TO_USE
    return transport.get_extra_info("socket").fileno()


cdef int end_of_step(object outlet) except -1:
    (<Outlet>outlet).flush_due = False
    (<Outlet>outlet).answers = 0
    return (<Outlet>outlet).flush()


cdef class Outlet(Standing):
    def __cinit__(self):
        self.descriptor = NOT_ASKED
        # Whatever did the opening handshake wrote to the transport.
        self.held_back = True

    def __dealloc__(self):
        PyMem_Free(self.gathered)

    @property
    def unsent_bytes(self):
        if self.transport is None:
            return 0
        return self.in_transport() + self.gathered_size

    cdef int emit(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        """Write a frame: at once, or together with others while more messages wait to be
        answered in this step, by this connection's handler or by others, and while what was
        written before is still to go out."""
        cdef Py_ssize_t size = MAX_HEADER + n
        if self.transport is None or self.leaving:
            return 0
        if self.gathered_size + size > BUFFER:
            self.flush()
            if self.gathered_size + size > BUFFER:
                return self._emit_large(opcode, fin, rsv1, p, n, payload)
        if self.gathered == NULL:
            self.gathered = self.timers.buffers.take()
        self.gathered_size += write_frame(
            self.gathered + self.gathered_size,
            opcode,
            fin,
            rsv1,
            p,
            n,
            self.is_client,
            new_masking_key() if self.is_client else 0,
        )
        return self._settle()

    cdef int emit_frame(self, bytes ready) except -1:
        """Write a frame that is made, and that others may be sent too."""
        cdef Py_ssize_t size = PyBytes_GET_SIZE(ready)
        cdef Py_ssize_t sent
        if self.transport is None or self.leaving:
            return 0
        if self._sends_at_once():
            # What a broadcast does over and over.
            self.written += size
            sent = fastws_send(self.descriptor, PyBytes_AS_STRING(ready), size, NULL, 0)
            if sent == size and self.written < self.check_at:
                return 0
            return self._hand_over_rest(
                <const uint8_t *>PyBytes_AS_STRING(ready), size, sent, ready
            )
        if not (self.gathered_size or self._gathers()) or self.gathered_size + size > BUFFER:
            self.flush()
            return self._write_piece(<const uint8_t *>PyBytes_AS_STRING(ready), size, ready)
        if self.gathered == NULL:
            self.gathered = self.timers.buffers.take()
        memcpy(self.gathered + self.gathered_size, PyBytes_AS_STRING(ready), size)
        self.gathered_size += size
        return self._settle()

    cdef bint _gathers(self) except -1:
        """Whether what is written now had better wait for what follows in this step."""
        return (
            self.count
            or self.decoding
            or self.timers.step.crowded
            # Small ones: how much waits is to be known by the transport.
            or (self.gathered_size < SMALL and self._is_held_back())
        )

    cdef int _settle(self) except -1:
        """Something was gathered: flush it, now or at the end of the step."""
        self.answers += 1
        if not self._gathers():
            return self.flush()
        if not self.flush_due:
            self.timers.step.at_end(self, end_of_step)
            self.flush_due = True
        elif self.answers > MANY and self.timers.step.is_late():
            # Somebody keeps the loop from its work, and sends meanwhile: then every frame goes out
            # when it is made.
            return self.flush()
        return 0

    cdef int flush(self) except -1:
        """Write what is gathered."""
        cdef uint8_t *gathered
        cdef Py_ssize_t size
        cdef Py_ssize_t sent = 0
        cdef bytes rest = None
        cdef bint past
        if self.gathered == NULL:
            return 0
        past = self._goes_past_transport()
        gathered = self.gathered
        size = self.gathered_size
        self.gathered = NULL
        self.gathered_size = 0
        if gathered == NULL:
            return 0
        try:
            self.written += size
            if past:
                sent = fastws_send(self.descriptor, gathered, size, NULL, 0)
            if sent < size:
                rest = PyBytes_FromStringAndSize(<const char *>gathered + sent, size - sent)
        finally:
            self.timers.buffers.give_back(gathered)
        if rest is not None:
            self._hand_over(rest)
        return self._check()

    cdef void drop_gathered(self) noexcept:
        if self.gathered != NULL:
            self.timers.buffers.give_back(self.gathered)
            self.gathered = NULL
            self.gathered_size = 0

    cdef int write(self, bytes data) except -1:
        """Write bytes that are no frame, and behind which others come."""
        self.flush()
        self.written += PyBytes_GET_SIZE(data)
        self._hand_over(data)
        return self._check()

    cdef int _emit_large(
        self, int opcode, bint fin, bint rsv1, const uint8_t *p, Py_ssize_t n, bytes payload
    ) except -1:
        """A frame that is not copied behind its header. What of ``payload`` has to wait, waits as
        the object that it is."""
        cdef uint8_t head[MAX_HEADER]
        cdef Py_ssize_t size
        cdef Py_ssize_t sent
        if self.is_client:
            # Masking copies, and the header may as well go in front of the copy.
            payload = frame(opcode, fin, rsv1, p, n, True, new_masking_key())
            p = <const uint8_t *>PyBytes_AS_STRING(payload)
            return self._write_piece(p, PyBytes_GET_SIZE(payload), payload)
        size = write_header(head, opcode, fin, rsv1, n, False, 0)
        sent = self._send(head, size, p, n)
        if sent >= size:
            return self._hand_over_rest(p, n, sent - size, payload)
        if payload is None:
            payload = PyBytes_FromStringAndSize(<const char *>p, n)
        self._hand_over(
            PyBytes_FromStringAndSize(<const char *>head + sent, size - sent), 0, payload
        )
        return self._check()

    cdef int _write_piece(self, const uint8_t *p, Py_ssize_t n, bytes whole) except -1:
        return self._hand_over_rest(p, n, self._send(p, n, NULL, 0), whole)

    cdef int _hand_over_rest(
        self, const uint8_t *p, Py_ssize_t n, Py_ssize_t sent, bytes whole
    ) except -1:
        """Let the transport send what the kernel did not take of ``whole``; None is a copy of it."""
        if sent < n:
            if whole is None:
                self._hand_over(PyBytes_FromStringAndSize(<const char *>p + sent, n - sent))
            else:
                self._hand_over(whole, sent)
        return self._check()

    cdef Py_ssize_t _send(
        self, const uint8_t *head, Py_ssize_t head_size, const uint8_t *body, Py_ssize_t body_size
    ) except -1:
        """Give the kernel what it takes of two pieces; what is left is to be handed over."""
        cdef bint past = self._goes_past_transport()
        self.written += head_size + body_size
        return fastws_send(self.descriptor, head, head_size, body, body_size) if past else 0

    cdef bint end_output(self) except -1:
        """End our side of TCP behind what was written; False if there is no connection any more.

        A transport's write_eof() does the same, and took an eighth of the time of a connection that
        is opened and closed.
        """
        if self._goes_past_transport():
            return fastws_end_output(self.descriptor)
        try:
            self.transport.write_eof()
        except (OSError, RuntimeError):
            return False
        return True

    cdef bint _goes_past_transport(self) except -1:
        """Whether the kernel may be told what is next without the transport's help."""
        if not self.is_plain() or self._is_held_back():
            return False
        # A loop that was closed has closed the descriptor, which may be another connection's now.
        return (self.timers.step.running or self.timers.loop.is_running()) and not self.held_back

    cdef bint is_plain(self) except -1:
        """Whether the transport is that of a plain socket; it is asked once."""
        if self.descriptor == NOT_ASKED:
            self.descriptor = descriptor_of(self.transport)
        return self.descriptor >= 0

    cdef bint _is_held_back(self) except -1:
        """Whether the transport still has bytes to write."""
        cdef Py_ssize_t written = self.written
        if self.held_back and not self.handing_over:
            # One that was aborted has thrown away the rest of a frame: nothing may follow.
            if (
                self.in_transport() == 0
                and not self.transport.is_closing()
                and self.written == written
            ):
                self.held_back = False
        return self.held_back

    cdef int _hand_over(self, bytes data, Py_ssize_t start=0, bytes more=None) except -1:
        """Have the transport write ``data`` from ``start`` and ``more``, and then what was sent
        meanwhile."""
        self.held_back = True
        if self.handing_over:
            if self.late is None:
                self.late = []
            self.late.append(memoryview(data)[start:] if start else data)
            if more is not None:
                self.late.append(more)
            return 0
        self.handing_over = True
        try:
            self.transport.write(memoryview(data)[start:] if start else data)
            if more is not None:
                self.transport.write(more)
            self._write_late()
        except (OSError, RuntimeError):
            # uvloop refuses writes between a transport's failure and connection_lost().
            if not self.transport.is_closing():
                raise
        finally:
            self.handing_over = False
            self.late = None
        return 0

    cdef int _write_late(self) except -1:
        """Have the transport write what was sent while it was at work."""
        cdef list late
        while self.late is not None:
            late = self.late
            self.late = None
            for piece in late:
                if not self.transport.is_closing():
                    self.transport.write(piece)
        return 0

    cdef Py_ssize_t in_transport(self) except -1:
        """Bytes that the transport still has to write."""
        cdef Py_ssize_t size
        if self.handing_over:
            return self.transport.get_write_buffer_size()
        # asyncio's transports go over their pieces for it: nobody may add one meanwhile.
        self.handing_over = True
        try:
            size = self.transport.get_write_buffer_size()
            self._write_late()
        finally:
            self.handing_over = False
            self.late = None
        return size

    cdef int _check(self) except -1:
        if self.written >= self.check_at:
            self.check_at = self.written + CHECK
            if self.transport.is_closing():
                # It throws everything away, and so never fills up: a handler that only sends would
                # keep the loop from calling connection_lost().
                self.write_paused = True
        return 0
