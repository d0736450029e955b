"""What the Python peers share: a control port, and what may be asked of one WebSocket through it.

A peer is a script that runs one WebSocket library. It prints the number of its control port and lives
until its standard input ends. Each control connection stands for one WebSocket, which is opened by the
first request (``serve`` or ``connect``) and dropped when the control connection ends. Requests and
answers are lines of JSON; one request at a time. ``ws_peer.mjs`` speaks the same language.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own
import hashlib
import json
import os
import sys
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, suppress
from typing import Any, NamedTuple

MAX_SIZE = 64 << 20  # bytes; of messages and frames, where a library has a limit
MAX_UNREAD = 4  # messages; then the adapter stops reading, so that TCP's window closes

# "subprotocols": list of str; "keepalive": [interval, timeout] in seconds; "show_pongs": true, for aiohttp;
# "deflate": the parameters of permessage-deflate by their names in RFC 7692, without it the library's own.
Options = dict[str, Any]


class Message(NamedTuple):
    kind: str  # "text" or "binary"
    payload: bytes
    frames: int | None  # None: the library does not tell


class Link(ABC):
    """One WebSocket of the library. A task of the adapter reads it and calls `put` and `end`."""

    subprotocol = ""

    def __init__(self) -> None:
        self.messages: asyncio.Queue[Message] = asyncio.Queue(MAX_UNREAD)
        self.closed: asyncio.Future[tuple[int, str | None]] = asyncio.get_running_loop().create_future()

    async def put(self, kind: str, payload: bytes, frames: int | None = None) -> None:
        await self.messages.put(Message(kind, payload, frames))

    async def receive(self) -> Message:
        return await self.messages.get()

    def end(self, code: int, reason: str | None) -> None:
        """The WebSocket has ended; `code` and `reason` are what came in. None: the library does not tell."""
        if not self.closed.done():
            self.closed.set_result((code, reason))

    @abstractmethod
    async def send(self, kind: str, fragments: list[bytes]) -> None:
        """Send a message of these fragments; wait while the library's output is full."""

    @abstractmethod
    async def ping(self, payload: bytes) -> None:
        """Send a Ping and return when the Pong with the same payload has come."""

    @abstractmethod
    async def close(self, code: int | None, reason: str) -> None:
        """Send Close, without a code if that is None."""


Connect = Callable[[str, Options], AbstractAsyncContextManager[Link]]
# Serves one WebSocket: gives the URL, and calls its second argument with the link when that is open.
Serve = Callable[[Options, Callable[[Link], None]], AbstractAsyncContextManager[str]]


def pattern(seed: int, size: int) -> bytes:
    """Bytes that tell their position, with a period that no frame or buffer has."""
    unit = bytes((seed + i) % 251 for i in range(251))
    return (unit * (size // 251 + 1))[:size]


def numbered(index: int, size: int) -> tuple[str, bytes]:
    """Message number `index` of a long row: texts and binaries in turn."""
    return ("binary" if index % 2 else "text"), f"{index}:".encode().ljust(size, b".")


def cut(payload: bytes, sizes: list[int]) -> list[bytes]:
    """`payload` in pieces of these sizes; the last piece is what is left, even if that is nothing."""
    pieces, start = [], 0
    for size in sizes:
        pieces.append(payload[start : start + size])
        start += size
    return [*pieces, payload[start:]]


def url_of(address: tuple[Any, ...]) -> str:
    """The URL of a server that listens there."""
    return f"ws://{address[0]}:{address[1]}/chat?room=1"


class Control:
    """The other end of one control connection."""

    def __init__(self, connect: Connect, serve: Serve, stack: AsyncExitStack) -> None:
        self._connect = connect
        self._serve = serve
        self._stack = stack
        self._opened: asyncio.Future[Link] = asyncio.get_running_loop().create_future()

    async def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operation = getattr(self, "do_" + request.pop("do"))
        return await operation(**request) or {}

    async def do_serve(self, **options: Any) -> dict[str, Any]:
        return {"url": await self._stack.enter_async_context(self._serve(options, self._opened.set_result))}

    async def do_connect(self, url: str, **options: Any) -> None:
        self._opened.set_result(await self._stack.enter_async_context(self._connect(url, options)))

    async def do_open(self) -> dict[str, Any]:
        return {"subprotocol": (await self._opened).subprotocol}

    async def do_send(
        self,
        text: str | None = None,
        hex: str = "",
        pattern_of: tuple[int, int] | None = None,
        cuts: tuple[int, ...] = (),
    ) -> None:
        link = await self._opened
        if text is not None:
            await link.send("text", cut(text.encode(), list(cuts)))
        else:
            payload = pattern(*pattern_of) if pattern_of else bytes.fromhex(hex)
            await link.send("binary", cut(payload, list(cuts)))

    async def do_receive(self) -> dict[str, Any]:
        kind, payload, frames = await (await self._opened).receive()
        digest = hashlib.sha256(payload).hexdigest()
        return {"kind": kind, "size": len(payload), "sha256": digest, "frames": frames}

    async def do_echo(self, count: int) -> None:
        link = await self._opened
        for _ in range(count):
            message = await link.receive()
            await link.send(message.kind, [message.payload])

    async def do_send_numbered(self, count: int, size: int) -> None:
        link = await self._opened
        for index in range(count):
            kind, payload = numbered(index, size)
            await link.send(kind, [payload])

    async def do_receive_numbered(self, count: int, size: int) -> None:
        link = await self._opened
        for index in range(count):
            message = await link.receive()
            if message[:2] != numbered(index, size):
                raise AssertionError(f"message {index} came as {message.kind} {message.payload[:40]!r}")

    async def do_exchange_numbered(self, count: int, size: int) -> None:
        await asyncio.gather(self.do_send_numbered(count, size), self.do_receive_numbered(count, size))

    async def do_ping(self, hex: str) -> None:
        await (await self._opened).ping(bytes.fromhex(hex))

    async def do_close(self, code: int | None, reason: str) -> dict[str, Any]:
        await (await self._opened).close(code, reason)
        return await self.do_closed()

    async def do_closed(self) -> dict[str, Any]:
        code, reason = await (await self._opened).closed
        return {"code": code, "reason": reason}


async def keep_alive(link: Link, times: tuple[float, float], drop: Callable[[], None]) -> None:
    """A keepalive for libraries that have none of their own: interval and timeout, in seconds."""
    interval, timeout = times
    while True:
        await asyncio.sleep(interval)
        try:
            await asyncio.wait_for(link.ping(b"alive?"), timeout)
        except TimeoutError:
            drop()
            link.end(1006, "no Pong came")
            return


async def serve_control(connect: Connect, serve: Serve) -> None:
    async def control(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with AsyncExitStack() as stack:
            stack.enter_context(suppress(ConnectionError))  # a test that failed
            stack.callback(writer.close)
            control = Control(connect, serve, stack)
            while line := await reader.readline():
                try:
                    answer = await control.answer(json.loads(line))
                except Exception:
                    answer = {"error": traceback.format_exc()}
                writer.write(json.dumps(answer).encode() + b"\n")
                await writer.drain()

    server = await asyncio.start_server(control, "127.0.0.1", 0, limit=1 << 20)
    print(server.sockets[0].getsockname()[1], flush=True)
    await server.serve_forever()


def _exit_with_parent() -> None:
    sys.stdin.buffer.read()
    os._exit(0)


def main(connect: Connect, serve: Serve) -> None:
    threading.Thread(target=_exit_with_parent, daemon=True).start()
    asyncio.run(serve_control(connect, serve))
