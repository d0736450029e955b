"""What the tables of RFC 7692 run on: our endpoint without I/O and over a socket, against zlib alone.

A row knows nothing of roles. Where a parameter belongs to one side, it is written ``{ours}_...`` or
``{theirs}_...``; the tests put in "client" and "server" both ways round.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute
from kit.zlib_peer import NAME

import wsstream
from wsstream import ConnectionBroken, Deflate, InvalidUTF8, MessageTooBig, ProtocolViolation, StreamEnded
from wsstream.codec.events import Violation
from wsstream.driver.flow import FlowControl
from wsstream.driver.inbox import Inbox
from wsstream.opening.deflate_offer import accept_offer, confirm_response
from wsstream.opening.extensions import format_extensions, parse_extensions
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.protocol.state import State
from wsstream.testing import EXAMPLE_KEY, Frame, RawPeer, frame, parse_frames

HEADER = "Sec-WebSocket-Extensions"
ALL = 1 << 62
ALWAYS = Deflate(min_size=0)
Sent = tuple[int, bytes, dict[str, bool]]


class Outcome(NamedTuple):
    """What the application got, and the close code with which the connection was failed, if it was."""

    messages: list[str | bytes]
    code: int | None = None


def answer_for(role: str, params: str | None) -> str | None:
    """The server's answer where our endpoint has this role."""
    theirs = "client" if role == "server" else "server"
    return None if params is None else NAME + params.format(ours=role, theirs=theirs)


def encode(frames: Iterable[Sent], mask: bytes | None) -> bytes:
    """The bytes of frames that are given as (opcode, payload, options of `wsstream.testing.frame`)."""
    return b"".join(frame(opcode, payload, mask=mask, **options) for opcode, payload, options in frames)


# -- without I/O ---------------------------------------------------------------------------------


def agree(role: str, answer: str, options: Deflate) -> Agreed:
    """What our endpoint agrees on where `answer` is the server's answer."""
    extensions = parse_extensions([answer])
    if role == "client":
        agreed = confirm_response(options, extensions)
        assert agreed is not None
        return agreed
    accepted = accept_offer(options, extensions)
    assert accepted is not None
    assert format_extensions([accepted[0]]) == answer
    return accepted[1]


class Offline:
    """An endpoint without I/O: a connection, and the inbox that an application takes messages from."""

    def __init__(self, role: str, params: str | None, options: Deflate, limit: int | None) -> None:
        self.role = role
        self.mask = EXAMPLE_KEY if role == "server" else None
        answer = answer_for(role, params)
        agreed = None if answer is None else agree(role, answer, options)
        self.connection = Connection(client=role == "client", deflate=agreed)
        self.inbox = Inbox(FlowControl(), self.connection.inflater)
        self.limit = limit
        self.messages: list[str | bytes] = []
        self.code: int | None = None
        self.begun = b""  # of the message that is taken in chunks

    def run(self, frames: Iterable[Sent], *, piece: int = ALL, take: int | None = None) -> Outcome:
        """Receive `frames` in pieces; take messages whole, or in chunks of `take` bytes.

        Stops as an application does: at the first error. A message that is not complete is left out.
        """
        data = encode(frames, self.mask)
        for start in range(0, len(data), min(piece, len(data) or 1)):
            self._receive(data[start : start + piece])
            if not self._take(take):
                break
        return Outcome(self.messages, self.code)

    def frames_sent(self) -> list[Frame]:
        """What waits to be written."""
        outgoing, data = self.connection.queue, b""
        while buffers := outgoing.buffers():
            data += b"".join(buffers)
            outgoing.advance(sum(map(len, buffers)))
        return parse_frames(data, masked=self.role == "client")

    def _receive(self, data: bytes) -> None:
        while data:
            events = self.connection.receive(data, ALL)
            self.inbox.put(events, self.connection.cost)
            data = data[self.connection.consumed :]
            if self.connection.state is State.VIOLATED:
                self.connection.fail()
        if self.connection.violation is not None:
            self.code = int(self.connection.violation.code)

    def _take(self, chunk: int | None) -> bool:
        try:
            while (message := self._take_one(chunk)) is not None or self.inbox.more_ready:
                if message is not None:
                    self.messages.append(message)
        except (InvalidUTF8, ProtocolViolation, MessageTooBig) as error:
            self.connection.fail(Violation(error.code, str(error)))
            self.code = self.code or int(error.code)
            return False
        return True

    def _take_one(self, chunk: int | None) -> str | bytes | None:
        if chunk is None:
            return self.inbox.take_message(self.limit)
        kind = self.inbox.begin()
        if kind is None:
            return None
        while piece := self.inbox.take_chunk(chunk):
            assert len(piece) <= chunk
            self.begun += piece
        if not self.inbox.is_complete:
            return None
        self.inbox.finish()
        whole, self.begun = self.begun, b""
        return whole.decode() if kind == "text" else whole


@pytest.fixture
def offline() -> Callable[..., Offline]:
    """``offline(role, params, options, limit)``: with `params` ``None`` nothing was negotiated."""

    def make(
        role: str, params: str | None = "", options: Deflate = ALWAYS, limit: int | None = 1 << 20
    ) -> Offline:
        return Offline(role, params, options, limit)

    return make


# -- over a socket -------------------------------------------------------------------------------


class Online:
    """Our endpoint over a socket, and the raw peer that it talks to."""

    def __init__(self, ws: wsstream.WebSocketStream, peer: RawPeer) -> None:
        self.ws = ws
        self.peer = peer

    async def send(self, frames: Iterable[Sent]) -> None:
        """Have the peer send `frames`."""
        await self.peer.send(encode(frames, self.peer.mask))

    async def run(self, frames: Iterable[Sent], *, close: bool) -> Outcome:
        """Have the peer send `frames`, then Close if `close`; take all messages."""
        messages: list[str | bytes] = []
        await self.send(frames)
        if close:
            await self.peer.close(1000)
        code: int | None = None
        try:
            while True:
                messages.append(await self.ws.receive())
        except StreamEnded:
            pass
        except MessageTooBig:
            code = 1009
        except ConnectionBroken as error:
            code = error.info.code
        return Outcome(messages, code)

    async def close_code_sent(self) -> int | None:
        """Of the Close frame that our endpoint sent."""
        while (received := await self.peer.read_frame()).kind != "close":
            assert received.kind == "pong"
        return received.close_code


Opening = AbstractAsyncContextManager[Online]


@asynccontextmanager
async def listening(handler: Callable[[ByteStream], Any]) -> AsyncIterator[str]:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, handler)
        yield f"ws://127.0.0.1:{listener.listeners[0].extra(SocketAttribute.local_port)}"
        tasks.cancel_scope.cancel()


@asynccontextmanager
async def client_of_ours(fields: Sequence[str], **options: Any) -> AsyncIterator[Online]:
    """Our client, and a peer whose answer has a header field for each of `fields`."""
    peers: list[RawPeer] = []
    ready = anyio.Event()

    async def accept(stream: ByteStream) -> None:
        async with stream:
            peers.append(await RawPeer.as_server(stream, headers=[(HEADER, field) for field in fields]))
            ready.set()
            await anyio.sleep_forever()

    async with listening(accept) as url, wsstream.connect(url, close_timeout=0, **options) as ws:
        await ready.wait()
        yield Online(ws, peers[0])


@asynccontextmanager
async def server_of_ours(fields: Sequence[str], **options: Any) -> AsyncIterator[Online]:
    """Our server, and a peer whose request has a header field for each of `fields`."""
    connections: list[wsstream.WebSocketStream] = []
    ready, done = anyio.Event(), anyio.Event()

    async def handler(ws: wsstream.WebSocketStream) -> None:
        connections.append(ws)
        ready.set()
        await done.wait()

    async with wsstream.serve(handler, "127.0.0.1", close_timeout=0, **options) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        async with stream:
            peer = await RawPeer.as_client(stream, headers=[(HEADER, field) for field in fields])
            await ready.wait()
            try:
                yield Online(connections[0], peer)
            finally:
                done.set()


@pytest.fixture
def online() -> Callable[..., Opening]:
    """``online(role, params, options, limit)``: as `offline`, over TCP, with the same agreement."""

    def make(
        role: str, params: str | None = "", options: Deflate = ALWAYS, limit: int | None = 1 << 20
    ) -> Opening:
        answer = answer_for(role, params)
        fields = [] if answer is None else [answer]
        opened = client_of_ours if role == "client" else server_of_ours
        compression = None if params is None else options
        return opened(fields, compression=compression, max_message_size=limit)

    return make


@pytest.fixture
def our_client() -> Callable[..., Opening]:
    return client_of_ours


@pytest.fixture
def our_server() -> Callable[..., Opening]:
    return server_of_ours


@pytest.fixture
def raw_listener() -> Callable[..., AbstractAsyncContextManager[str]]:
    """``raw_listener(handler)`` calls `handler` with the byte stream of each client, and gives the URL."""
    return listening
