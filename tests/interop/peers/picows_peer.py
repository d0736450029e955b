"""The peer that runs picows, which leaves messages, subprotocols and the closing handshake to its user."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from harness import MAX_SIZE, MAX_UNREAD, Link, Message, Options, main, url_of
from picows import (
    WSAutoPingStrategy,
    WSFrame,
    WSListener,
    WSMsgType,
    WSTransport,
    WSUpgradeRequest,
    WSUpgradeResponse,
    WSUpgradeResponseWithListener,
    ws_connect,
    ws_create_server,
)

HEADER = "Sec-WebSocket-Protocol"
KINDS = {WSMsgType.TEXT: "text", WSMsgType.BINARY: "binary"}
TYPES = {kind: message_type for message_type, kind in KINDS.items()}


class PicowsLink(WSListener, Link):
    def __init__(self, opened: Callable[[Link], None] = lambda link: None) -> None:
        Link.__init__(self)
        self._opened = opened
        self._kind = ""
        self._frames: list[bytes] = []
        # A callback cannot wait for room, and what is in picows' buffer comes even while reading is paused.
        self._unread: deque[Message] = deque()
        self._arrived = asyncio.Event()
        self._pongs: dict[bytes, asyncio.Future[None]] = {}
        self._room = asyncio.Event()
        self._room.set()
        self._close: tuple[int, str] = (1006, "")

    def on_ws_connected(self, transport: WSTransport) -> None:
        self.transport = transport
        self.subprotocol = transport.response.headers.get(HEADER, "")
        self._opened(self)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        match frame.msg_type:
            case WSMsgType.TEXT | WSMsgType.BINARY | WSMsgType.CONTINUATION:
                self._on_data(frame)
            case WSMsgType.PONG:
                if waiter := self._pongs.pop(frame.get_payload_as_bytes(), None):
                    waiter.set_result(None)
            case WSMsgType.CLOSE:
                self._on_close(transport, frame)

    def _on_data(self, frame: WSFrame) -> None:
        self._kind = KINDS.get(frame.msg_type, self._kind)
        self._frames.append(frame.get_payload_as_bytes())
        if frame.fin:
            self._unread.append(Message(self._kind, b"".join(self._frames), len(self._frames)))
            self._frames.clear()
            self._arrived.set()
            if len(self._unread) >= MAX_UNREAD:
                self.transport.underlying_transport.pause_reading()

    async def receive(self) -> Message:
        while not self._unread:
            self._arrived.clear()
            await self._arrived.wait()
        message = self._unread.popleft()
        if not self._unread:
            self.transport.underlying_transport.resume_reading()
        return message

    def _on_close(self, transport: WSTransport, frame: WSFrame) -> None:
        code: Any = frame.get_close_code()  # of codes that its enumeration lacks, an int
        self._close = (int(code) or 1005, frame.get_close_reason() or "")
        if not transport.is_close_frame_sent:
            if code:
                transport.send_close(code, frame.get_close_message())
            else:
                transport.send(WSMsgType.CLOSE, None)  # send_close would say code 0
        if not transport.is_client_side:
            transport.disconnect()

    def on_ws_disconnected(self, transport: WSTransport) -> None:
        self.end(*self._close)

    def pause_writing(self) -> None:
        self._room.clear()

    def resume_writing(self) -> None:
        self._room.set()

    async def send(self, kind: str, fragments: list[bytes]) -> None:
        message_type = TYPES[kind]
        for fragment in fragments[:-1]:
            self.transport.send(message_type, fragment, fin=False)
            message_type = WSMsgType.CONTINUATION
            await self._room.wait()
        self.transport.send(message_type, fragments[-1])
        await self._room.wait()

    async def ping(self, payload: bytes) -> None:
        waiter = self._pongs[payload] = asyncio.get_running_loop().create_future()
        self.transport.send_ping(payload)
        await waiter

    async def close(self, code: int | None, reason: str) -> None:
        if code is None:
            self.transport.send(WSMsgType.CLOSE, None)
        else:
            any_code: Any = code
            self.transport.send_close(any_code, reason)


def _options(options: Options) -> dict[str, Any]:
    interval, timeout = options.get("keepalive") or (20, 20)
    return {
        "enable_auto_ping": "keepalive" in options,
        "auto_ping_strategy": WSAutoPingStrategy.PING_PERIODICALLY,
        "auto_ping_idle_timeout": interval,
        "auto_ping_reply_timeout": timeout,
        "max_frame_size": MAX_SIZE,
    }


@asynccontextmanager
async def connect(url: str, options: Options) -> AsyncIterator[Link]:
    subprotocols = ", ".join(options.get("subprotocols") or ())
    headers = {HEADER: subprotocols} if subprotocols else {}
    transport, link = await ws_connect(PicowsLink, url, extra_headers=headers, **_options(options))
    assert isinstance(link, PicowsLink)
    yield link
    transport.disconnect(graceful=False)


@asynccontextmanager
async def serve(options: Options, opened: Callable[[Link], None]) -> AsyncIterator[str]:
    links: list[PicowsLink] = []

    def listen(request: WSUpgradeRequest) -> WSUpgradeResponseWithListener:
        offered = [name.strip() for name in request.headers.get(HEADER, "").split(",")]
        chosen = next((name for name in options.get("subprotocols") or () if name in offered), None)
        response = WSUpgradeResponse.create_101_response({HEADER: chosen} if chosen else None)
        links.append(PicowsLink(opened))
        return WSUpgradeResponseWithListener(response, links[-1])

    server = await ws_create_server(listen, "127.0.0.1", 0, **_options(options))
    async with server:
        yield url_of(server.sockets[0].getsockname())
        for link in links:
            link.transport.disconnect(graceful=False)


if __name__ == "__main__":
    main(connect, serve)
