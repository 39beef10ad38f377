"""Addresses of peers: reading them, and counting the connections of each."""

from __future__ import annotations

import ipaddress
import re
from typing import TypeAlias

__all__ = ["AddressCounts", "IPAddress", "address_key", "parse_address"]

IPAddress: TypeAlias = ipaddress.IPv4Address | ipaddress.IPv6Address

# Disjoint character classes of bounded length: nothing here can take long. The scope of a
# link-local address (fe80::1%eth0) is not among them: it could be any text.
_IPV6 = "([0-9A-Fa-f]{0,4}:[0-9A-Fa-f:.]{1,42})"
_ADDRESS = re.compile(rf"(?:\[{_IPV6}\]|([0-9.]{{7,15}}))(?::([0-9]{{1,5}}))?|{_IPV6}", re.ASCII)


def parse_address(text: str) -> tuple[IPAddress, int] | None:
    """Read an address as proxies write it: ``192.0.2.1``, ``192.0.2.1:80``, ``2001:db8::1`` or
    ``[2001:db8::1]:80``.

    Returns:
        The address and the port, 0 if none is given; ``None`` if the text is something else. An
        IPv4 address inside an IPv6 one (RFC 4291 section 2.5.5.2) is the IPv4 address.
    """
    matched = _ADDRESS.fullmatch(text)
    if matched is None:
        return None
    port = int(matched[3] or 0)
    try:
        address = ipaddress.ip_address(matched[1] or matched[2] or matched[4])
    except ValueError:
        return None
    if port > 65535:
        return None
    if isinstance(address, ipaddress.IPv6Address):
        return address.ipv4_mapped or address, port
    return address, port


def address_key(host: str) -> str:
    """Under which name a host's connections are counted together.

    An IPv6 host has a whole /64 of addresses to choose from (RFC 6177), which count as one.
    """
    if ":" not in host:
        return host
    try:
        # The kernel writes the scope of a link-local address behind a percent sign.
        address = ipaddress.IPv6Address(host.partition("%")[0])
    except ValueError:
        return host
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.IPv6Address(int(address) >> 64 << 64))


class AddressCounts:
    """How many connections each address has; kept only if there is a limit.

    Every :meth:`add` is undone by one :meth:`remove` with the same address.

    Parameters:
        limit: most connections of one address; ``None`` is no limit, and nothing is counted.
    """

    def __init__(self, limit: int | None) -> None:
        self.limit = limit
        self._counts: dict[str, int] = {}

    def __len__(self) -> int:
        """Addresses that have a connection."""
        return len(self._counts)

    def add(self, address: tuple[str, int] | None) -> int:
        """Count a connection from ``address``.

        Returns:
            How many more connections than allowed the address now has; 0 if it has none too many,
            or if there is nothing to count: no limit, or a peer without an address.
        """
        if self.limit is None or address is None:
            return 0
        key = address_key(address[0])
        count = self._counts[key] = self._counts.get(key, 0) + 1
        return max(0, count - self.limit)

    def remove(self, address: tuple[str, int] | None) -> None:
        """A connection from ``address`` that was counted is gone."""
        if self.limit is None or address is None:
            return
        key = address_key(address[0])
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]
