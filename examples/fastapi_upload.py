"""Uploads of any size into a FastAPI application, in constant memory: one message is one file.

Run it: uvicorn fastapi_upload:app --ws wsstream.asgi:UvicornProtocol
"""

from __future__ import annotations

import hashlib
import tempfile

from fastapi import FastAPI, WebSocket, WebSocketDisconnect

from wsstream.asgi import streams

app = FastAPI()


@app.websocket("/upload")
async def upload(websocket: WebSocket) -> None:
    """Save one message, and answer with its size and digest."""
    digest = hashlib.sha256()
    async with streams(websocket) as ws:
        with tempfile.TemporaryFile() as file:
            size = await ws.readable.receive_file(file, hash=digest)
        await ws.send(f"{size} {digest.hexdigest()}")


@app.websocket("/echo")
async def echo(websocket: WebSocket) -> None:
    """An endpoint as FastAPI has it: it gains the backpressure without a change."""
    await websocket.accept()
    try:
        while True:
            await websocket.send_text(await websocket.receive_text())
    except WebSocketDisconnect as end:
        print(f"closed with {end.code}", flush=True)
