"""Send back every message as it came, text as text and binary as binary.

Run it with ``fastws run examples.echo:app``, or as a program: ``python examples/echo.py``.
"""

from __future__ import annotations

import os

from fastws import FastWS, WebSocket

app = FastWS()


@app.websocket("/")
async def echo(ws: WebSocket) -> None:
    await ws.accept()
    async for message in ws:
        if isinstance(message, str):
            await ws.send_text(message)
        else:
            await ws.send_bytes(message)


if __name__ == "__main__":
    app.serve(host="127.0.0.1", port=int(os.environ.get("PORT", "8000")))
