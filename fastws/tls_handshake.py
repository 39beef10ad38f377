"""The TLS handshake of an accepted connection, which is counted from its first byte on."""

from __future__ import annotations

import asyncio
import ssl
import types
from collections.abc import Callable, Coroutine, Generator
from typing import Any

from fastws.logs import log

__all__ = ["handshake"]


def handshake(
    loop: asyncio.AbstractEventLoop,
    transport: asyncio.Transport,
    protocol: asyncio.Protocol,
    context: ssl.SSLContext,
    timeout: float,
    *,
    on_done: Callable[[asyncio.Transport | None], object],
) -> asyncio.Task[None]:
    """Begin TLS on a connection; to be called by its protocol's ``connection_made``.

    A server made with ``ssl=`` tells a protocol nothing before the handshake is done, nor if it
    never is, so that such connections could be neither counted nor limited.

    Parameters:
        transport: the TCP connection, of which nothing has been read.
        protocol: gets the decrypted bytes; perhaps before ``on_done`` is called.
        timeout: seconds for all of it.
        on_done: called with the TLS transport, or with ``None`` if there will be none. Not called
            if the task is cancelled, by the loop's end or by a ``connection_lost`` before.
    """
    upgrade = loop.start_tls(
        transport, protocol, context, server_side=True, ssl_handshake_timeout=timeout
    )

    async def finish(begun: Any) -> None:
        secured = None
        try:
            secured = await begun
        except OSError as error:
            # The peer's doing: not TLS, no common version, no certificate, too slow, or gone.
            log.debug("a TLS handshake failed: %s", error)
        except Exception:
            log.exception("unexpected error in a TLS handshake")
            transport.abort()
        on_done(None if secured is None or _is_lost(secured) else secured)

    # Up to its first wait at once: what the peer has sent already must go to TLS.
    return loop.create_task(finish(_continue(upgrade, upgrade.send(None))))


@types.coroutine
def _continue(coroutine: Coroutine[Any, Any, Any], waited_for: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that has been started and waits for ``waited_for``."""
    try:
        while True:
            try:
                sent = yield waited_for
            except BaseException as error:
                waited_for = coroutine.throw(error)
            else:
                waited_for = coroutine.send(sent)
    except StopIteration as end:
        return end.value


def _is_lost(transport: asyncio.Transport) -> bool:
    try:
        return transport.is_closing()
    except AttributeError:  # Python 3.10, where a lost TLS transport has nothing to ask
        return True
