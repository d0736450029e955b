"""The peer that runs aiohttp. Its API cannot send fragments, and answers each Close with 1000."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from aiohttp import ClientSession, ClientWebSocketResponse, ClientWSTimeout, WSMsgType, web
from harness import MAX_SIZE, Link, Options, main, url_of

WebSocket = ClientWebSocketResponse | web.WebSocketResponse


class AiohttpLink(Link):
    def __init__(self, ws: WebSocket, *, autoping: bool) -> None:
        super().__init__()
        self.ws = ws
        self.subprotocol = (ws.protocol if isinstance(ws, ClientWebSocketResponse) else ws.ws_protocol) or ""
        self._autoping = autoping
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._reading = asyncio.create_task(self._read())

    def stop(self) -> None:
        self._reading.cancel()

    async def _read(self) -> None:
        while True:
            message = await self.ws.receive()
            match message.type:
                case WSMsgType.TEXT:
                    await self.put("text", message.data.encode())
                case WSMsgType.BINARY:
                    await self.put("binary", message.data)
                case WSMsgType.PING:
                    await self.ws.pong(message.data)
                case WSMsgType.PONG:
                    if waiter := self._pongs.pop(bytes(message.data), None):
                        waiter.set_result(None)
                case WSMsgType.CLOSE:
                    self.end(message.data or 1005, message.extra)
                    return
                case WSMsgType.CLOSING:  # `close` reads the answer
                    return
                case _:
                    self.end(self.ws.close_code or 1006, None)
                    return

    async def send(self, kind: str, fragments: list[bytes]) -> None:
        (payload,) = fragments
        await self.ws.send_frame(payload, WSMsgType.TEXT if kind == "text" else WSMsgType.BINARY)

    async def ping(self, payload: bytes) -> None:
        if self._autoping:
            raise AssertionError("aiohttp shows Pongs only if it was opened with show_pongs")
        waiter = self._pongs[payload] = asyncio.get_running_loop().create_future()
        await self.ws.ping(payload)
        await waiter

    async def close(self, code: int | None, reason: str) -> None:
        if code is None:  # close() always sends a code
            await self.ws.send_frame(b"", WSMsgType.CLOSE)
            return
        if isinstance(self.ws, web.WebSocketResponse):
            # With a read under way it would not wait for the answer; a client would not without one.
            self._reading.cancel()
            await asyncio.wait([self._reading])
        await self.ws.close(code=code, message=reason.encode())
        self.end(self.ws.close_code or 1005, None)


def _options(options: Options) -> dict[str, Any]:
    interval, _ = options.get("keepalive") or (None, None)  # its timeout is half of that
    return {
        "protocols": options.get("subprotocols") or (),
        "heartbeat": interval,
        "autoping": not options.get("show_pongs"),
        "max_msg_size": MAX_SIZE,
    }


def _window(options: Options) -> int:
    """As a client it offers one parameter, server_max_window_bits; 0 offers nothing."""
    deflate: dict[str, int] | None = options.get("deflate")
    return 0 if deflate is None else deflate.get("server_max_window_bits", 15)


@asynccontextmanager
async def connect(url: str, options: Options) -> AsyncIterator[Link]:
    settings = _options(options)
    timeout = ClientWSTimeout(ws_close=10.0)
    async with (
        ClientSession() as session,
        session.ws_connect(url, timeout=timeout, compress=_window(options), **settings) as ws,
    ):
        link = AiohttpLink(ws, autoping=settings["autoping"])
        yield link
        link.stop()


@asynccontextmanager
async def serve(options: Options, opened: Callable[[Link], None]) -> AsyncIterator[str]:
    settings = _options(options)

    async def handle(request: web.Request) -> web.WebSocketResponse:
        ws = web.WebSocketResponse(**settings)
        await ws.prepare(request)
        link = AiohttpLink(ws, autoping=settings["autoping"])
        opened(link)
        await link.closed
        return ws

    application = web.Application()
    application.router.add_get("/chat", handle)
    runner = web.AppRunner(application, shutdown_timeout=0.1)
    await runner.setup()
    try:
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        yield url_of(runner.addresses[0])
    finally:
        await runner.cleanup()


if __name__ == "__main__":
    main(connect, serve)
