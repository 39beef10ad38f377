from pathlib import Path

from fastws import FastWS, HTMLResponse, WebSocket

app = FastWS()
entries: list[str] = []


@app.get("/", response_class=HTMLResponse)
def page() -> str:
    return Path(__file__).with_name("journal.html").read_text(encoding="utf-8")


@app.websocket("/journal")
async def journal(ws: WebSocket) -> None:
    await ws.accept()
    try:
        while True:
            entry = await ws.receive_text()
            entries.append(entry)
            print(f"entry {len(entries)}: {entry}")
            await ws.send_json({"number": len(entries), "entry": entry})
    except Exception as error:
        print(f"the writer left: {error}")


if __name__ == "__main__":
    app.serve(host="127.0.0.1", port=8000)
