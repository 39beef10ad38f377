"""Waking tasks: what a task waits on, and one call of the loop a step for all that are woken.

For other Cython modules: see ``_waking.pxd``. Python meets these objects only inside an
:class:`asyncio.Task`.
"""

import asyncio
from collections.abc import Callable
from contextvars import Context
from typing import Any

from typing_extensions import final

@final
class Waiter:
    """What a receive yields to its task: as much of an :class:`asyncio.Future` as a task uses.

    It serves one wait after the other, of one task at a time.
    """

    _asyncio_future_blocking: bool

    @property
    def get_loop(self) -> Callable[[], asyncio.AbstractEventLoop | None]:
        """Returns the loop that wakes the task; ``None`` for one that no :class:`LoopStep` made."""

    def add_done_callback(
        self, callback: Callable[[Waiter], object], *, context: Context | None = None
    ) -> None:
        """Take the task's wake-up, to run once in ``context``.

        Raises:
            RuntimeError: no :class:`LoopStep` made this Waiter.
        """

    def done(self) -> bool:
        """Whether nobody waits, or who waits is about to be woken."""

    def cancel(self, msg: Any = None) -> bool:
        """Wake the task with ``CancelledError``; False if it is about to be woken anyway.

        Parameters:
            msg: the argument of the exception.
        """

    def cancelled(self) -> bool:
        """Whether :meth:`cancel` ended the wait; until :meth:`result` has said so."""

    def result(self) -> None:
        """Tell the woken task how its wait ended.

        Raises:
            asyncio.CancelledError: by :meth:`cancel`; once.
        """

@final
class LoopStep:
    """What is to be done in the present step of one loop.

    Parameters:
        loop: the loop.
    """

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None: ...
    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop given."""
