from __future__ import annotations

import argparse
import os
from dataclasses import dataclass

BACKLOG = 4096


@dataclass(frozen=True)
class Deflate:
    """permessage-deflate for every server that lets its user choose the parameters."""

    level: int
    mem_level: int
    window_bits: int
    takeover: bool


DEFLATE = {
    # What fastws has by default, with a context for each connection and without.
    "dedicated": Deflate(level=1, mem_level=5, window_bits=12, takeover=True),
    "shared": Deflate(level=1, mem_level=5, window_bits=12, takeover=False),
    # What zlib has by default.
    "full": Deflate(level=6, mem_level=8, window_bits=15, takeover=True),
}


class Arguments(argparse.Namespace):
    """What every server is told.

    `compression` is off or a key of :data:`DEFLATE`; `variant` is which of several implementations
    or interfaces of the server to use.
    """

    host: str
    port: int
    compression: str
    variant: str


def arguments() -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--compression", choices=("off", *DEFLATE), default="off")
    parser.add_argument("--variant", default="")
    return parser.parse_args(namespace=Arguments())


def announce_ready() -> None:
    print("ready", os.getpid(), flush=True)
