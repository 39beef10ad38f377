# One timer wheel an event loop: thousands of deadlines, one handle in the loop.

cimport cython
from fastws._buffers cimport Buffers
from fastws._waking cimport LoopStep


@cython.final
cdef class Timer:
    cdef TimerWheel wheel
    cdef object owner  # its on_timer() is called; also what keeps it alive while scheduled
    cdef double due  # seconds on the loop's clock; 0 while not scheduled
    cdef int slot
    cdef Timer previous  # neighbours in the slot's list
    cdef Timer next

    cdef int start(self, double seconds) except -1
    cdef int stop(self) except -1


@cython.final
cdef class TimerWheel:
    cdef readonly object loop
    cdef readonly object alarms  # what has call_later() for the timeouts of receives: mostly the loop
    cdef LoopStep step
    cdef Buffers buffers  # for what the loop's connections send
    cdef readonly double now  # the loop's clock at the last tick or schedule, in seconds
    cdef readonly int scheduled  # timers waiting
    cdef list slots  # the first Timer of each, or None
    cdef long long position  # ticks since the clock's zero that are done
    cdef object handle  # the loop's handle for the next tick, None while nothing waits
    cdef dict timers  # owner -> Timer, for schedule() and cancel()

    cdef Timer timer(self, object owner)
    cdef int link(self, Timer timer) except -1
    cdef int unlink(self, Timer timer) except -1
