"""Who the client behind a proxy is, from the headers of those proxies that are trusted.

``X-Forwarded-For`` and ``X-Forwarded-Proto`` are read, and only if the peer itself is trusted:
anybody can send them. The client is the rightmost address in the chain that is not a trusted proxy:
what stands left of it, that client may have written itself.

``Forwarded`` (RFC 7239) and ``X-Forwarded-Host`` are not read. Proxies that write the former write
the latter's family too, and most of those that do not would pass a client's own on as it is, a
second source that is the client's to fill. A proxy keeps ``Host`` as the client sent it.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from typing import NamedTuple, TypeAlias

from fastws.addresses import IPAddress, parse_address

__all__ = ["Client", "PeerName", "TrustedProxies"]

PeerName: TypeAlias = tuple[str, int] | str | bytes | None
"""A transport's ``peername``: host and port, the (mostly empty) path of a Unix socket's peer, or
``None`` if the peer has gone already."""

MAX_HOPS = 32
"""Addresses of a chain that are looked at, from the right. Real chains have a few; this bounds what
a head full of them costs."""

_SCHEMES = {b"http": False, b"ws": False, b"https": True, b"wss": True}


class Client(NamedTuple):
    """Who a request comes from.

    Parameters:
        address: host and port, port 0 if it is not known; ``None`` if there is no address, as on a
            Unix socket.
        secure: whether the client speaks TLS; ``None`` if that is not known: the peer speaks none,
            and no trusted proxy has said how it was spoken to.
    """

    address: tuple[str, int] | None
    secure: bool | None


class TrustedProxies:
    """The proxies whose word about their clients counts.

    Parameters:
        peers: addresses, networks, ``"unix"`` for whoever connects through a Unix socket, ``"*"``
            for everybody, in the form that ``forwarded-allow-ips`` has.

    Raises:
        ValueError: an entry is none of these.
    """

    def __init__(self, peers: Sequence[str]) -> None:
        self._everybody = "*" in peers
        self._unix = self._everybody or "unix" in peers
        networks = [ipaddress.ip_network(peer) for peer in peers if peer not in ("*", "unix")]
        # Mostly they are single addresses, which need no search.
        self._hosts = {str(net.network_address) for net in networks if net.num_addresses == 1}
        self._networks = [net for net in networks if net.num_addresses > 1]

    def trusts(self, peer: PeerName) -> bool:
        """Whether the headers of this peer are believed."""
        if not isinstance(peer, tuple):
            return self._unix and peer is not None
        if self._everybody or peer[0] in self._hosts:
            return True
        if not self._networks and ":" not in peer[0]:
            return False
        parsed = parse_address(peer[0].partition("%")[0])
        return parsed is not None and self._trusts_address(parsed[0])

    def _trusts_address(self, address: IPAddress) -> bool:
        if self._everybody or str(address) in self._hosts:
            return True
        return any(address in network for network in self._networks)

    def client_of(
        self, peer: PeerName, fields: Mapping[bytes, Sequence[bytes]], *, secure: bool
    ) -> Client:
        """The client of a request, which is the peer itself unless that is a trusted proxy.

        Never raises, whatever the headers hold, and looks at a bounded part of them.

        Parameters:
            peer: who has sent it.
            fields: the request's headers: their values by their names, in lower case.
            secure: whether the peer speaks TLS.
        """
        chain = fields.get(b"x-forwarded-for", ())
        schemes = fields.get(b"x-forwarded-proto", ())
        address = (peer[0], peer[1]) if isinstance(peer, tuple) else None
        if not (chain or schemes) or not self.trusts(peer):
            return Client(address, secure or None)
        hops, is_whole = _last_elements(chain)
        found = 0
        for position, hop in enumerate(hops):
            parsed = parse_address(hop.decode("latin-1"))
            if parsed is None:
                # Such as "unknown": the client is whoever is known last on the way there.
                break
            host, port = parsed
            address, found = (str(host), port), position
            if not self._trusts_address(host):
                break
        words, is_list_whole = _last_elements(schemes)
        if not words:
            return Client(address, secure or None)
        # Proxies that append to one header mostly append to the other: then both have the client at
        # the same place. Otherwise the last word is the only one that a trusted proxy has written.
        paired = is_whole and is_list_whole and len(words) == len(hops)
        word = words[found if paired else 0]
        return Client(address, _SCHEMES.get(word.lower(), secure or None))


def _last_elements(values: Sequence[bytes]) -> tuple[list[bytes], bool]:
    """The elements of a list header from the right, and whether these are all."""
    if not values:
        return [], True
    parts = b",".join(values).rsplit(b",", MAX_HOPS)
    is_whole = len(parts) <= MAX_HOPS
    parts = parts if is_whole else parts[1:]
    elements = [part.strip(b" \t") for part in reversed(parts)]
    return [element for element in elements if element], is_whole
