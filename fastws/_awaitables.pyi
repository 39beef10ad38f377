"""What the verbs of a WebSocket return: coroutines that cost no allocation where nothing waits.

``await``, ``asyncio.create_task()``, ``gather()``, ``wait_for()`` and ``shield()`` take them as
they take what an ``async def`` returns; to ``isinstance`` they are
:class:`collections.abc.Coroutine`. Unlike a coroutine, one that is never awaited is no mistake:
a send is queued by the call, and a receive that nobody awaits takes no message.

The types have no constructor for Python; nothing but a verb makes one.
"""

from collections.abc import Coroutine, Generator
from types import TracebackType
from typing import Any, overload

from typing_extensions import Self, disjoint_base, final

class ReceiveTimeout(TimeoutError):
    """No message came in time; the built-in ``TimeoutError`` itself from CPython 3.11 on."""

@disjoint_base
class Awaitable:
    """The common part of all: PEP 492's coroutine methods over one step written in C.

    The value of an ``await`` is that of the verb. To await one a second time raises
    ``RuntimeError`` where the first has taken a message, and else gives the first one's outcome.
    """

    def __await__(self) -> Generator[Any, Any, Any]:
        """Return the object itself, which is its own iterator."""

    def __iter__(self) -> Self:
        """Return the object itself."""

    def __next__(self) -> Any:
        """Go on to the next future to wait for.

        Raises:
            StopIteration: there is none any more; its ``value`` is that of the ``await``.
            BaseException: whatever the verb raises.
        """

    def send(self, value: Any) -> Any:
        """Go on to the next future to wait for, as :meth:`__next__` does.

        Parameters:
            value: what a task sends, ``None``; it has no meaning here.

        Raises:
            StopIteration: there is none any more; its ``value`` is that of the ``await``.
            BaseException: whatever the verb raises.
        """

    @overload
    def throw(
        self,
        kind: type[BaseException],
        value: BaseException | object = None,
        traceback: TracebackType | None = None,
    ) -> Any: ...
    @overload
    def throw(
        self, kind: BaseException, value: None = None, traceback: TracebackType | None = None
    ) -> Any:
        """Give up waiting, and raise: how a task's cancellation arrives.

        A message that a cancelled receive would have returned stays in the queue; a frame that a
        cancelled send has queued is sent nevertheless.

        Parameters:
            kind: the exception, or its class.
            value: an instance of the class, or what to make one of.
            traceback: the traceback to begin with.

        Raises:
            BaseException: always, the one that was given.
        """

    def close(self) -> None:
        """Give up waiting; what was queued stays queued, as after :meth:`throw`."""

def ready() -> Coroutine[Any, Any, None]:
    """The awaitable that stands for "done already"."""

@final
class Ready(Awaitable):
    """Done already: its value is ``None``, on every ``await`` of it anew."""

@final
class Waiting(Awaitable):
    """Waits for a future, whose result is the value."""
