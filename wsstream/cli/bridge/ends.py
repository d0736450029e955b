"""The ends of a bridge: what an argument such as ``tcp:localhost:22`` means, and how each is opened."""

from __future__ import annotations

import argparse
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias

import anyio
from anyio.abc import ByteStream

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.opening import Dial
from wsstream.cli.options.values import Address, address
from wsstream.cli.serving import Bind
from wsstream.cli.standard_stream import StandardStream
from wsstream.streams.bytestream import WebSocketByteStream
from wsstream.streams.websocket import WebSocketStream

__all__ = [
    "OFFERED",
    "PIPE",
    "SUBPROTOCOLS",
    "Dialled",
    "End",
    "Listening",
    "Open",
    "Standard",
    "WebSocketURL",
    "byte_stream_of",
    "open_socket",
    "opener",
    "parse_end",
]

PIPE = "wsstream.pipe.v1"
"""The subprotocol in which an empty binary message ends one direction."""

SUBPROTOCOLS = (PIPE, "binary")
"""What is spoken, the preferred first; ``binary`` is websockify's, which has no mark."""

OFFERED = SUBPROTOCOLS[::-1]
"""The same, as a client offers it. A server of wsstream goes by its own order. websockify does not strip the
blank after a comma, so it finds ``binary`` only at the beginning."""

Open: TypeAlias = Callable[[], AbstractAsyncContextManager[ByteStream]]
"""Opens one end. Leaving the block closes it, if it is open then."""


@dataclass(frozen=True, slots=True)
class Standard:
    """stdin and stdout."""


@dataclass(frozen=True, slots=True)
class Dialled:
    """A TCP connection or one to a Unix socket. `target` is host and port, or a path."""

    target: Address | str


@dataclass(frozen=True, slots=True)
class WebSocketURL:
    """A WebSocket that is opened."""

    url: str


@dataclass(frozen=True, slots=True)
class Listening:
    """Connections that come in: WebSockets on `path`, or streams of bytes."""

    bind: Bind
    websocket: bool = False
    path: str | None = None


End: TypeAlias = Standard | Dialled | WebSocketURL | Listening


def parse_end(text: str) -> End:
    """Return the end that an argument names.

    Raises:
        CommandFailed: it names none.
    """
    scheme, colon, rest = text.partition(":")
    match scheme.lower() if colon else text:
        case "stdio" if not colon:
            return Standard()
        case "tcp" if rest:
            return Dialled(_address(text, rest))
        case "unix" if rest:
            return Dialled(rest)
        case "tcp-listen" if rest:
            return Listening(_address(text, rest))
        case "unix-listen" if rest:
            return Listening(rest)
        case "ws-listen" if rest:
            where, slash, path = rest.partition("/")
            return Listening(_address(text, where), websocket=True, path=slash + path if slash else None)
        case "ws" | "wss" | "http" | "https" | "ws+unix" | "wss+unix":
            return WebSocketURL(text)
    raise CommandFailed(Exit.USAGE, f"{text!r} is no end of a bridge; 'wsstream bridge --help' lists them")


def _address(text: str, rest: str) -> Address:
    try:
        return address(rest)
    except argparse.ArgumentTypeError as error:
        raise CommandFailed(Exit.USAGE, f"{text!r}: {error}") from None


def byte_stream_of(ws: WebSocketStream) -> WebSocketByteStream:
    """The bytes of `ws`, with the end mark of the subprotocol that was agreed on."""
    return ws.byte_stream(eof=b"" if ws.subprotocol == PIPE else None)


async def open_socket(sock: socket.socket) -> ByteStream:
    """A stream of an accepted `sock`, which it owns."""
    kind = anyio.abc.UNIXSocketStream if sock.family == socket.AF_UNIX else anyio.abc.SocketStream
    return await kind.from_socket(sock)


def opener(end: End, dial: Dial | None, websockets: set[WebSocketStream]) -> Open:
    """What opens `end`, which does not listen. Open WebSockets are in `websockets`; `dial` opens them."""

    @asynccontextmanager
    async def open_standard() -> AsyncIterator[ByteStream]:
        yield StandardStream()

    @asynccontextmanager
    async def open_connection() -> AsyncIterator[ByteStream]:
        assert isinstance(end, Dialled)
        if isinstance(end.target, str):
            stream: ByteStream = await anyio.connect_unix(end.target)
        else:
            stream = await anyio.connect_tcp(*end.target)
        async with stream:
            yield stream

    @asynccontextmanager
    async def open_websocket() -> AsyncIterator[ByteStream]:
        assert dial is not None
        async with dial() as ws:
            websockets.add(ws)
            try:
                yield byte_stream_of(ws)
            finally:
                websockets.discard(ws)

    if isinstance(end, Standard):
        return open_standard
    return open_connection if isinstance(end, Dialled) else open_websocket
