from __future__ import annotations

import argparse


def host_and_port() -> tuple[str, int]:
    """Return the server's two command-line arguments: the address and the port to listen on."""
    parser = argparse.ArgumentParser()
    parser.add_argument("host")
    parser.add_argument("port", type=int)
    arguments = parser.parse_args()
    return arguments.host, arguments.port


def announce_ready() -> None:
    print("ready", flush=True)
