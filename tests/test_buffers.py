"""Memory that is kept: what a loop's connections gather in, and what the C library gives back."""

from __future__ import annotations

import platform
import sys

import pytest

from fastws import _buffers, server
from fastws.server import keep_memory_for_messages

TUNABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """What the C library was asked to keep; it was not, for the other tests' sake."""
    calls: list[tuple[int, int]] = []

    def keep(largest: int, free_at_top: int) -> bool:
        calls.append((largest, free_at_top))
        return True

    monkeypatch.setattr(_buffers, "keep_memory", keep)
    for name in TUNABLES:
        monkeypatch.delenv(name, raising=False)
    return calls


def test_a_server_process_keeps_the_memory_of_long_messages(asked: list[tuple[int, int]]) -> None:
    keep_memory_for_messages()
    assert asked == [(server.LONGEST_KEPT, server.KEPT_FREE)]


@pytest.mark.parametrize("name", TUNABLES)
def test_whoever_has_set_the_tunables_knows_better(
    asked: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv(name, "")
    keep_memory_for_messages()
    assert asked == []


def test_it_is_told_whether_the_c_library_can() -> None:
    # Its own defaults, which are 128 KiB each, so that nothing changes.
    kept = _buffers.keep_memory(128 * 1024, 128 * 1024)
    if sys.platform != "linux":
        assert kept is False
    elif platform.libc_ver()[0] == "glibc":
        assert kept is True
