"""What is measured: the workloads of the load generator, and the idle connections."""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.running import Workload, most_files

KIB = 1024
MIB = 1024 * KIB


def _small(connections: int, inflight: int) -> Workload:
    # The two that everybody quotes have short names.
    suffix = "" if connections == 50 else f"-{connections}c"
    counted = "connection" if connections == 1 else "connections"
    title = f"Echo of 64 B text, {connections:,} {counted}, {inflight} in flight"
    return Workload(f"echo-64-{inflight}{suffix}", title, connections, inflight, 64)


WORKLOADS = (
    _small(50, 1),
    _small(50, 16),
    _small(1, 1),
    _small(1, 16),
    _small(1000, 1),
    _small(1000, 16),
    Workload(
        "binary-64",
        "Echo of 64 B binary, 50 connections, 16 in flight",
        50,
        16,
        64,
        payload="binary",
        path="/binary",
    ),
    Workload(
        "json-1k",
        "JSON echo, 1 KB parsed and serialised, 50 connections, 16 in flight",
        50,
        16,
        KIB,
        payload="json",
        path="/json",
    ),
    Workload(
        "utf8-1k",
        "Echo of 1 KB text beyond ASCII, 50 connections, 16 in flight",
        50,
        16,
        KIB,
        payload="utf8",
    ),
    Workload(
        "binary-64k",
        "Echo of 64 KiB binary, 10 connections, 1 in flight",
        10,
        1,
        64 * KIB,
        payload="binary",
        path="/binary",
    ),
    Workload(
        "binary-1m",
        "Echo of 1 MiB binary, 2 connections, 1 in flight",
        2,
        1,
        MIB,
        payload="binary",
        path="/binary",
    ),
    Workload(
        "fanout",
        "Fan-out of 128 B to 1,000 receivers, one message at a time",
        1001,
        1,
        128,
        activity="fanout",
        path="/receive",
        unit="delivery",
    ),
    Workload(
        "deflate-dedicated",
        "Compressed JSON echo, 1 KB, context takeover, 50 connections, 16 in flight",
        50,
        16,
        KIB,
        payload="json",
        compression="dedicated",
        path="/json",
    ),
    Workload(
        "deflate-shared",
        "Compressed JSON echo, 1 KB, no context takeover, 50 connections, 16 in flight",
        50,
        16,
        KIB,
        payload="json",
        compression="shared",
        path="/json",
    ),
    Workload(
        "deflate-full",
        "Compressed JSON echo, 1 KB, context takeover, zlib's own parameters, 50 connections, "
        "16 in flight",
        50,
        16,
        KIB,
        payload="json",
        compression="full",
        path="/json",
    ),
    Workload(
        "handshakes",
        "Opening and closing handshakes, 50 at a time",
        50,
        1,
        64,
        activity="handshakes",
        unit="handshake",
    ),
)


@dataclass(frozen=True)
class Idle:
    """Connections that are open and say nothing."""

    key: str
    connections: int
    compression: str

    @property
    def title(self) -> str:
        agreed = "" if self.compression == "off" else ", compression negotiated"
        return f"Memory of an idle connection, {self.connections:,} open{agreed}"


OTHER_FILES = 500
"""Open files that a server or the load may have besides its connections."""

# A process may not be allowed so many files: then there are a few connections less.
_MANY = min(20_000, most_files() - OTHER_FILES)

IDLE = (
    Idle("idle-5k", 5_000, "off"),
    Idle("idle-5k-deflate", 5_000, "dedicated"),
    Idle("idle-20k", _MANY, "off"),
    Idle("idle-20k-deflate", _MANY, "dedicated"),
)

# What `make bench` measures when nobody asks for more: the path of one message, and its memory.
SHORT = ("echo-64-1", "echo-64-16", "idle-5k")
