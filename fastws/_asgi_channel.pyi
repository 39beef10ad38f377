"""The receive and send callables that an ASGI server gives to an application.

Messages take the short way to the compiled connection; the rest is a subclass's.
"""

from collections.abc import Coroutine, Mapping
from typing import Any

from typing_extensions import disjoint_base

from fastws._channel import Channel

@disjoint_base
class ASGIChannel(Channel):
    """An ASGI application's end of one WebSocket.

    A subclass has the coroutine functions ``receive_later()`` and ``send_event(message)``, for
    what these two leave to it.

    Parameters:
        link: the compiled ``Connection``.
    """

    is_answered: bool
    """Whether the opening handshake is: set it once messages may be received and sent, or the
    connection is over."""

    @property
    def is_receiving(self) -> bool:
        """Whether a task waits for a message."""

    def receive(self) -> Coroutine[Any, Any, dict[str, Any]]:  # type: ignore[override]
        """The next event, as :meth:`fastws._channel.Channel.receive` without a timeout.

        Before the handshake is answered, or while a task waits already, ``receive_later()``.
        """

    def send(self, message: Mapping[str, Any]) -> Coroutine[Any, Any, None]:
        """Send an event: a message at the call, whatever else with ``send_event(message)``.

        Raises:
            OSError: the connection is over (ASGI 2.4); a
                :class:`~fastws.exceptions.WebSocketDisconnect`.
        """
