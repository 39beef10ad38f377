"""The servers that are compared. Each is written, in `servers/`, as its own users would."""

from __future__ import annotations

from benchmarks.running import Server
from benchmarks.servers.arguments import DEFLATE

TCP_ECHO = Server("tcp", "uvloop TCP echo, no WebSocket", "tcp_echo", ("uvloop",), raw=True)
SEND_LOOP = Server(
    "send-loop", "a bare loop of `send()` in C", "send_loop", (), raw=True, program="c"
)

FASTWS = Server(
    "fastws",
    "**fastws**, coroutine API",
    "fastws_echo",
    ("fastws", "uvloop", "httptools", "orjson"),
    awaits=True,
)

# The same with another zlib, so only where something is compressed. What may be missing is that.
FASTWS_ZLIB_NG = Server(
    "fastws-zlib-ng",
    "**fastws**, zlib-ng",
    "fastws_echo",
    ("zlib-ng", "fastws", "uvloop", "httptools", "orjson"),
    variant="zlib-ng",
    awaits=True,
    only=("deflate-dedicated", "deflate-shared", "deflate-full"),
)

_UVICORN = ("uvicorn", "httptools", "uvloop")

PEERS = (
    Server("picows", "picows, callbacks", "picows_echo", ("picows", "aiofastnet", "uvloop")),
    Server(
        "picows-websockets",
        "picows.websockets",
        "picows_websockets_echo",
        ("picows", "aiofastnet", "uvloop"),
        awaits=True,
        exact=("full",),
    ),
    Server(
        "websockets",
        "websockets",
        "websockets_echo",
        ("websockets", "uvloop"),
        awaits=True,
        exact=tuple(DEFLATE),
    ),
    Server("aiohttp", "aiohttp", "aiohttp_echo", ("aiohttp", "uvloop"), awaits=True),
    Server(
        "uvicorn",
        "uvicorn, websockets-sansio, bare ASGI",
        "uvicorn_echo",
        (*_UVICORN, "websockets"),
        variant="websockets-sansio",
        awaits=True,
    ),
    Server(
        "uvicorn-wsproto",
        "uvicorn, wsproto, bare ASGI",
        "uvicorn_echo",
        (*_UVICORN, "wsproto"),
        variant="wsproto",
        awaits=True,
        exact=("full",),
    ),
    Server(
        "fastapi",
        "FastAPI on uvicorn, websockets-sansio",
        "fastapi_echo",
        ("fastapi", "starlette", *_UVICORN, "websockets"),
        variant="websockets-sansio",
        awaits=True,
    ),
    Server(
        "fastapi-wsproto",
        "FastAPI on uvicorn, wsproto",
        "fastapi_echo",
        ("fastapi", "starlette", *_UVICORN, "wsproto"),
        variant="wsproto",
        awaits=True,
        exact=("full",),
    ),
    Server(
        "fasterapi",
        "FasterAPI on uvicorn, websockets-sansio (mended: its own echo fails)",
        "fasterapi_echo",
        ("faster-api-web", *_UVICORN, "websockets"),
        variant="websockets-sansio",
        awaits=True,
    ),
    Server(
        "granian-rsgi", "Granian, RSGI", "granian_echo", ("granian",), variant="rsgi", awaits=True
    ),
    Server(
        "granian-asgi",
        "Granian, bare ASGI",
        "granian_echo",
        ("granian",),
        variant="asgi",
        awaits=True,
    ),
    Server(
        "hypercorn",
        "Hypercorn, bare ASGI",
        "hypercorn_echo",
        ("hypercorn", "wsproto", "uvloop"),
        awaits=True,
        exact=("full",),
    ),
    Server("tornado", "Tornado", "tornado_echo", ("tornado",), exact=tuple(DEFLATE)),
    Server(
        "socketify",
        "socketify, callbacks on a C++ core",
        "socketify_echo",
        ("socketify",),
        exact=("full",),
    ),
    Server("node-ws", "ws on Node.js", "ws_echo", ("ws",), program="node", exact=tuple(DEFLATE)),
)

# Neither a peer nor fastws itself: another server with this package's protocol class.
DROP_IN = Server(
    "drop-in",
    "FastAPI on uvicorn, **`--ws fastws…`**",
    "fastapi_fastws_echo",
    ("fastapi", "starlette", *_UVICORN, "fastws"),
)

OWN = (FASTWS, FASTWS_ZLIB_NG, DROP_IN)

SERVERS = {server.name: server for server in (*OWN, *PEERS)}
