import secrets

from fastws import Depends, FastWS, HTTPException, WebSocket
from fastws.security import (
    APIKeyCookie,
    APIKeyHeader,
    APIKeyQuery,
    HTTPBasic,
    HTTPBasicCredentials,
)

app = FastWS()
KEY = "open-sesame"


# -- key --
def checked(key: str) -> str:
    if not secrets.compare_digest(key.encode(), KEY.encode()):
        raise HTTPException(403, detail="wrong key")
    return key


def query_key(key: str = Depends(APIKeyQuery(name="key"))) -> str:
    return checked(key)


def header_key(key: str = Depends(APIKeyHeader(name="X-Key"))) -> str:
    return checked(key)


def cookie_key(key: str = Depends(APIKeyCookie(name="session"))) -> str:
    return checked(key)


@app.websocket("/query", dependencies=[Depends(query_key)])
@app.websocket("/header", dependencies=[Depends(header_key)])
@app.websocket("/cookie", dependencies=[Depends(cookie_key)])
async def cave(ws: WebSocket) -> None:
    await ws.accept()
    await ws.send_text("forty thieves")


# -- basic --
@app.websocket("/basic")
async def basic(ws: WebSocket, who: HTTPBasicCredentials = Depends(HTTPBasic())) -> None:
    if who.password != KEY:
        raise HTTPException(401, headers={"WWW-Authenticate": "Basic"})
    await ws.accept()
    await ws.send_text(f"welcome, {who.username}")
