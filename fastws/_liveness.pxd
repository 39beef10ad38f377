# What a connection does by the clock while it is open: keepalive, ping(), and its timeouts.

cimport cython

from fastws._codec cimport flag
from fastws._awaitables cimport Awaitable
from fastws._timers cimport Timer
from fastws._writer cimport Writer


# A PING behind much data that a slow peer has yet to take.
@cython.final
cdef class Queued:
    cdef long long ends_at  # progress() with which the PING is through
    cdef long long taken  # progress() at the last look
    cdef long long share  # by which that has to grow in each ping's timeout until then


cdef class Liveness(Writer):
    # Times are the wheel's clock in seconds, which stands still between ticks, unless they say more.
    cdef Timer timer  # this connection's one deadline
    cdef readonly double opened_at  # 0 before the opening handshake is done
    cdef double last_heard
    cdef double ping_sent  # 0 while no keepalive PING is out
    cdef double ping_clock  # perf_counter() of the same moment, for its round trip
    cdef Queued queued_ping  # how the PING that is out fares behind data; None if it is not
    cdef long long overhead  # what progress() counts beyond the bytes written: the work of TLS
    cdef bytes ping_payload
    cdef dict pings  # payload -> (future, time) of ping() calls; None before the first
    cdef double last_round_trip  # seconds; negative before the first PONG
    cdef long long taken  # progress() at the last look while bytes are waited for, ...
    cdef double taken_at  # ... when that last changed; 0 while none was outstanding

    cdef int start_looking(self) except -1
    cdef int look(self) except -1
    cdef int expect_progress(self) except -1
    cdef int socket_number(self) except -2
    cdef long long outstanding(self) except -1
    cdef long long progress(self) except -1
    cdef bint is_behind(self) except -1
    cdef double _lifetime_left(self, double now) except? -1
    cdef double _idle_left(self, double now) except? -1
    cdef double _write_left(self, double now) except? -1
    cdef double _keepalive_left(self, double now) except? -1
    cdef bint _ping_is_under_way(self, double now) except -1
    cdef int pong(self, bytes payload) except -1
    cdef object ping(self, object data)
    cdef int drop_pings(self) except -1
    # Overridable.
    cdef int go_away(self, int code, str reason) except -1
    cdef int cut(self, str reason) except -1


# What ping() returns.
@cython.final
cdef class RoundTrip(Awaitable):
    cdef Liveness connection
    cdef bytes payload
    cdef object future  # its result is the round trip in seconds
