"""A WebSocket connection without sockets and without a clock, its opening handshake included.

:class:`ServerProtocol` and :class:`ClientProtocol` are what another server or client needs: bytes
from the peer go in, events come out, and what there is to send is asked for. Whoever reads the
HTTP request himself begins after it, with :class:`Protocol`.

The caller moves the bytes, in this order whenever something arrived::

    protocol.receive_data(data)                  # or receive_eof() where TCP ended
    for event in protocol.events_received():
        ...                                      # accept(), send_text(), close(), ...
    for piece in protocol.data_to_send():
        if piece:
            write(piece)
        else:
            end_our_side()                       # shutdown(SHUT_WR): nothing follows

The caller also keeps the time, with :class:`fastws.limits.Limits` for orientation: ``open_timeout``
until the state is CONNECTED, ``close_timeout`` from :attr:`Protocol.close_expected` or a CLOSE of
its own until TCP has ended, and PINGs on a silent connection.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from fastws import client_handshake, handshake, http_head
from fastws._protocol import Protocol
from fastws.codes import WebSocketState
from fastws.deflate import deflater_for, inflater_for, negotiate
from fastws.events import Close, Event, Ping, Pong
from fastws.exceptions import HandshakeError
from fastws.handshake import Upgrade
from fastws.http_fields import HeaderPairs
from fastws.limits import DEFAULT_LIMITS, DeflateOptions, Limits

__all__ = [
    "Accepted",
    "ClientProtocol",
    "Close",
    "Event",
    "Ping",
    "Pong",
    "Protocol",
    "Refused",
    "ServerProtocol",
    "Upgrade",
]

MAX_EARLY = 64 * 1024
"""Bytes a server keeps of a client that sends before its handshake is answered, which RFC 6455
section 4.1 forbids but which some clients do."""


class Accepted(NamedTuple):
    """The server's answer to a client's opening handshake: messages may be sent."""

    subprotocol: str | None
    """What the server chose of the subprotocols offered."""
    response: http_head.Response


class Refused(NamedTuple):
    """Why a client's opening handshake came to nothing; the state is DISCONNECTED."""

    error: HandshakeError
    """What was wrong; ``status`` is the server's own where it refused, 502 or 4xx otherwise."""
    response: http_head.Response | None
    """``None`` if what came is not an HTTP response."""
    body: bytes
    """Of the response, at most 64 KiB."""


class ServerProtocol(Protocol):
    """The server's end of a connection.

    It starts CONNECTING. The first event is the client's request as a
    :class:`fastws.handshake.Upgrade`; answer it with :meth:`accept` or :meth:`reject`. Until then
    the caller should read no further; of what it does read, up to 64 KiB are kept. A request that
    breaks a rule is answered by itself: no event, :attr:`handshake_error` tells.

    Parameters:
        limits: ``max_size`` and ``max_fragments`` apply to messages, ``max_header_…`` to the
            request.
        deflate: how to compress if the client offers it; ``None`` declines every offer.
        origins: whose pages may connect, see :func:`fastws.handshake.check_upgrade`.

    Raises:
        ValueError: an entry of ``origins`` is no origin.
    """

    upgrade: handshake.Upgrade | None
    """The client's request, once it is complete and sound."""
    subprotocol: str | None
    """What :meth:`accept` chose."""
    handshake_error: HandshakeError | None
    """What was wrong with the request."""

    def __init__(
        self,
        *,
        limits: Limits = DEFAULT_LIMITS,
        deflate: DeflateOptions | None = None,
        origins: Sequence[str] | str | None = None,
    ) -> None:
        super().__init__(client=False, limits=limits, connecting=True)
        # A wrong entry shows when any origin is judged: now, not at the first browser.
        handshake.is_origin_allowed("https://origin.invalid", None, origins)
        self.upgrade = None
        self.subprotocol = None
        self.handshake_error = None
        self._deflate = deflate
        self._origins = origins
        self._reader = http_head.HeadReader(limits)
        self._early = b""

    def accept(self, subprotocol: str | None = None, headers: HeaderPairs | None = None) -> None:
        """Answer the request with 101; from here on messages are sent and received.

        Frames that came with the request are read now: ask for :meth:`events_received` again.

        Parameters:
            subprotocol: one of ``upgrade.subprotocols``, or ``None`` for none.
            headers: more headers for the response.

        Raises:
            RuntimeError: there is no request to answer (yet, or any more).
            ValueError: the subprotocol was not offered, or a header is malformed or the
                handshake's own. Nothing was sent.
            TypeError: a header is neither ``bytes`` nor ``str``.
        """
        if self.upgrade is None or self.state is not WebSocketState.CONNECTING:
            raise RuntimeError(
                f"there is no request to accept: the connection is {self.state.name}"
            )
        agreed = None
        if self._deflate is not None:
            agreed = negotiate(self.upgrade.extensions, self._deflate)
        self._queue(
            handshake.accept_response(
                self.upgrade,
                subprotocol=subprotocol,
                extensions=None if agreed is None else agreed[0],
                headers=headers,
            )
        )
        self.subprotocol = subprotocol
        if agreed is None or self._deflate is None:
            self._connect()
        else:
            self._connect(
                inflater_for(agreed[1], client=False),
                deflater_for(agreed[1], self._deflate, client=False),
                self._deflate.threshold,
            )
        early, self._early = self._early, b""
        if early:
            super().receive_data(early)

    def reject(self, status: int, headers: HeaderPairs | None = None, body: bytes = b"") -> None:
        """Answer with an HTTP response other than 101, and end our side of TCP.

        A caller whose ``open_timeout`` is over rejects with 408, also before any request is there.

        Parameters:
            status: 200 to 599; 403 is usual for an unwanted client.
            headers: more headers for the response.
            body: the content.

        Raises:
            RuntimeError: the handshake is over.
            ValueError: the status or a header must not be sent. Nothing was sent.
            TypeError: a header is neither ``bytes`` nor ``str``.
        """
        if self.state is not WebSocketState.CONNECTING:
            raise RuntimeError(
                f"there is no request to reject: the connection is {self.state.name}"
            )
        self._refuse(http_head.http_response(status, headers or (), body))

    def _refuse(self, response: bytes) -> None:
        self._queue(response)
        self._early = b""
        self._give_up()

    def _receive_handshake(self, data: bytes) -> None:
        """Read the client's request; no bytes are the end of TCP."""
        if not data:
            self._give_up()
            return
        try:
            if self.upgrade is None:
                self._read_request(data)
            else:
                self._keep(data)
        except HandshakeError as error:
            self.handshake_error = error
            self._refuse(http_head.error_response(error))

    def _read_request(self, data: bytes) -> None:
        rest = self._reader.feed(data)
        if rest is None:
            return
        request = http_head.parse_request(self._reader.head)
        upgrade = handshake.check_upgrade(request, origins=self._origins)
        self._keep(rest)
        self.upgrade = upgrade
        self._report(upgrade)

    def _keep(self, data: bytes) -> None:
        if len(self._early) + len(data) > MAX_EARLY:
            raise HandshakeError(
                400, f"more than {MAX_EARLY} bytes came before the handshake was answered"
            )
        self._early += data


class ClientProtocol(Protocol):
    """The client's end of a connection.

    It starts CONNECTING: call :meth:`connect` and send what :meth:`data_to_send` has. The first
    event is :class:`Accepted` or :class:`Refused`.

    Parameters:
        uri: where to, ``ws://host[:port]/path?query`` or ``wss://…``. The caller connects, and
            speaks TLS where ``uri.secure`` says so.
        limits: ``max_size`` and ``max_fragments`` apply to messages, ``max_header_…`` to the
            response.
        deflate: the compression to offer, ``None`` for none.
        subprotocols: what to offer, in order of preference.
        headers: more headers for the request, such as Authorization.
        origin: the Origin header, which a client other than a browser need not send.

    Raises:
        ValueError: the URI, a subprotocol or a header is malformed, or a header is the handshake's
            own.
        TypeError: a header is neither ``bytes`` nor ``str``.
    """

    uri: client_handshake.URI
    subprotocol: str | None
    """What the server chose."""
    handshake_error: HandshakeError | None
    """Why the handshake came to nothing."""

    def __init__(
        self,
        uri: str,
        *,
        limits: Limits = DEFAULT_LIMITS,
        deflate: DeflateOptions | None = None,
        subprotocols: Sequence[str] = (),
        headers: HeaderPairs = (),
        origin: str | None = None,
    ) -> None:
        super().__init__(client=True, limits=limits, connecting=True)
        self.uri = client_handshake.parse_uri(uri)
        self.subprotocol = None
        self.handshake_error = None
        self._handshake = client_handshake.ClientHandshake(
            uri,
            limits=limits,
            deflate=deflate,
            subprotocols=subprotocols,
            headers=headers,
            origin=origin,
        )
        self._request = self._handshake.request

    def connect(self) -> None:
        """Send the opening handshake.

        Raises:
            RuntimeError: it was sent before.
        """
        if not self._request:
            raise RuntimeError("connect() is called once a connection")
        self._queue(self._request)
        self._request = b""

    def _receive_handshake(self, data: bytes) -> None:
        """Read the server's answer; no bytes are the end of TCP."""
        answer = self._handshake
        if not answer.feed(data):
            return
        if answer.error is not None:
            self.handshake_error = answer.error
            body = getattr(answer.error, "body", b"")
            self._report(Refused(answer.error, answer.response, body))
            self._give_up()
            return
        assert answer.response is not None
        self.subprotocol = answer.subprotocol
        self._report(Accepted(answer.subprotocol, answer.response))
        self._connect(*answer.codecs())
        if answer.rest:
            super().receive_data(answer.rest)
