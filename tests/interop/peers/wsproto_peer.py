"""The peer that runs wsproto over sockets of asyncio. wsproto does no I/O, and no keepalive."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a process of its own
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from urllib.parse import urlsplit

from harness import Link, Options, keep_alive, main, url_of
from wsproto import ConnectionType, WSConnection
from wsproto.connection import ConnectionState
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    Pong,
    Request,
    TextMessage,
)
from wsproto.extensions import Extension, PerMessageDeflate
from wsproto.frame_protocol import CloseReason

READ_SIZE = 1 << 16


class WsprotoLink(Link):
    def __init__(
        self, connection: WSConnection, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        super().__init__()
        self._connection = connection
        self._reader = reader
        self._writer = writer
        self._parts: list[bytes] = []
        self._frames = 0
        self._pongs: dict[bytes, asyncio.Future[None]] = {}

    async def write(self, event: Event) -> None:
        self._writer.write(self._connection.send(event))
        await self._writer.drain()

    async def shake_hands(self) -> Event:
        """Read the other's part of the opening handshake."""
        while True:
            for event in self._connection.events():
                return event
            self._connection.receive_data(await self._reader.read(READ_SIZE) or None)

    async def read(self) -> None:
        try:
            await self._read()
        except ConnectionError:
            self.end(1006, "")
        finally:
            self._writer.close()

    async def _read(self) -> None:
        connection = self._connection
        await self._handle_events()  # of what came with the opening handshake
        while connection.state is not ConnectionState.CLOSED:
            connection.receive_data(await self._reader.read(READ_SIZE) or None)
            await self._handle_events()
        if connection.client:
            await self._reader.read()  # the server closes TCP first (RFC 6455, section 7.1.1)

    async def _handle_events(self) -> None:
        for event in self._connection.events():
            await self._handle(event)

    async def _handle(self, event: Event) -> None:
        match event:
            case TextMessage() | BytesMessage():
                await self._on_data(event)
            case Ping():
                await self.write(event.response())
            case Pong():
                if waiter := self._pongs.pop(bytes(event.payload), None):
                    waiter.set_result(None)
            case CloseConnection():
                if self._connection.state is ConnectionState.REMOTE_CLOSING:
                    await self.write(event.response())
                self.end(int(event.code), event.reason or "")

    async def _on_data(self, event: TextMessage | BytesMessage) -> None:
        data = event.data.encode() if isinstance(event, TextMessage) else bytes(event.data)
        self._parts.append(data)
        self._frames += event.frame_finished
        if event.message_finished:
            kind = "text" if isinstance(event, TextMessage) else "binary"
            await self.put(kind, b"".join(self._parts), self._frames)
            self._parts.clear()
            self._frames = 0

    async def send(self, kind: str, fragments: list[bytes]) -> None:
        for index, fragment in enumerate(fragments, 1):
            last = index == len(fragments)
            if kind == "text":
                await self.write(TextMessage(fragment.decode(), message_finished=last))
            else:
                await self.write(BytesMessage(fragment, message_finished=last))

    async def ping(self, payload: bytes) -> None:
        waiter = self._pongs[payload] = asyncio.get_running_loop().create_future()
        await self.write(Ping(payload))
        await waiter

    async def close(self, code: int | None, reason: str) -> None:
        none = CloseReason.NO_STATUS_RCVD  # wsproto looks for this very object
        await self.write(CloseConnection(none if code is None else code, reason or None))

    @asynccontextmanager
    async def running(self, options: Options) -> AsyncIterator[None]:
        tasks = [asyncio.create_task(self.read())]
        if times := options.get("keepalive"):
            tasks.append(asyncio.create_task(keep_alive(self, times, self._writer.transport.abort)))
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _extensions(options: Options) -> list[Extension]:
    return [PerMessageDeflate(**options["deflate"])] if "deflate" in options else []


@asynccontextmanager
async def connect(url: str, options: Options) -> AsyncIterator[Link]:
    parts = urlsplit(url)
    assert parts.hostname is not None
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    link = WsprotoLink(WSConnection(ConnectionType.CLIENT), reader, writer)
    await link.write(
        Request(
            host=parts.netloc,
            target=parts.path or "/",
            subprotocols=options.get("subprotocols") or [],
            extensions=_extensions(options),
        )
    )
    accepted = await link.shake_hands()
    assert isinstance(accepted, AcceptConnection), accepted
    link.subprotocol = accepted.subprotocol or ""
    async with link.running(options):
        yield link


@asynccontextmanager
async def serve(options: Options, opened: Callable[[Link], None]) -> AsyncIterator[str]:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = WsprotoLink(WSConnection(ConnectionType.SERVER), reader, writer)
        request = await link.shake_hands()
        assert isinstance(request, Request), request
        ours = options.get("subprotocols") or ()
        chosen = next((name for name in ours if name in request.subprotocols), None)
        await link.write(AcceptConnection(subprotocol=chosen, extensions=_extensions(options)))
        link.subprotocol = chosen or ""
        opened(link)
        async with link.running(options):
            await finished.wait()

    finished = asyncio.Event()
    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    async with server:
        yield url_of(server.sockets[0].getsockname())
        finished.set()


if __name__ == "__main__":
    main(connect, serve)
