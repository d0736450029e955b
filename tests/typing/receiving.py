"""What type checkers see of receiving. Checked by test_typing.py, never run."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import assert_type

from anyio.abc import ByteStream, ObjectReceiveStream

from wsstream import MessageReader, WebSocketStream, join


async def whole_messages(ws: WebSocketStream) -> None:
    assert_type(await ws.receive(), str | bytes)
    async for message in ws:
        assert_type(message, str | bytes)


async def one_type(ws: WebSocketStream) -> None:
    texts = ws.readable.only(str)
    assert_type(texts, ObjectReceiveStream[str])
    assert_type(await texts.receive(), str)
    async for text in texts:
        assert_type(text, str)
    async for data in ws.readable.only(bytes):
        assert_type(data, bytes)
    ws.readable.only(bytearray)  # error


async def chunks(ws: WebSocketStream) -> None:
    assert_type(ws.readable.message(), AbstractAsyncContextManager[MessageReader])
    async with ws.readable.message() as reader:
        assert_type(await reader.receive(), bytes)
    await ws.readable.message()  # error


async def byte_streams(ws: WebSocketStream, tcp: ByteStream) -> None:
    assert_type(await join(ws.byte_stream(eof=b""), tcp), Exception | None)
    await ws.byte_stream().send("text")  # error
    await join(ws, tcp)  # error
