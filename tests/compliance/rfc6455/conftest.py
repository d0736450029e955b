"""What the tables of RFC 6455 run on: a row is played without I/O, and over a socket.

A row is a list of steps; its name begins with the section that has the rule. Frames are spelled without
masking; those that go to a server are masked by the player. Each row is played in both roles.

| step | meaning |
|---|---|
| ``("only", role)`` | the rule is for this role |
| ``("in", data)`` | the peer sends frames, of which the last may be cut anywhere |
| ``("raw", data)`` | the peer sends these very bytes |
| ``("case", case)`` | the peer sends a case of the catalogue, up to the byte that proves the violation |
| ``("mismasked", data)`` | the peer masks as a server, unmasked as a client |
| ``("sees", message)`` | the application gets this message next |
| ``("part", data)`` | it gets this much of a message that is not complete |
| ``("app", event)`` | it sends a message, a chunk (the last one empty), a Ping, a Close |
| ``("refused", event)`` | it cannot send this now, which changes nothing |
| ``("invalid", event)`` | it can never send this |
| ``("out", data)`` | these frames leave, and nothing before |
| ``("sends", message)`` | the application sends a message, and it leaves in one frame or in fragments |
| ``("state", name)`` | ``"open"``, ``"closing"`` or ``"closed"`` |
| ``("keys", count)`` | the last frames had a masking key of their own each, or none if a server sent them |
| ``("eof", None)`` | the peer ends TCP |
| ``("fails", code)`` | the last byte of what came proves a violation: Close with this code leaves at once |
| ``("breaks", code)`` | the same, but we had sent Close before, and no other follows |
| ``("ends", info)`` | the connection has ended so, and TCP is closed by the server first |

At the end of a row nothing else may have left or been seen; a connection that is still open answers a Ping.
"""

from __future__ import annotations

import os
import socket
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any, cast

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketListener
from kit import backends

import wsstream
from wsstream import CloseInfo, ConnectionBroken, ConnectionClosed, InvalidUTF8, ProtocolViolation
from wsstream.codec.events import Chunk, Close, Event, Ping
from wsstream.errors import check_close_arguments
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State, WrongState
from wsstream.testing import EXAMPLE_KEY, Frame, FrameCase, RawPeer, Role, parse_frames, ping, pong, text
from wsstream.testing import close as close_frame

Row = Sequence[tuple[str, Any]]
Opened = Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]]

ROLES: tuple[Role, Role] = ("client", "server")
ALL = 1 << 62
LIMIT = 10  # seconds for a row over a socket


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test with `row` and `role` runs for each row of its module's ROWS, in the roles it is for."""
    rows: dict[str, Row] = getattr(metafunc.module, "ROWS", {})
    if rows and {"row", "role"} <= set(metafunc.fixturenames):
        metafunc.parametrize(
            ("row", "role"),
            [
                pytest.param(row, role, id=f"{name}-{role}")
                for name, row in rows.items()
                for role in ROLES
                if dict(row).get("only", role) == role
            ],
        )


def masked(data: bytes, key: bytes = EXAMPLE_KEY) -> bytes:
    """Frames that are not masked, as a client sends them. A header without its payload stays without key."""
    out = bytearray()
    while len(data) > 1:
        size = 2 + {126: 2, 127: 8}.get(data[1], 0)
        header, length = data[:size], int.from_bytes(data[2:size]) if size > 2 else data[1]
        payload, data = data[size : size + length], data[size + length :]
        out += header[:1] + bytes([header[1] | 128]) + header[2:]
        if payload or header[1:] == b"\0":  # an extended length of 0 is a violation
            out += key + bytes(byte ^ key[i % 4] for i, byte in enumerate(payload))
    return bytes(out) + data


def frames_of(data: bytes) -> list[Frame]:
    return parse_frames(data, masked=False)


class Player:
    """The bookkeeping of both players."""

    def __init__(self, role: Role) -> None:
        self.role = role
        self.keys: list[bytes | None] = []
        self.over = False

    def same(self, actual: Frame, expected: Frame) -> None:
        """They are the same frame, but for the key; a Ping's payload is the endpoint's own."""
        self.keys.append(actual.mask)
        payload = actual.payload if expected.opcode == 9 else expected.payload
        assert actual == replace(expected, payload=payload, mask=actual.mask)

    @staticmethod
    def same_message(frames: Sequence[Frame], message: str | bytes) -> None:
        payload = message.encode() if isinstance(message, str) else message
        first = 1 if isinstance(message, str) else 2
        assert [frame.opcode for frame in frames] == [first, *[0] * (len(frames) - 1)]
        assert b"".join(frame.payload for frame in frames) == payload

    def to_endpoint(self, verb: str, data: bytes) -> bytes:
        if verb == "raw":
            return data
        return masked(data) if (self.role == "server") is (verb == "in") else data

    def check_keys(self, number: int) -> None:
        keys = self.keys[-number:]
        assert len(keys) == number
        if self.role == "server":
            assert set(keys) == {None}
        else:
            assert None not in keys
            assert len(set(keys)) == number


# -- without I/O -----------------------------------------------------------------------------------


class WithoutIO(Player):
    """Plays a row on a Connection; `bytewise` gives it each byte alone and sees where it fails."""

    def __init__(self, role: Role, *, bytewise: bool) -> None:
        super().__init__(role)
        self.connection = Connection(client=role == "client")
        self.bytewise = bytewise
        self.frames: deque[Frame] = deque()
        self.messages: deque[str | bytes] = deque()
        self.partial = b""
        self.ended = False

    def play(self, row: Row) -> None:
        for verb, argument in row:
            getattr(self, f"on_{verb}")(*([verb] if verb in ("in", "raw", "mismasked") else []), argument)
        if not self.over:
            assert self.connection.state is State.OPEN
            if not self.partial:
                self.on_in("in", ping(b"probe"))
                self.on_out(pong(b"probe"))
        assert not self.frames
        assert not self.messages

    def on_only(self, role: str) -> None:
        assert role == self.role

    def on_case(self, case: FrameCase) -> None:
        data = case.data(self.role)
        self.on_in("raw", data[: case.proof(self.role)] if self.bytewise else data)

    def on_in(self, verb: str, data: bytes) -> None:
        data = self.to_endpoint(verb, data)
        size = 1 if self.bytewise and len(data) < 1000 else len(data)
        for start in range(0, len(data), size):
            assert self.connection.violation is None, f"failed before byte {start} of {data.hex()}"
            self.feed(data[start : start + size])

    on_raw = on_mismasked = on_in

    def feed(self, data: bytes) -> None:
        while data:  # a call ends early where it has much to do
            self.take(self.connection.receive(data, ALL))
            data = data[self.connection.consumed :]
            if self.connection.state is State.VIOLATED:
                self.connection.fail()
            self.drain()

    def take(self, events: list[Event]) -> None:
        for event in events:
            if isinstance(event, str | bytes):
                self.messages.append(event)
            elif isinstance(event, Chunk):
                self.partial += event.payload
                if event.last:
                    whole = self.partial
                    self.messages.append(whole.decode() if event.kind == "text" else whole)
                    self.partial = b""

    def drain(self) -> None:
        outgoing, data = self.connection.queue, b""
        while offered := b"".join(outgoing.buffers()):
            data += offered
            outgoing.advance(len(offered))
        self.frames += parse_frames(data, masked=self.role == "client")

    def on_sees(self, message: str | bytes) -> None:
        seen = self.messages.popleft()
        assert (type(seen), seen) == (type(message), message)

    def on_part(self, data: bytes) -> None:
        assert self.partial == data

    def on_app(self, event: Event) -> None:
        self.connection.send(event)
        self.drain()

    def on_refused(self, event: Event) -> None:
        with pytest.raises(WrongState):
            self.connection.send(event)
        self.drain()

    def on_invalid(self, event: Event) -> None:
        with pytest.raises(ValueError):
            if isinstance(event, Close):
                check_close_arguments(event.code, event.reason)
            self.connection.send(event)
        self.drain()

    def on_out(self, data: bytes) -> None:
        for frame in frames_of(data):
            self.same(self.frames.popleft(), frame)

    def on_sends(self, message: str | bytes) -> None:
        self.on_app(message)
        frames = [self.frames.popleft()]
        while not frames[-1].fin:
            frames.append(self.frames.popleft())
        self.same_message(frames, message)

    def on_state(self, name: str) -> None:
        names = {State.OPEN: "open", State.CLOSED: "closed"}
        if name != "closed":  # that is when TCP has ended
            assert names.get(self.connection.state, "closing") == name

    def on_keys(self, number: int) -> None:
        self.check_keys(number)

    def on_eof(self, _: None) -> None:
        self.connection.receive_eof()

    def on_fails(self, code: int) -> None:
        assert self.connection.violation is not None
        self.on_out(close_frame(code, self.connection.violation.reason))
        self.on_breaks(code)

    def on_breaks(self, code: int) -> None:
        connection = self.connection
        assert connection.violation is not None
        assert connection.violation.code == code
        assert connection.violation.reason
        assert connection.state is State.FAILED
        self.feed(self.to_endpoint("in", text("late") + ping() + close_frame(1000)))
        assert connection.close_received is None
        for event in ("late", Ping(), Close()):
            self.on_refused(event)
        self.over = True

    def on_ends(self, info: tuple[int, str, bool]) -> None:
        code, reason, clean = info
        connection, received = self.connection, self.connection.close_received
        if received is None:
            assert (code, reason, clean) == (1006, "", False)
            assert connection.state is State.CLOSED
        else:
            assert (received.code or 1005, received.reason) == (code, reason)
            assert connection.close_sent is not None
            assert connection.message_cut is not clean
            assert connection.state is State.CLOSE_DONE
        self.over = True


@pytest.fixture(scope="session")
def play() -> Callable[[Row, str], None]:
    """Plays a row without I/O: in one piece, then byte by byte."""

    def play(row: Row, role: str) -> None:
        for bytewise in (False, True):
            WithoutIO(role, bytewise=bytewise).play(row)

    return play


@pytest.fixture(scope="session")
def to_endpoint() -> Callable[[str, bytes], bytes]:
    """Frames that are not masked, as they go to an endpoint of a role."""
    return lambda role, data: Player(role).to_endpoint("in", data)


# -- over a socket ---------------------------------------------------------------------------------


class OverSocket(Player):
    """Plays a row on a WebSocketStream and the raw peer that is connected to it."""

    def __init__(self, role: Role, ws: wsstream.WebSocketStream, peer: RawPeer, tasks: Any) -> None:
        super().__init__(role)
        self.ws = ws
        self.peer = peer
        self.tasks = tasks
        self.writer: AsyncExitStack | None = None
        self.sink: wsstream.MessageWriter | None = None
        self.reading = False

    async def play(self, row: Row) -> None:
        for verb, argument in row:
            await getattr(self, f"on_{verb}")(
                *([verb] if verb in ("in", "raw", "mismasked") else []), argument
            )
        if not self.over:
            assert self.ws.state == "open"
            if not self.reading:
                await self.on_in("in", ping(b"probe"))
                await self.on_out(pong(b"probe"))
            with pytest.raises(anyio.WouldBlock):
                await self.nothing_to_receive()

    async def nothing_to_receive(self) -> None:
        """Raise WouldBlock unless the application gets a message, or an error, at once."""
        with anyio.CancelScope() as scope:
            self.tasks.start_soon(self.cancel_when_blocked, scope)
            await self.ws.receive()
        if scope.cancelled_caught:
            raise anyio.WouldBlock

    @staticmethod
    async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    async def on_only(self, role: str) -> None:
        assert role == self.role

    async def on_case(self, case: FrameCase) -> None:
        await self.on_in("raw", case.data(self.role)[: case.proof(self.role)])

    async def on_in(self, verb: str, data: bytes) -> None:
        await self.peer.send(self.to_endpoint(verb, data))

    on_raw = on_mismasked = on_in

    async def on_sees(self, message: str | bytes) -> None:
        seen = await self.ws.receive()
        assert (type(seen), seen) == (type(message), message)

    async def on_part(self, data: bytes) -> None:
        self.reading = True
        async with self.ws.readable.message() as message:
            seen = b""
            while len(seen) < len(data):
                seen += await message.receive()
            assert (seen, message.complete) == (data, False)

    async def on_app(self, event: Event) -> None:
        match event:
            case str() | bytes():
                await self.ws.send(event)
            case Chunk():
                await self.send_chunk(event)
            case Ping():
                self.tasks.start_soon(self.ping)
                await anyio.wait_all_tasks_blocked()
            case Close():
                self.ws.begin_close(event.code, event.reason)

    async def ping(self) -> None:
        try:
            await self.ws.ping()
        except ConnectionClosed:
            pass

    async def send_chunk(self, chunk: Chunk) -> None:
        if self.writer is None:
            self.writer = AsyncExitStack()
            self.sink = await self.writer.enter_async_context(self.ws.writable.message(chunk.kind))
        assert self.sink is not None
        if chunk.last:
            assert not chunk.payload, "a writer cannot know yet that this is the last"
            writer, self.writer = self.writer, None
            await writer.aclose()
        else:
            await self.sink.send(chunk.payload)
            await self.sink.flush()

    async def on_refused(self, event: Event) -> None:
        with pytest.raises((ConnectionClosed, RuntimeError)):
            if isinstance(event, Ping):
                await self.ws.ping()
            elif isinstance(event, Chunk):
                await self.send_chunk(event)
            else:
                await self.ws.send(cast("str | bytes", event))

    async def on_invalid(self, event: Event) -> None:
        with pytest.raises(ValueError):
            if isinstance(event, Close):
                await self.ws.aclose(event.code, event.reason)
            else:
                await self.ws.send(cast("str | bytes", event))

    async def on_out(self, data: bytes) -> None:
        for frame in frames_of(data):
            self.same(await self.peer.read_frame(), frame)

    async def on_sends(self, message: str | bytes) -> None:
        self.tasks.start_soon(self.ws.send, message)
        frames = [await self.peer.read_frame()]
        while not frames[-1].fin:
            frames.append(await self.peer.read_frame())
        self.same_message(frames, message)

    async def on_state(self, name: str) -> None:
        await anyio.wait_all_tasks_blocked()
        assert self.ws.state == name

    async def on_keys(self, number: int) -> None:
        self.check_keys(number)

    async def on_eof(self, _: None) -> None:
        await self.peer.aclose()

    async def on_fails(self, code: int) -> None:
        """The application is reading."""
        self.tasks.start_soon(self.receive_until_broken)
        frame = await self.peer.read_frame()
        assert (frame.opcode, frame.close_code) == (8, code)
        await self.check_broken(code)
        await self.clean_up()
        assert self.ws.close_info == CloseInfo(code, frame.close_reason, False)
        for call in (partial(self.ws.send, "late"), self.ws.receive):
            with pytest.raises(ConnectionBroken) as caught:
                await call()
            self.check_error(caught.value, code)

    async def receive_until_broken(self) -> None:
        with pytest.raises(ConnectionBroken):
            await self.ws.receive()

    async def on_breaks(self, code: int) -> None:
        await self.check_broken(code)

    async def check_broken(self, code: int) -> None:
        """Nothing more leaves, and what comes is not heeded."""
        assert await self.peer.read_to_end() == []
        try:
            await self.on_in("in", text("late") + close_frame(1000))
        except anyio.BrokenResourceError:
            pass  # TCP is gone already
        await self.peer.aclose()
        with pytest.raises(ConnectionBroken) as caught:
            await self.ws.wait_closed()
        self.check_error(caught.value, code)
        self.over = True

    def check_error(self, error: ConnectionBroken, code: int) -> None:
        assert (error.info.code, error.info.clean) == (code, False)
        assert error.info.reason
        assert type(error.__cause__) is (InvalidUTF8 if code == 1007 else ProtocolViolation)

    async def on_ends(self, expected: tuple[int, str, bool]) -> None:
        info = CloseInfo(*expected)
        if info.code != 1006:
            if self.role == "server":
                assert await self.peer.read_to_end() == []
            else:
                await self.check_that_the_client_waits()
            await self.peer.aclose()
        if info.clean:
            assert await self.ws.wait_closed() == info
        else:
            with pytest.raises(ConnectionBroken) as caught:
                await self.ws.wait_closed()
            assert caught.value.info == info
        assert (self.ws.close_info, self.ws.state) == (info, "closed")
        self.over = True

    async def check_that_the_client_waits(self) -> None:
        """It leaves TCP open until the server has closed (section 7.1.1)."""
        await anyio.wait_all_tasks_blocked()
        assert self.ws.state == "closing"
        raw = self.peer.stream.extra(SocketAttribute.raw_socket)
        copy = socket.socket(fileno=os.dup(raw.fileno()))  # asyncio's own has no recv
        with copy, pytest.raises(BlockingIOError):  # and not b"", the end
            copy.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT)

    async def clean_up(self) -> None:
        """Leave the writer, if one is open, whatever it says."""
        if self.writer is not None:
            writer, self.writer = self.writer, None
            with anyio.CancelScope(shield=True):
                try:
                    await writer.aclose()
                except wsstream.WebSocketError:
                    pass


@pytest.fixture(scope="module")
def anyio_backend(request: pytest.FixtureRequest) -> backends.Backend:
    """One event loop, and so one server, for a module."""
    return backends.backend(request.param, request.node)


class Handler:
    """A server's handler that hands its connection to the test and waits until the test has done with it."""

    def __init__(self) -> None:
        self.send, self.opened = anyio.create_memory_object_stream[wsstream.WebSocketStream]()

    async def __call__(self, ws: wsstream.WebSocketStream) -> None:
        ws.request.state.done = anyio.Event()
        await self.send.send(ws)
        await ws.request.state.done.wait()


@pytest.fixture(scope="module")
async def served(anyio_backend: str) -> AsyncIterator[tuple[wsstream.Server, Handler]]:
    handler = Handler()
    with handler.send, handler.opened:
        async with wsstream.serve(handler, "127.0.0.1", ping_interval=None, shutdown_timeout=0) as server:
            yield server, handler


@pytest.fixture(scope="module")
async def listener(anyio_backend: str) -> AsyncIterator[SocketListener]:
    """Where raw servers wait for our client."""
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as sockets:
        yield sockets.listeners[0]


@pytest.fixture(scope="module")
def opened(served: tuple[wsstream.Server, Handler], listener: SocketListener) -> Opened:
    """``opened(role, **options)``: our endpoint in that role, and a raw peer, over a new TCP connection."""

    @asynccontextmanager
    async def our_server() -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
        server, handler = served
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            peer = await RawPeer.as_client(stream)
            ws = await handler.opened.receive()
            try:
                yield ws, peer
            finally:
                ws.request.state.done.set()

    @asynccontextmanager
    async def our_own_server(**options: Any) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
        """For what the one server's options are not right for."""
        peers: list[RawPeer] = []

        async def connect() -> None:
            host, port = listener.extra(SocketAttribute.local_address)
            peers.append(await RawPeer.as_client(await anyio.connect_tcp(str(host), port)))

        async with AsyncExitStack() as stack:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(connect)
                accepting = wsstream.accept(await listener.accept(), ping_interval=None, **options)
                ws = await stack.enter_async_context(accepting)
            async with peers[0]:
                yield ws, peers[0]

    @asynccontextmanager
    async def our_client(**options: Any) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
        peers: list[RawPeer] = []

        async def accept() -> None:
            peers.append(await RawPeer.as_server(await listener.accept()))

        host, port = listener.extra(SocketAttribute.local_address)
        async with AsyncExitStack() as stack:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(accept)
                connecting = wsstream.connect(f"ws://{host}:{port}", ping_interval=None, **options)
                ws = await stack.enter_async_context(connecting)
            async with peers[0]:
                yield ws, peers[0]

    def opened(
        role: str, **options: Any
    ) -> AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]:
        if role == "client":
            return our_client(**options)
        return our_own_server(**options) if options else our_server()

    return opened


@pytest.fixture
def play_over_socket(opened: Opened) -> Callable[[Row, str], Awaitable[None]]:
    """Plays a row between our endpoint and a raw peer over TCP."""

    async def play_over_socket(row: Row, role: str) -> None:
        with anyio.fail_after(LIMIT):
            async with opened(role) as (ws, peer), anyio.create_task_group() as tasks:
                player = OverSocket(role, ws, peer, tasks)
                try:
                    await player.play(row)
                finally:
                    await player.clean_up()
                    tasks.cancel_scope.cancel()

    return play_over_socket
