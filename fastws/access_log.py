"""The lines of the access log: what was answered to whom, and how connections ended.

======================= ===========================================================================
a request               ``CLIENT "GET /path" STATUS``
what could not be read  ``CLIENT "-" refused with STATUS: why``
an opening handshake    ``CLIENT ID "WebSocket /path" STATUS``: 101, or that of the refusal
a refusal by the server ``CLIENT "GET /path" refused with STATUS: why``; it has no id yet
one that was given up   ``CLIENT ID "WebSocket /path" left before it was answered``
the end of a connection ``CLIENT ID "WebSocket /path" closed CODE after SECONDS s, in: MESSAGES
                        messages, BYTES bytes, out: MESSAGES messages, BYTES bytes``, and
                        ``: REASON`` if there is one
======================= ===========================================================================

Each record carries the same as attributes, which are the fields of a JSON line: ``event``
(``request``, ``accepted``, ``refused``, ``left``, ``closed``), ``client``, ``connection``,
``method``, ``path``, ``status``, ``code``, ``reason``, ``duration`` (seconds),
``messages_received``, ``bytes_received``, ``messages_sent``, ``bytes_sent``. Bytes are those of the
messages, before compression.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from fastws.logs import access_log, peer_name, printable

if TYPE_CHECKING:
    from fastws._connection import Connection

__all__ = ["log_answer", "log_end", "log_refusal", "log_response"]

SWITCHED = 101


def log_response(client: tuple[str, int] | None, method: str, target: str, status: int) -> None:
    """Write the line of a plain HTTP request."""
    peer, method, path = peer_name(client), printable(method), printable(target)
    access_log.info(
        '%s "%s %s" %d',
        *(peer, method, path, status),
        extra={
            "event": "request",
            "client": peer,
            "method": method,
            "path": path,
            "status": status,
        },
    )


def log_refusal(client: tuple[str, int] | None, head: bytes, status: int, why: str) -> None:
    """Write the line of a request that was refused before the application saw it.

    Parameters:
        client: who sent it.
        head: what was received of it, ``b""`` if that was no whole head.
        status: the response's.
        why: the sentence in the response.
    """
    peer, why = peer_name(client), printable(why)
    method = printable(head.split(b" ", 1)[0].decode("latin-1"))
    path = printable(target_of(head))
    access_log.info(
        '%s "%s" refused with %d: %s',
        *(peer, f"{method} {path}" if head else "-", status, why),
        extra={
            "event": "refused",
            "client": peer,
            "method": method if head else None,
            "path": path if head else None,
            "status": status,
            "reason": why,
        },
    )


def log_answer(connection: Connection, status: int | None) -> None:
    """Write the line of an opening handshake that the application answered, or was to.

    Parameters:
        connection: the connection.
        status: 101, that of the refusal, or ``None`` if the peer left before.
    """
    peer, path = peer_name(connection.client), printable(target_of(connection.head))
    outcome = "left before it was answered" if status is None else str(status)
    event = {None: "left", SWITCHED: "accepted"}.get(status, "refused")
    access_log.info(
        '%s %s "WebSocket %s" %s',
        *(peer, connection.id, path, outcome),
        extra={
            "event": event,
            "client": peer,
            "connection": connection.id,
            "path": path,
            "status": status,
        },
    )


def log_end(connection: Connection, now: float) -> None:
    """Write the line of a connection that has ended.

    Parameters:
        connection: the connection.
        now: the loop's clock.
    """
    peer, path = peer_name(connection.client), printable(target_of(connection.head))
    duration = round(now - connection.opened_at, 3)
    # A peer that answers our CLOSE repeats the code, and hardly ever the reason.
    reason = printable(connection.close_reason or connection.sent_reason or "")
    access_log.info(
        '%s %s "WebSocket %s" closed %s after %.3f s, in: %d messages, %d bytes, '
        "out: %d messages, %d bytes%s",
        *(peer, connection.id, path, connection.close_code, duration),
        *(connection.messages_received, connection.bytes_received),
        *(connection.messages_sent, connection.bytes_sent),
        f": {reason}" if reason else "",
        extra={
            "event": "closed",
            "client": peer,
            "connection": connection.id,
            "path": path,
            "code": connection.close_code,
            "reason": reason,
            "duration": duration,
            "messages_received": connection.messages_received,
            "bytes_received": connection.bytes_received,
            "messages_sent": connection.messages_sent,
            "bytes_sent": connection.bytes_sent,
        },
    )


def target_of(head: bytes) -> str:
    """The target of a request, from its head: so that no connection keeps a copy of it."""
    parts = head.split(b" ", 2)
    return parts[1].decode("latin-1") if len(parts) > 1 else "-"
