"""socketify: callbacks on uWebSockets, a C++ core."""

# mypy: disable-error-code="import-not-found"
# A machine that only checks types need not have socketify.

from __future__ import annotations

from typing import Any

import orjson
from socketify import App, AppListenOptions, CompressOptions, OpCode

from benchmarks.servers.arguments import announce_ready, arguments

LARGEST = 16 * 1024 * 1024
COMPRESSION = {
    "off": CompressOptions.DISABLED,
    "shared": CompressOptions.SHARED_COMPRESSOR,
    # Window 2^12 with memory level 5, and 2^15 with 8; the level is zlib's own in all of them.
    "dedicated": (
        CompressOptions.DEDICATED_COMPRESSOR_32KB | CompressOptions.DEDICATED_DECOMPRESSOR_4KB
    ),
    "full": (
        CompressOptions.DEDICATED_COMPRESSOR_256KB | CompressOptions.DEDICATED_DECOMPRESSOR_32KB
    ),
}


def echo(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    ws.send(message, opcode, True)


def echo_json(ws: Any, message: str, opcode: OpCode) -> None:
    ws.send(orjson.dumps(orjson.loads(message)), OpCode.TEXT, True)


def subscribe(ws: Any) -> None:
    ws.subscribe("all")


def publish(ws: Any, message: str, opcode: OpCode) -> None:
    ws.publish("all", message, OpCode.TEXT, False)


def ignore(ws: Any, message: str | bytes, opcode: OpCode) -> None:
    pass


def main() -> None:
    given = arguments()
    app = App()

    def behaviour(**callbacks: Any) -> dict[str, Any]:
        return {
            "compression": COMPRESSION[given.compression],
            "max_payload_length": LARGEST,
            "max_backpressure": LARGEST,
            "idle_timeout": 120,
            **callbacks,
        }

    app.ws("/ws", behaviour(message=echo))
    app.ws("/binary", behaviour(message=echo))
    app.ws("/json", behaviour(message=echo_json))
    app.ws("/receive", behaviour(open=subscribe, message=ignore))
    app.ws("/publish", behaviour(message=publish))
    app.listen(AppListenOptions(given.port, given.host), lambda config: announce_ready())
    app.run()


if __name__ == "__main__":
    main()
