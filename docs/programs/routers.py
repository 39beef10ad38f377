from fastws import APIRouter, Depends, FastWS, HTTPException, WebSocket


# -- routers --
def knock(key: str = "") -> None:
    if key != "sesame":
        raise HTTPException(403, detail="the door stays shut")


floor = APIRouter(prefix="/floor")
house = APIRouter(prefix="/house", dependencies=[Depends(knock)])


@floor.websocket("/{number}", name="floor")
async def enter(ws: WebSocket, number: int) -> None:
    await ws.accept()
    await ws.send_json({"floor": number, "above": ws.app.url_path_for("floor", number=number + 1)})


house.include_router(floor)

app = FastWS()
app.include_router(house)
app.include_router(floor, prefix="/garden")
