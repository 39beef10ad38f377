"""The server under test: every message goes back as it came, text as text, binary as binary."""

from __future__ import annotations

import sys

from fastws import FastWS, WebSocket

app = FastWS()

MIB = 1024 * 1024


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    """Echo until the peer goes; the framework then answers its CLOSE."""
    await ws.accept()
    while True:
        message = await ws.receive()
        if message["type"] == "websocket.disconnect":
            return
        if "text" in message:
            await ws.send_text(message["text"])
        else:
            await ws.send_bytes(message["bytes"])


def main() -> None:
    """Serve on loopback, on the port that is the last argument, until terminated."""
    app.serve(
        host="127.0.0.1",
        port=int(sys.argv[-1]),
        log_level="warning",
        access_log=False,
        # Cases 9.1.6 and 9.2.6 send 16 MiB in one message; 9.3.1 and 9.4.1 send 4 MiB in
        # fragments of 64 bytes and an empty one that ends it.
        ws_max_size=16 * MIB,
        ws_max_fragments=4 * MIB // 64 + 1,
        # Every compression case sees every parameter at work, also on the smallest message.
        ws_per_message_deflate="dedicated",
        ws_deflate_threshold=0,
        # The suite times and counts what it receives: no ping that it did not cause.
        ws_ping_interval=None,
    )


if __name__ == "__main__":
    main()
