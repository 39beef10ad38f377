"""How a connection stands: whether it may be used, how it has ended, and who has been told."""

import os
from contextvars import ContextVar

from fastws._protocol cimport CLOSING, CONNECTED, CONNECTING, DISCONNECTED

from fastws.codes import WebSocketState
from fastws.exceptions import WebSocketClosed, WebSocketDisconnect

cdef enum:
    ABNORMAL = 1006

cdef double QUIET = 5.0  # seconds that a dead peer's own handler has to find out
cdef tuple STATES = tuple(WebSocketState)
cdef unsigned long long _serial = 0

current_connection = ContextVar("fastws.connection")


cdef class Standing(ReceiveQueue):
    def __cinit__(self):
        global _serial
        _serial += 1
        self.serial = _serial
        self.thread = fastws_thread()

    @property
    def loop(self):
        return self.timers.loop

    @property
    def id(self):
        return f"{os.getpid():x}-{self.serial:x}"

    @property
    def close_code(self):
        # Input may wait behind a full queue, and a CLOSE in it, when TCP is lost.
        return self.end_code or (ABNORMAL if self.state == DISCONNECTED else None)

    @property
    def close_reason(self):
        return self.end_reason if self.end_code else "" if self.state == DISCONNECTED else None

    @property
    def client_state(self):
        if self.state == CONNECTING:
            return STATES[CONNECTING]
        if self.closed_here:
            return STATES[DISCONNECTED if self.end_code or self.leaving else CLOSING]
        # Messages that wait are still to be received, though the peer may be gone.
        if self.told or (self.count == 0 and self.is_over()):
            return STATES[DISCONNECTED]
        return STATES[CONNECTED]

    @property
    def application_state(self):
        if self.state == CLOSING and (self.end_code or self.leaving):
            return STATES[DISCONNECTED]
        return STATES[self.state]

    cdef int refuse_thread(self) except -1:
        raise RuntimeError(
            "a WebSocket belongs to the thread of its event loop: from another thread call "
            "loop.call_soon_threadsafe(ws.send_text, data), or await what it returns in an "
            "async function of your own, given to asyncio.run_coroutine_threadsafe()"
        )

    cdef int check_accepted(self) except -1:
        if self.state == CONNECTING:
            raise RuntimeError('the WebSocket is not accepted yet: "await ws.accept()" first')
        return 0

    # -- the end -----------------------------------------------------------------------------

    cdef bint is_over(self) noexcept:
        """Whether no message will come beyond those that wait."""
        return self.end_code != 0 or self.away_code != 0 or self.closed_here

    cdef int note_end(self) except -1:
        """The peer is gone, or about to be."""
        if self.ended_at == 0:
            self.ended_at = self.timers.loop.time()
        return 0

    cdef object end(self):
        """The exception that says how the connection ended."""
        if self.closed_here:
            return WebSocketClosed(self.sent_code or ABNORMAL, self.sent_reason)
        if self.end_code == 0 and self.away_code != 0:
            return WebSocketDisconnect(self.away_code, self.away_reason)
        if self.end_code == 0 and self.sent_code != 0:
            # The handler is done, and its CLOSE not answered yet.
            return WebSocketDisconnect(self.sent_code, self.sent_reason)
        return WebSocketDisconnect(self.end_code or ABNORMAL, self.end_reason)

    cdef object tell(self):
        """The same, to be raised: who gets it knows now."""
        # What another handler's broadcast runs into tells this connection's own nothing.
        if current_connection.get(None) is self:
            self.told = True
        return self.end()

    cdef bint is_quiet(self) except -1:
        """Whether a send to this dead peer comes from elsewhere and too early to raise there.

        A broadcast from another connection's handler would end that handler, the wrong one, as
        long as this connection's own has not been told. It has a while to find out.
        """
        return (
            not self.told
            and self.is_foreign()
            and self.timers.loop.time() - self.ended_at < QUIET
        )

    cdef bint is_foreign(self) except -1:
        """Whether who sends is neither this connection's own handler nor to be told at any rate."""
        return (
            not self.closed_here
            and not self.strict_send
            and current_connection.get(None) is not self
        )
