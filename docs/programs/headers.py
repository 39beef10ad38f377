from fastws import Cookie, FastWS, Header, WebSocket

app = FastWS()


@app.websocket("/visit")
async def visit(
    ws: WebSocket,
    accept_language: str = Header("en"),
    x_trace: list[str] = Header([]),
    visits: int = Cookie(0),
) -> None:
    await ws.accept(headers={"Set-Cookie": f"visits={visits + 1}; Path=/; HttpOnly"})
    await ws.send_json({"language": accept_language, "traces": x_trace, "visits": visits + 1})
