from fastws import Depends, FastWS, HTTPException, WebSocket, WebSocketDisconnect
from fastws.security import HTTPAuthorizationCredentials, HTTPBearer

app = FastWS()
bearer = HTTPBearer()
USERS = {"ada-s-token": "Ada", "grace-s-token": "Grace"}


def user(credentials: HTTPAuthorizationCredentials = Depends(bearer)) -> str:
    if credentials.credentials not in USERS:
        raise HTTPException(status_code=401, detail="this token opens nothing")
    return USERS[credentials.credentials]


@app.websocket("/desk")
async def desk(ws: WebSocket, user: str = Depends(user)) -> None:
    await ws.accept()
    await ws.send_text(f"Good morning, {user}")
    try:
        while True:
            await ws.send_text(f"{user}: {await ws.receive_text()}")
    except WebSocketDisconnect:
        print(f"{user} left the desk")
