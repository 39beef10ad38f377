from __future__ import annotations

import argparse
import os


class Arguments(argparse.Namespace):
    """What every server is told.

    `compression` is off, dedicated (a context for each connection) or shared (none); `variant` is
    which of several implementations or interfaces of the server to use.
    """

    host: str
    port: int
    compression: str
    variant: str


def arguments() -> Arguments:
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    parser.add_argument("--compression", choices=("off", "dedicated", "shared"), default="off")
    parser.add_argument("--variant", default="")
    return parser.parse_args(namespace=Arguments())


def announce_ready() -> None:
    print("ready", os.getpid(), flush=True)


BACKLOG = 4096

# permessage-deflate with the same parameters for every server that lets its user choose them:
# those that fastws has by default.
WINDOW_BITS = 12
MEM_LEVEL = 5
LEVEL = 1
THRESHOLD = 1024
