"""Addresses as proxies write them, and the count of each one's connections."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fastws.addresses import AddressCounts, address_key, parse_address


@pytest.mark.parametrize(
    ("text", "address", "port"),
    [
        ("192.0.2.1", "192.0.2.1", 0),
        ("192.0.2.1:8080", "192.0.2.1", 8080),
        ("2001:DB8:0:0::1", "2001:db8::1", 0),
        ("[2001:db8::1]", "2001:db8::1", 0),
        ("[2001:db8::1]:65535", "2001:db8::1", 65535),
        ("::ffff:192.0.2.1", "192.0.2.1", 0),
        ("[::ffff:c000:0201]:1", "192.0.2.1", 1),
        ("::", "::", 0),
    ],
)
def test_addresses(text: str, address: str, port: int) -> None:
    parsed = parse_address(text)
    assert parsed is not None
    assert (str(parsed[0]), parsed[1]) == (address, port)


@pytest.mark.parametrize(
    "text",
    [
        *("", "unknown", "_hidden", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "01.2.3.4"),
        *("1.2.3.4:", "1.2.3.4:65536", "1.2.3.4:-1", "1.2.3.4:80:80", " 1.2.3.4", "1.2.3.4\n"),
        *("[1.2.3.4]", "[::1", "::1]", "[::1]:", "[::1]x", "::1::", "1:2:3:4:5:6:7:8:9", "[]"),
        *("fe80::1%eth0", "[fe80::1%25eth0]", "fe80::1%\x1b[2J", '"1.2.3.4"', "\u0661.2.3.4"),
        *("1.2.3.4\x00", "0x7f.0.0.1", "1.2.3.4/8", ":" * 45, "." * 15, "1" * 100_000),
    ],
)
def test_what_is_no_address(text: str) -> None:
    assert parse_address(text) is None


@given(st.text(alphabet="0123456789abcdefF.:[]% x\x00", max_size=60))
def test_nothing_raises_and_what_is_read_is_plain(text: str) -> None:
    parsed = parse_address(text)
    if parsed is not None:
        assert set(str(parsed[0])) <= set("0123456789abcdef.:")
        assert 0 <= parsed[1] <= 65535


@pytest.mark.parametrize(
    ("host", "key"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("2001:db8:1:3::1", "2001:db8:1:3::"),
        ("::1", "::"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("fe80::1%eth0", "fe80::"),
    ],
)
def test_an_ipv6_host_counts_with_its_64(host: str, key: str) -> None:
    assert address_key(host) == key


def test_counting() -> None:
    counts = AddressCounts(2)
    one, two, other = ("2001:db8::1", 1), ("2001:db8::2", 2), ("192.0.2.1", 3)
    assert [counts.add(address) for address in (one, two, one, other)] == [0, 0, 1, 0]
    assert counts.add(two) == 2
    assert len(counts) == 2
    for address in (two, one, other):
        counts.remove(address)
    assert len(counts) == 1
    assert counts.add(one) == 1
    for address in (one, one, two):
        counts.remove(address)
    assert len(counts) == 0


@pytest.mark.parametrize(("limit", "address"), [(None, ("192.0.2.1", 1)), (1, None)])
def test_what_is_not_counted(limit: int | None, address: tuple[str, int] | None) -> None:
    counts = AddressCounts(limit)
    for _ in range(3):
        assert counts.add(address) == 0
    counts.remove(address)
    assert len(counts) == 0
