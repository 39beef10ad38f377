"""One message to many connections."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from fastws._awaitables import ready
from fastws._channel import Channel, send_to_all
from fastws._codec import PreparedMessage
from fastws.codes import WebSocketState
from fastws.exceptions import WebSocketDisconnect

if TYPE_CHECKING:
    from typing_extensions import Buffer

__all__ = ["broadcast"]


def broadcast(
    connections: Iterable[Channel], message: str | Buffer | PreparedMessage
) -> Coroutine[Any, Any, None]:
    """Send a message to many; await what it returns.

    The frame is made once for all of them, and compressed once for those that compress without
    context takeover (RFC 7692 section 7.1.1). In this package's own server the message is queued
    for everybody when the call returns, and awaiting waits for nobody: a peer that reads too slowly
    is cut with 1013 once ``ws-max-backpressure`` is reached. Under another ASGI server it is sent
    when awaited, to all at the same time, and that waits for the slowest as long as that server
    lets it.

    Who is not accepted yet, or gone already, is left out without a word, whoever calls: a broadcast
    never tells its caller of another connection's end.

    Parameters:
        connections: :class:`~fastws.WebSocket` objects, or a client's; in a set, a list, …, which
            may change meanwhile.
        message: text as ``str``, binary as a buffer; or a message that was prepared for several
            broadcasts.

    Raises:
        TypeError: the message is neither; or something else is among the connections, in which
            case those before it have got it.
        ValueError: the text cannot be encoded (a lone surrogate).
        RuntimeError: the call is from another thread than the connections'.
    """
    prepared = message if isinstance(message, PreparedMessage) else PreparedMessage(message)
    others = send_to_all(connections, prepared)
    return _send_each(others, prepared) if others else ready()


async def _send_each(others: Sequence[Channel], message: PreparedMessage) -> None:
    data: Any = message.data
    sends = [
        other.send_text(data) if isinstance(data, str) else other.send_bytes(data)
        for other in others
        if other.application_state is WebSocketState.CONNECTED
    ]
    for outcome in await asyncio.gather(*sends, return_exceptions=True):
        # Its own handler is told that it is gone.
        if isinstance(outcome, BaseException) and not isinstance(outcome, WebSocketDisconnect):
            raise outcome
