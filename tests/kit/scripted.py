"""A server for programs under test, in a thread: each path behaves in its own way."""

from __future__ import annotations

import base64
import hashlib
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio

from wsstream import Request, Response, WebSocketError, WebSocketStream, serve

__all__ = ["Scripted", "scripted_server", "silent_server"]

_ACCEPT_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


class Scripted:
    """The server: its URL, and what it saw.

    Attributes:
        url: without a path.
        ends: path and close code of each connection that has ended.
        sent: bytes that ``/flood`` has handed over.
    """

    def __init__(self) -> None:
        self.url = ""
        self.ends: list[tuple[str, int, str]] = []
        self.sent = 0

    def end_of(self, path: str) -> tuple[int, str]:
        """Code and reason with which the last connection to `path` has ended; waits for it."""
        for _ in range(500):
            for seen, code, reason in reversed(self.ends):
                if seen == path:
                    return code, reason
            threading.Event().wait(0.01)
        raise AssertionError(f"no connection to {path} has ended: {self.ends}")

    async def handle(self, ws: WebSocketStream) -> None:
        path = ws.request.path.rstrip("0123456789")
        try:
            await getattr(self, f"on_{path[1:]}")(ws)
        finally:
            with suppress(Exception), anyio.CancelScope(shield=True), anyio.move_on_after(5):
                await ws.wait_closed()
            info = ws.close_info
            self.ends.append((ws.request.path, info.code if info else 0, info.reason if info else ""))

    async def on_echo(self, ws: WebSocketStream) -> None:
        async for message in ws.readable.messages():
            async with ws.writable.message(message.kind) as answer:
                async for chunk in message:
                    await answer.send(chunk)
        await ws.aclose()

    async def on_sizes(self, ws: WebSocketStream) -> None:
        """Answers each message with its kind, its size and its digest."""
        async for message in ws.readable.messages():
            digest = hashlib.sha256()
            async for chunk in message:
                digest.update(chunk)
            await ws.send(f"{message.kind} {message.bytes_received} {digest.hexdigest()[:8]}")
        await ws.aclose()

    async def on_slow(self, ws: WebSocketStream) -> None:
        async for message in ws:
            await anyio.sleep(0.7)
            await ws.send(message)
        await ws.aclose()

    async def on_code(self, ws: WebSocketStream) -> None:
        """Closes with the code at the end of the path."""
        code = int(ws.request.path.removeprefix("/code") or 0)
        await ws.send(self._hello(ws))
        await ws.aclose(code or None, "go \x1b[2J away" if code else "")

    async def on_begun(self, ws: WebSocketStream) -> None:
        """Closes with 1000 once a message has begun to arrive."""
        async with ws.readable.message() as message:
            await message.receive()
            await ws.aclose(1000)

    @staticmethod
    def _hello(ws: WebSocketStream) -> str | bytes:
        return b"before" if ws.subprotocol == "binary" else "before"

    async def on_vanish(self, ws: WebSocketStream) -> None:
        await ws.send(self._hello(ws))
        await ws.writable.drain()
        ws.abort()

    async def on_stall(self, ws: WebSocketStream) -> None:
        await ws.wait_closed()

    async def on_late(self, ws: WebSocketStream) -> None:
        await self.on_echo(ws)

    async def on_flood(self, ws: WebSocketStream) -> None:
        ws.readable.discard()
        while True:
            await ws.send(bytes(65536))
            self.sent += 65536

    async def on_count(self, ws: WebSocketStream) -> None:
        for number in range(10_000):
            await ws.send(str(number))
        await ws.wait_closed()

    async def on_evil(self, ws: WebSocketStream) -> None:
        await ws.send("\x1b[2Jtext\a")
        await ws.send(b"\x1b[31mbytes\xff")
        await ws.wait_closed()

    async def on_fields(self, ws: WebSocketStream) -> None:
        """Tells the fields of the request that tests look at."""
        for name in ("authorization", "x-test", "origin", "host", "sec-websocket-protocol"):
            await ws.send(f"{name}={ws.request.headers.get(name)}")
        await ws.aclose(1000)

    async def on_error(self, ws: WebSocketStream) -> None:
        raise WebSocketError(code=1011, reason="broken")

    async def decide(self, request: Request) -> Response | None:
        if request.path == "/refuse":
            return Response(403, body="no entry for \x1b[31myou\nask somebody")
        if request.path == "/gateway":
            return Response(502, {"Server": "nginx/1.22"}, "Bad Gateway")
        if request.path == "/late":
            await anyio.sleep(0.5)
        return None


@contextmanager
def scripted_server() -> Iterator[Scripted]:
    """Run the server while the block runs."""
    script, ready, stop = Scripted(), threading.Event(), threading.Event()

    async def main() -> None:
        options = {"subprotocols": ["chat", "binary"], "max_message_size": None, "shutdown_timeout": 0.5}
        decide = script.decide
        async with serve(
            script.handle, "127.0.0.1", process_request=decide, origins=None, **options
        ) as server:
            script.url = server.url.rstrip("/")
            ready.set()
            while not stop.is_set():
                await anyio.sleep(0.02)

    thread = threading.Thread(target=anyio.run, args=(main,), daemon=True)
    thread.start()
    assert ready.wait(10)
    try:
        yield script
    finally:
        stop.set()
        thread.join(10)


@contextmanager
def silent_server() -> Iterator[str]:
    """Run a server that opens a WebSocket and then neither reads nor sends; yield its URL."""
    listener = socket.create_server(("127.0.0.1", 0))
    opened = []

    def run() -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                opened.append(connection)
                request = b""
                while b"\r\n\r\n" not in request:
                    request += connection.recv(4096)
                (key,) = (
                    line.partition(b":")[2].strip()
                    for line in request.split(b"\r\n")
                    if line.lower().startswith(b"sec-websocket-key")
                )
                accept = base64.b64encode(hashlib.sha1(key + _ACCEPT_GUID).digest())
                connection.sendall(
                    b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Accept: " + accept + b"\r\n\r\n"
                )

    threading.Thread(target=run, daemon=True).start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        listener.close()
        for connection in opened:
            connection.close()
