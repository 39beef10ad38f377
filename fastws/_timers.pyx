"""One timer wheel an event loop: thousands of deadlines, one handle in the loop."""

from fastws._buffers cimport Buffers
from fastws._waking cimport LoopStep

cdef enum:
    SLOTS = 512

# Ticks a second: a deadline is met at most one late. With 10 the time of a tick, divided and
# multiplied back, is that very tick in floating point, so that a handle is never a tick early.
cdef double TICKS = 10.0
cdef double FOREVER = 1e9  # seconds: for a longer wait, up to infinity, this will do


cdef class Timer:
    """One deadline of one owner. Only the wheel makes them."""

    cdef int start(self, double seconds) except -1:
        """Call the owner's on_timer() in ``seconds``, instead of at an earlier agreed time."""
        if self.due:
            self.wheel.unlink(self)
        self.wheel.now = self.wheel.loop.time()
        self.due = self.wheel.now + max(0.0, min(seconds, FOREVER))
        self.wheel.link(self)
        return 0

    cdef int stop(self) except -1:
        if self.due:
            self.wheel.unlink(self)
            self.due = 0
        return 0


cdef class TimerWheel:
    def __init__(self, loop, alarms=None):
        self.loop = loop
        self.alarms = loop if alarms is None else alarms
        self.now = loop.time()
        self.slots = [None] * SLOTS
        self.step = LoopStep(loop)
        self.buffers = Buffers()
        self.timers = {}

    def schedule(self, owner, double seconds):
        timer = self.timers.get(owner)
        if timer is None:
            timer = self.timers[owner] = self.timer(owner)
        (<Timer>timer).start(seconds)

    def cancel(self, owner):
        timer = self.timers.pop(owner, None)
        if timer is not None:
            (<Timer>timer).stop()

    cdef Timer timer(self, object owner):
        cdef Timer timer = Timer.__new__(Timer)
        timer.wheel = self
        timer.owner = owner
        return timer

    cdef int link(self, Timer timer) except -1:
        cdef long long tick = <long long>(timer.due * TICKS) + 1
        cdef Timer first
        if self.handle is None:
            # Not while timers wait: this is then a callback of _tick(), and the clock may have
            # gone past slots that nobody has looked at.
            if self.scheduled == 0:
                self.position = <long long>(self.now * TICKS)
            self.handle = self.loop.call_at((self.position + 1) / TICKS, self._tick)
        # A deadline further away than one turn stays in its slot for another.
        timer.slot = tick % SLOTS
        first = self.slots[timer.slot]
        timer.next = first
        if first is not None:
            first.previous = timer
        self.slots[timer.slot] = timer
        self.scheduled += 1
        return 0

    cdef int unlink(self, Timer timer) except -1:
        if timer.previous is None:
            self.slots[timer.slot] = timer.next
        else:
            timer.previous.next = timer.next
        if timer.next is not None:
            timer.next.previous = timer.previous
        timer.previous = None
        timer.next = None
        self.scheduled -= 1
        return 0

    def _tick(self):
        cdef Timer timer
        cdef list due = []
        cdef long long target
        cdef long long before
        self.handle = None
        self.now = self.loop.time()
        target = <long long>(self.now * TICKS)
        # After a stall of the loop each slot is looked at once, however long it was.
        self.position = max(self.position, target - SLOTS)
        before = self.position
        while self.position < target:
            self.position += 1
            timer = self.slots[self.position % SLOTS]
            while timer is not None:
                if timer.due <= self.now:
                    due.append(timer)
                timer = timer.next
        try:
            for timer in due:
                # An owner's callback may have stopped or restarted another one's timer.
                if timer.due and timer.due <= self.now:
                    timer.stop()
                    self._call(timer)
        except BaseException:
            # SystemExit or KeyboardInterrupt: who had no turn yet gets it in the next tick.
            self.position = before
            raise
        finally:
            if self.scheduled and self.handle is None:
                self.handle = self.loop.call_at((self.position + 1) / TICKS, self._tick)

    def _call(self, Timer timer):
        owner = timer.owner
        if self.timers.get(owner) is timer:
            del self.timers[owner]
        try:
            owner.on_timer()
        except Exception as error:
            self._report(owner, error)

    def _report(self, owner, error):
        self.loop.call_exception_handler(
            {"message": f"unhandled exception in a timer of {owner!r}", "exception": error}
        )
