"""What the servers and clients on the sans-I/O protocol share: an application, and the time."""

import math
from typing import TypeAlias

from fastws import ClientProtocol, Limits, ServerProtocol, WebSocketState
from fastws.protocol import Accepted, Event, Refused, Upgrade

AnyEvent: TypeAlias = Event | Accepted | Refused | Upgrade


# -- echo --
def echo(protocol: ServerProtocol, event: AnyEvent) -> None:
    """An application: every message goes back, "bye" closes. What moves the bytes is not its
    business."""
    if isinstance(event, Upgrade):
        if event.request.path != "/":
            protocol.reject(404, body=b"the echo is at /\n")
        else:
            wants_echo = "echo" in event.subprotocols
            protocol.accept(subprotocol="echo" if wants_echo else None)
    elif protocol.state is not WebSocketState.CONNECTED:
        pass  # it came behind a "bye"
    elif event == "bye":
        protocol.close(4000, "bye")
    elif isinstance(event, str):
        protocol.send_text(event)
    elif isinstance(event, bytes):
        protocol.send_bytes(event)


def leave(protocol: ServerProtocol | ClientProtocol, code: int = 1012, status: int = 503) -> None:
    """End a connection from this side: with CLOSE, or with a response where it is not open yet."""
    if protocol.state is not WebSocketState.CONNECTING:
        protocol.close(code)
    elif isinstance(protocol, ServerProtocol):
        protocol.reject(status)
    else:
        protocol.fail(code)


# -- clock --
class Clock:
    """What time asks of a connection. ``now`` is ``time.monotonic()``, or a loop's time."""

    def __init__(self, protocol: ServerProtocol | ClientProtocol, limits: Limits, now: float):
        self.protocol = protocol
        self.limits = limits
        self.phase = protocol.state
        self.since = now
        self.pinged = False

    def heard(self, now: float) -> None:
        """Bytes came: the peer is alive."""
        if self.phase is WebSocketState.CONNECTED:
            self.since = now
            self.pinged = False

    def due(self, now: float) -> float:
        """When to call act(); ask again whenever bytes went out or came in."""
        # From our CLOSE on, one limit holds for all that is left.
        phase = min(self.protocol.state, WebSocketState.CLOSING)
        if phase is not self.phase:
            self.phase = phase
            self.since = now
        limit: float | None
        if phase is WebSocketState.CONNECTING:
            limit = self.limits.open_timeout
        elif phase is WebSocketState.CONNECTED:
            limit = self.limits.ping_timeout if self.pinged else self.limits.ping_interval
        else:
            limit = self.limits.close_timeout
        return math.inf if limit is None else self.since + limit

    def act(self, now: float) -> bool:
        """Do what is due; ``False``: the peer had its time, so close the socket."""
        if now < self.due(now):
            return True
        if self.phase is WebSocketState.CLOSING:
            return False
        if self.phase is WebSocketState.CONNECTED and not self.pinged:
            self.protocol.send_ping()
            self.since = now
            self.pinged = True
        elif self.phase is WebSocketState.CONNECTED:
            self.protocol.fail(1011, "no sign of life")
        elif isinstance(self.protocol, ServerProtocol):
            self.protocol.reject(408)
        else:
            self.protocol.fail(1011)
            return False
        return True
