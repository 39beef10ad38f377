from fastws import APIWebSocketRoute, FastWS, WebSocket


async def track(ws: WebSocket, parcel: int) -> None:
    await ws.accept()
    await ws.send_text(f"parcel {parcel} is on its way")


route = APIWebSocketRoute("/parcels/{parcel}", track, name="track")
app = FastWS(routes=[route])

if __name__ == "__main__":
    print(app.url_path_for("track", parcel=7))
    match, scope = route.matches({"type": "websocket", "path": "/parcels/7"})
    print(match.name, scope["path_params"])
