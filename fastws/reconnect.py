"""Connecting again: how long to wait, and which errors are worth another attempt."""

from __future__ import annotations

import random
import ssl
from collections.abc import Callable
from datetime import datetime, timezone

from fastws.client_handshake import HandshakeRefused

__all__ = ["Backoff", "is_transient", "retry_after"]

MAX_RETRY_AFTER = 3600.0
"""Seconds that a server may ask a client to stay away."""

_TRANSIENT_STATUSES = {408, 425, 429}
"""Refusals that are about the moment, besides those of a server in trouble (5xx)."""

_CUT_TLS = (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError)
"""TLS errors that say no more than that TCP ended."""


class Backoff:
    """Waiting times between attempts: exponential, with full jitter.

    Each is drawn between nothing and a bound that doubles with every failure, so that clients that
    lost their server together do not come back together.

    Parameters:
        first: the first bound, in seconds.
        most: the largest bound, in seconds.
        draw: returns a number from 0 to 1.
    """

    def __init__(
        self, first: float, most: float, *, draw: Callable[[], float] = random.random
    ) -> None:
        self._first = min(first, most)
        self._most = most
        self._draw = draw
        self.bound = self._first
        """Of the next waiting time, in seconds."""

    def next_delay(self, at_least: float | None = None) -> float:
        """Seconds to wait now; the next time it may be twice as much.

        Parameters:
            at_least: seconds that the server asks for; the drawn ones come on top.
        """
        delay = self._draw() * self.bound + (at_least or 0.0)
        self.bound = min(2 * self.bound, self._most)
        return delay

    def lasted(self, seconds: float) -> None:
        """A connection has ended after so many seconds.

        One that lasted longer than the present bound was a success, and the next bound is the
        first again. A server that accepts and fails at once does not count as one.
        """
        if seconds > self.bound:
            self.bound = self._first


def is_transient(error: Exception) -> bool:
    """Whether another attempt may well succeed where this one failed with ``error``.

    It may after a network error: a name that does not resolve, no route, a refused, lost or timed
    out connection; and after a refusal with a status of 5xx, 408, 425 or 429, by the server or a
    proxy. It will not after any other refusal, a redirect that is not followed, an answer that
    breaks the protocol, a certificate that does not verify or other failures of TLS, and mistakes
    in the call such as a bad URI.
    """
    if isinstance(error, HandshakeRefused):
        return error.status >= 500 or error.status in _TRANSIENT_STATUSES
    if isinstance(error, ssl.SSLError):
        return isinstance(error, _CUT_TLS)
    return isinstance(error, OSError)


def retry_after(error: Exception, now: datetime | None = None) -> float | None:
    """Seconds that a refusal asks the client to wait (Retry-After, RFC 9110 section 10.2.3).

    At most an hour; ``None`` if it does not ask, or not in an accepted form.

    Parameters:
        error: any.
        now: the time of day, for the form with a date.
    """
    value = error.header("retry-after") if isinstance(error, HandshakeRefused) else None
    if value is None:
        return None
    if value.isascii() and value.isdigit():
        # Not int() at once: a number of thousands of digits takes it long.
        seconds = float(value[:9])
    else:
        from email.utils import parsedate_to_datetime

        try:
            date = parsedate_to_datetime(value)
        except ValueError:
            return None
        if date.tzinfo is None:
            date = date.replace(tzinfo=timezone.utc)
        seconds = (date - (now or datetime.now(timezone.utc))).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER)
