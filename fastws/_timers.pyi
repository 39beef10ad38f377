"""One timer wheel an event loop: thousands of deadlines, one handle in the loop."""

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from typing_extensions import final

class _Owner(Protocol):
    """Who wants to be called at a deadline. Found by hash and equality, as a key of a dict is."""

    def on_timer(self) -> object:
        """The deadline has passed.

        What it raises goes to the loop's exception handler, and touches no other owner.
        """

class _Alarms(Protocol):
    """What times receives."""

    @property
    def call_later(self) -> Callable[..., Any]:
        """As :meth:`asyncio.loop.call_later`."""

@final
class Timer:
    """One deadline of one owner, for other Cython modules: see ``_timers.pxd``."""

@final
class TimerWheel:
    """The deadlines of one event loop.

    A deadline is met at its time or up to a tick, 0.1 s, after it, and never before; a loop that
    stalls meets it when it runs again. The order of owners that are due in the same tick is not
    defined. While nothing is scheduled there is no handle in the loop, and the wheel holds no
    owner.

    Use it in the loop's thread only.

    Parameters:
        loop: whose clock and handles to use.
        alarms: whose ``call_later()`` times the receives of the loop's connections; ``None`` for
            the loop's.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop, alarms: _Alarms | None = None) -> None: ...
    @property
    def alarms(self) -> _Alarms:
        """What was given, or the loop."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop given."""

    @property
    def now(self) -> float:
        """The loop's clock in seconds, when the wheel last looked: in a tick, or to schedule.

        Up to a tick old while something is scheduled: good enough to tell how long a peer is
        silent, at no cost.
        """

    @property
    def scheduled(self) -> int:
        """How many deadlines are to come."""

    def schedule(self, owner: _Owner, seconds: float) -> None:
        """Call ``owner.on_timer()`` once; an owner has one deadline, which this replaces.

        The wheel keeps the owner alive until then.

        Parameters:
            owner: whom to call; hashable.
            seconds: from now; 0 or less is due at the next tick.
        """

    def cancel(self, owner: _Owner) -> None:
        """Forget the owner's deadline, if it has one."""
