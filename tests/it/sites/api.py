"""A FastAPI application with a lifespan, a stream and a WebSocket."""

from contextlib import asynccontextmanager

from fastapi import FastAPI, Request, WebSocket
from fastapi.responses import StreamingResponse

started = []


@asynccontextmanager
async def lifespan(app):
    started.append("started")
    yield
    print("the lifespan has ended", flush=True)


app = FastAPI(lifespan=lifespan)


@app.get("/orders/{number}")
async def order(number: int, request: Request):
    url = str(request.url_for("order", number=number))
    return {"number": number, "started": started, "client": request.client.host, "url": url}


@app.post("/upload")
async def upload(request: Request):
    size = 0
    async for part in request.stream():
        size += len(part)
    return {"size": size}


@app.get("/stream")
async def stream():
    async def parts():
        for number in range(3):
            yield f"part {number}\n"

    return StreamingResponse(parts(), media_type="text/plain")


@app.websocket("/live")
async def live(socket: WebSocket):
    await socket.accept()
    while True:
        await socket.send_text("echo " + await socket.receive_text())
