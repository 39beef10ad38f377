"""How a connection ends: the closing handshake in both directions, and the end of TCP."""

from fastws._awaitables cimport READY, wake_all
from fastws._protocol cimport CLOSING, CONNECTED
from fastws._writer cimport pause

cdef enum:
    ABNORMAL = 1006

cdef long long NO_EXTENSION = (<long long>1 << 62)  # more than any progress()
cdef double ANSWER_TIME = 1.0  # seconds for answers to what came before the peer's CLOSE or fault


cdef class Closing(Receiver):
    # -- from this side ----------------------------------------------------------------------

    cdef object close_open(self, int code, str reason):
        """The application's close() after the opening handshake."""
        if self.state == CONNECTED:
            self.drop_queue()
            if self.end_code != 0:
                self.answer_end()
            else:
                self.closed_here = True
                self.close_with(code, reason)
        if self.transport is None or (self.leaving and not self.is_client):
            return READY
        return pause(self, True)

    cdef int close_with(self, int code, str reason) except -1:
        """Send CLOSE and give the peer its time to answer."""
        self.send_close(code, reason)
        self.flush()
        self.stalled = False
        self.start_close_timer()
        self.resume_reading()
        if self.parser.has_input() or self.peer_done:
            self.decode()
        return 0

    cdef int go_away(self, int code, str reason) except -1:
        """Close, and let the application see it as a disconnect."""
        if self.end_code != 0:
            return self.answer_end()
        self.away_code = code
        self.away_reason = reason
        self.note_end()
        self.close_with(code, reason)
        return self.wake()

    # -- from the peer's ---------------------------------------------------------------------

    cdef int input_ended(self) except -1:
        """The peer's CLOSE, its violation or its EOF has been read."""
        self.wake()
        self.end_at_once()
        self.drop_pings()
        if self.sent_code != 0:
            self.leave()
        elif (self.count == 0 and not self.refilling) and (
            # After a mere EOF the peer may still read an answer that the handler is working on.
            self.end_code != ABNORMAL or self.receiver is not None or self.task is None
        ):
            self.answer_end()
        elif self.transport is not None:
            # A peer that waits for our CLOSE waits while the handler answers, but not for long;
            # one that has half-closed reads on.
            patience = self.limits.close_timeout
            self.timer.start(
                patience if self.end_code == ABNORMAL else min(patience, ANSWER_TIME)
            )
        return 0

    cdef int answer_end(self) except -1:
        """The messages before the end have had their answers: now the CLOSE that ends it."""
        self.conclude()
        return self.leave()

    cdef int end_at_once(self) except -1:
        """The peer is gone: cancel a handler that asked for it, unless it is about to be told."""
        self.note_end()
        if self.cancel_on_disconnect and self.receiver is None and self.task is not None:
            self.cancel_on_disconnect = False
            self.task.cancel()
        return 0

    cdef int end_tasks(self) except -1:
        on_end = self.on_end
        self.on_end = None
        if on_end is not None:
            on_end()
        return 0

    def call_at_end(self, callback):
        self.on_end = callback
        if self.transport is None:
            self.end_tasks()

    # -- the end of TCP ----------------------------------------------------------------------

    def abort(self):
        if self.transport is not None:
            self.transport.abort()
        if self.task is not None:
            self.task.cancel()

    cdef int leave(self) except -1:
        """Our last byte is written: end our side, and read until the peer has ended its own.

        Closing with unread input would send a RST, which may destroy the CLOSE on its way. The
        server ends TCP first; a client only after it has failed the connection (section 7.1.1).
        """
        if self.leaving or self.transport is None:
            return 0
        self.flush()
        self.leaving = True
        if self.state == CONNECTED:
            self.state = CLOSING
        if self.closers:
            wake_all(self.closers)
        if self.drainers:
            wake_all(self.drainers)
        if self.is_client and self.close_received and not self.peer_done:
            self.resume_reading()
        elif self.peer_done or not self.transport.can_write_eof():
            self.transport.close()
        elif self.end_output():
            self.resume_reading()
        else:
            self.transport.abort()
            return 0
        return self.start_close_timer()

    cdef int fail_and_abort(self, int code, str reason) except -1:
        self.fail_with(code, reason)
        self.wake()
        return self.abort_soon()

    cdef int abort_soon(self) except -1:
        # The CLOSE must reach the wire first: uvloop writes when this step of the loop ends.
        self.note_end()
        if self.transport is not None:
            self.flush()
            self.timers.loop.call_soon(self.transport.abort)
        return 0

    cdef int cut(self, str reason) except -1:
        """End TCP without a CLOSE, which would not get through."""
        self.end_of_input()
        self.end_reason = reason
        self.end_at_once()
        self.wake()
        self.transport.abort()
        return 0

    cdef int start_close_timer(self) except -1:
        self.taken = self.progress() if self.is_behind() else NO_EXTENSION
        return self.timer.start(self.limits.close_timeout)

    cdef int abort_unless_draining(self) except -1:
        """The closing handshake's time is over, unless our CLOSE is still behind data that a slow
        peer goes on reading."""
        cdef long long taken = self.progress()
        if taken <= self.taken:
            self.transport.abort()
            return 0
        self.taken = taken
        return self.timer.start(self.limits.close_timeout)
