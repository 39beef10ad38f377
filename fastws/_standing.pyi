"""How a connection stands: whether it may be used, how it has ended, and who has been told."""

import asyncio

from typing_extensions import disjoint_base

from fastws._receive_queue import ReceiveQueue
from fastws.codes import WebSocketState

@disjoint_base
class Standing(ReceiveQueue):
    """What can be asked of a connection at any time."""

    @property
    def loop(self) -> asyncio.AbstractEventLoop: ...
    @property
    def id(self) -> str:
        """A name for logs: the process's, then the connection's within it."""

    @property
    def client_state(self) -> WebSocketState:
        """What may still be received: see :attr:`fastws._channel.Channel.client_state`."""

    @property
    def application_state(self) -> WebSocketState:
        """What may still be sent: see :attr:`fastws._channel.Channel.application_state`."""

    @property
    def dropped(self) -> int:
        """Sends that came from outside the handler after the peer had gone and before the handler
        was told, at most 5 seconds long: they do nothing, for an exception would end whoever sent,
        such as the handler whose broadcast this is."""
