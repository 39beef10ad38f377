"""What a connection does by the clock while it is open: keepalive, ping(), and its timeouts.

All of it shares the connection's one timer. A look finds out what is due, and when to look again;
nothing is kept up to date for it beyond the time of the last read and of the last message.
"""

import os
import random
from time import perf_counter

cimport cython
from cpython.object cimport PyObject

from fastws._awaitables cimport Awaitable, give, install, yield_future
from fastws._codec cimport OP_PING
from fastws._protocol cimport CONNECTED

from fastws.exceptions import WebSocketDisconnect

cdef extern from "_tcp.h":
    long long fastws_unacknowledged(int fd) noexcept
    long long fastws_acknowledged(int fd) noexcept

cdef enum:
    GOING_AWAY = 1001
    ABNORMAL = 1006
    INTERNAL_ERROR = 1011
    BEHIND = 65536  # bytes not acknowledged by the peer's TCP from which a link counts as slow
    AHEAD = 2  # times the ping's timeout that data in front of a PING may take

cdef double NEVER = 1e9  # seconds
cdef double TICK = 0.1  # seconds: what the wheel's clock may be behind


cdef class Queued:
    pass


cdef class Liveness(Writer):
    def __cinit__(self):
        self.last_round_trip = -1

    @property
    def round_trip(self):
        return None if self.last_round_trip < 0 else self.last_round_trip

    # -- deadlines ---------------------------------------------------------------------------

    cdef int start_looking(self) except -1:
        """The opening handshake is done: from here on look() is called by the timer."""
        cdef double wait = NEVER
        self.opened_at = self.timers.loop.time()
        self.last_heard = self.last_message = self.opened_at
        if self.limits.ping_interval is not None:
            # Up to 10 % early, so that connections that came together are not pinged together.
            wait = self.limits.ping_interval * (0.9 + 0.1 * random.random())
        for seconds in (
            self.limits.write_timeout, self.limits.idle_timeout, self.limits.max_lifetime
        ):
            if seconds is not None:
                wait = min(wait, <double>seconds)
        return self.timer.start(wait) if wait < NEVER else self.timer.stop()

    cdef int look(self) except -1:
        """Do what is due, and start the timer for the next look if the connection goes on."""
        cdef double now = self.timers.now
        cdef double wait = NEVER
        cdef double left
        left = self._lifetime_left(now)
        if left > 0:
            wait = left
            left = self._idle_left(now)
        if left > 0:
            wait = min(wait, left)
            left = self._write_left(now)
        if left > 0:
            wait = min(wait, left)
            left = self._keepalive_left(now)
        if left <= 0:
            return 0  # that ended it
        wait = min(wait, left)
        return self.timer.start(max(TICK, wait)) if wait < NEVER else 0

    # Each of these gives the seconds until it is to be asked again; 0 if it ended the connection.

    cdef double _lifetime_left(self, double now) except? -1:
        cdef double left
        if self.limits.max_lifetime is None:
            return NEVER
        left = self.opened_at + <double>self.limits.max_lifetime - now
        if left > 0:
            return left
        self.go_away(GOING_AWAY, "the connection is older than ws-max-lifetime allows")
        return 0

    cdef double _idle_left(self, double now) except? -1:
        cdef double left
        if self.limits.idle_timeout is None:
            return NEVER
        if self.count:
            # The handler has messages to answer: it is late, the connection is not idle.
            self.last_message = now
        left = self.last_message + <double>self.limits.idle_timeout + TICK - now
        if left > 0:
            return left
        self.go_away(GOING_AWAY, "no message within ws-idle-timeout")
        return 0

    cdef double _write_left(self, double now) except? -1:
        """Cut a peer that takes none of the bytes that wait for it."""
        cdef double patience
        cdef long long taken
        if self.limits.write_timeout is None:
            return NEVER
        patience = self.limits.write_timeout
        if self.outstanding() == 0:
            self.taken_at = 0
            return patience
        taken = self.progress()
        if self.taken_at == 0 or taken > self.taken:
            self.taken = taken
            self.taken_at = now
        elif now - self.taken_at >= patience:
            self.cut("the peer took no bytes within ws-write-timeout")
            return 0
        # Some looks each timeout, so that progress just after one does not double the time.
        return min(patience / 4, self.taken_at + patience - now + TICK)

    cdef int expect_progress(self) except -1:
        """The transport's buffer is above its mark."""
        cdef double patience
        if self.limits.write_timeout is None or self.state != CONNECTED or self.end_code != 0:
            return 0
        patience = self._write_left(self.timers.now)
        if patience > 0 and self.timer.due > self.timers.now + patience:
            return self.timer.start(patience)
        return 0

    # The transport alone does not know: the kernel takes megabytes that are still on their way, and
    # TLS has a transport below it.

    cdef int socket_number(self) except -2:
        """The socket's, -1 where there is none to ask."""
        link = self.transport.get_extra_info("socket")
        return -1 if link is None else <int>link.fileno()

    cdef long long outstanding(self) except -1:
        """Bytes that were written and that the peer's TCP does not have."""
        return fastws_unacknowledged(self.socket_number()) + <long long>self.in_transport()

    cdef long long progress(self) except -1:
        """A count that grows as the peer's TCP takes bytes."""
        cdef long long acknowledged = fastws_acknowledged(self.socket_number())
        if acknowledged >= 0:
            return acknowledged
        return max(<long long>0, self.written - self.outstanding())

    cdef bint is_behind(self) except -1:
        """Whether what is written now is behind much that a slow peer has yet to take."""
        return self.written > BEHIND and self.outstanding() > BEHIND

    cdef int go_away(self, int code, str reason) except -1:
        raise NotImplementedError("go_away() is overridden")

    cdef int cut(self, str reason) except -1:
        raise NotImplementedError("cut() is overridden")

    # -- keepalive ---------------------------------------------------------------------------

    cdef double _keepalive_left(self, double now) except? -1:
        """PING a silent peer; fail the connection if that brings no sign of life."""
        cdef double interval
        cdef double patience
        cdef long long taken
        if self.limits.ping_interval is None:
            return NEVER
        interval = self.limits.ping_interval
        if self.stalled:
            # Nothing can be heard while a full queue keeps us from reading, a PONG as little as the
            # end of TCP.
            self.ping_sent = 0
        elif self.ping_sent != 0:
            # The wheel's clock stands still between ticks: equal is after the PING.
            if self.last_heard >= self.ping_sent:
                self.ping_sent = 0
            else:
                patience = self.limits.ping_timeout
                if now - self.ping_sent >= patience and not self._ping_is_under_way(now):
                    self.fail_and_abort(
                        INTERNAL_ERROR, "no answer to a ping within ws-ping-timeout"
                    )
                    return 0
                return self.ping_sent + patience - now
        if now - self.last_heard < 0.9 * interval:
            return self.last_heard + interval - now
        self.ping_payload = os.urandom(4)
        self.send_control(OP_PING, self.ping_payload)
        # Not the loop's clock: uvloop's stands still within a step and counts milliseconds.
        self.ping_clock = perf_counter()
        if self.stalled or self.limits.ping_timeout is None:
            # No answer is waited for. But the peer's TCP answers, if it is there: that it is gone
            # shows in the PING, or in bytes that nobody takes within ws-write-timeout.
            self.last_heard = now
            return interval
        self.ping_sent = now
        self.queued_ping = None
        taken = self.progress()
        if self.is_behind():
            self.queued_ping = Queued.__new__(Queued)
            self.queued_ping.taken = taken
            # The transport below TLS holds bytes that nothing else tells of.
            self.queued_ping.ends_at = max(
                taken + self.outstanding(), <long long>self.written + self.overhead
            )
            self.queued_ping.share = (self.queued_ping.ends_at - taken) // AHEAD
        else:
            self.overhead = max(self.overhead, taken - <long long>self.written)
        return self.limits.ping_timeout

    cdef bint _ping_is_under_way(self, double now) except -1:
        """Whether the PING is behind data that a slow peer goes on taking: then its time to
        answer has not begun."""
        cdef Queued queued = self.queued_ping
        cdef long long taken
        if queued is None:
            return False
        taken = self.progress()
        if taken >= queued.ends_at:
            # It has arrived: what the peer takes from here on is no sign of life.
            self.queued_ping = None
        elif taken - queued.taken < queued.share:
            # Even where nobody reads, the kernel finds room for some bytes now and then.
            return False
        queued.taken = taken
        self.ping_sent = now
        return True

    cdef int pong(self, bytes payload) except -1:
        """Whether ``payload`` answers a PING of ours."""
        if self.ping_sent != 0 and payload == self.ping_payload:
            self.ping_sent = 0
            self.last_round_trip = perf_counter() - self.ping_clock
            return 1
        if not self.pings or payload not in self.pings:
            return 0
        now = perf_counter()
        # An answer to a later PING answers those before it too (section 5.5.3).
        for key in list(self.pings):
            future, sent = self.pings.pop(key)
            if not future.done():
                future.set_result(now - sent)
            if key == payload:
                self.last_round_trip = now - sent
                break
        return 1

    # -- ping() ------------------------------------------------------------------------------

    cdef object ping(self, object data):
        cdef RoundTrip waiting
        self.check_thread()
        if self.state != CONNECTED:
            self.check_accepted()
            raise self.tell()
        if self.end_code != 0:
            # Messages still wait, but no PONG will come.
            raise self.end()
        payload = bytes(memoryview(data)) or os.urandom(4)
        if self.pings is None:
            self.pings = {}
        if payload in self.pings:
            raise ValueError(f"a ping with the data {payload!r} is waiting for its pong")
        self.send_control(OP_PING, payload)
        waiting = RoundTrip.__new__(RoundTrip)
        waiting.connection = self
        waiting.payload = payload
        waiting.future = self.timers.loop.create_future()
        self.pings[payload] = (waiting.future, perf_counter())
        return waiting

    cdef int drop_pings(self) except -1:
        if not self.pings:
            return 0
        for future, _ in self.pings.values():
            if not future.done():
                future.set_exception(WebSocketDisconnect(self.end_code or ABNORMAL))
                future.exception()  # nobody may be waiting for it
        self.pings.clear()
        return 0


cdef class RoundTrip(Awaitable):
    # Python code could make one that has no connection: `type(ws.ping())()`.
    @cython.nonecheck(True)
    cdef int step(self, PyObject **result) except -1:
        if not self.future.done():
            return yield_future(self.future, result)
        give(self.future.result(), result)
        return 1

    cdef int abandon(self) except -1:
        # Timed out or cancelled: the same data may be sent again, and a late PONG is a stale one.
        if self.connection is None:
            return 0
        sent = self.connection.pings.get(self.payload)
        if sent is not None and sent[0] is self.future:
            self.future.cancel()
            del self.connection.pings[self.payload]
        return 0


install(RoundTrip)
