"""Table X, row 11 on slow lines: how long a Pong waits behind a large message.

In front of it there may be the rest of one frame, what the kernel holds unsent, and what the line itself
holds. So it waits `(frame_size + unsent + queue) / rate`, where wsstream has to answer for the first two: the
kernel holds what the peer takes in 1/8 s, from 16 to 128 KiB; or more, on a fast line.
"""

from __future__ import annotations

import socket
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from random import Random
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream
from kit.line import Line, LineTransport, PacedSocket, kernel_line

import wsstream
from wsstream import Deflate, FlowControl, WebSocketStream
from wsstream.testing import RawPeer

pytestmark = pytest.mark.anyio

KIB = 1 << 10
MIB = 1 << 20
FRAME = 64 * KIB
QUEUE = 32 * KIB
PIPE = 32 * KIB + 16 * KIB
"""What a socket's line holds: the kernel's receive buffer, and a TLS record."""
UNKNOWN = 128 * KIB + 64 * KIB
MESSAGE = Random(11).randbytes(32 * MIB)


def unsent(rate: float) -> float:
    """Bytes that the kernel may hold unsent for a peer that takes `rate` bytes a second, below 16 MiB/s.

    It fills a packet without a look at its limit; only below 1 MiB/s is it offered less at a time.
    """
    return max(rate / 8, 16 * KIB) if rate < MIB else UNKNOWN


class PingingPeer:
    """Reads, and sends a Ping at odd times, never two at once. `clock` is that of the line.

    Attributes:
        waits: for each Ping, when it was sent and the seconds until its Pong.
        frames: for each frame of data, when it had come and its size.
    """

    def __init__(self, raw: RawPeer, clock: Callable[[], float]) -> None:
        self.waits: list[tuple[float, float]] = []
        self.frames: list[tuple[float, int]] = []
        self._raw = raw
        self._clock = clock
        self._ponged = anyio.Event()

    @property
    def received(self) -> int:
        return sum(size for _, size in self.frames)

    def longest(self, since: float = 0.0) -> float:
        waits = [wait for sent_at, wait in self.waits if sent_at >= since]
        assert len(waits) >= 5
        return max(waits)

    async def read(self, enough: Callable[[PingingPeer], bool]) -> None:
        """Read until there is `enough`."""
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._send_pings)
            while not enough(self):
                frame = await self._raw.read_frame()
                if frame.kind == "pong":
                    self._ponged.set()
                else:
                    self.frames.append((self._clock(), len(frame.payload)))
            tasks.cancel_scope.cancel()

    async def _send_pings(self) -> None:
        random = Random(11)
        while True:
            await anyio.sleep(random.uniform(0, 0.1))
            self._ponged = anyio.Event()
            sent_at = self._clock()
            await self._raw.ping()
            await self._ponged.wait()
            self.waits.append((sent_at, self._clock() - sent_at))


# -- in virtual time -----------------------------------------------------------------------------

Run = Callable[..., Awaitable[None]]


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """``run(role, rate, body)``: our endpoint in that role sends a large message over a line of that rate.

    `body` is given the peer and the line.
    """
    monkeypatch.setattr("wsstream.server.accept.StreamTransport", LineTransport)
    monkeypatch.setattr("wsstream.client.connector.StreamTransport", LineTransport)

    async def run(
        role: str,
        rate: float,
        body: Callable[[PingingPeer, Line], Awaitable[object]],
        message: bytes = MESSAGE,
        **options: Any,
    ) -> None:
        near, far, line = kernel_line(rate, queue=QUEUE)
        headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if options.get("compression") else []

        async def peer() -> None:
            handshake = RawPeer.as_server if role == "client" else RawPeer.as_client
            raw = await handshake(far, headers=headers)
            await body(PingingPeer(raw, anyio.current_time), line)
            await far.aclose()

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer)
            opening = (
                wsstream.connect("ws://testserver/", transport=near, close_timeout=0, **options)
                if role == "client"
                else wsstream.accept(near, close_timeout=0, **options)
            )
            async with opening as ws:
                with pytest.raises(wsstream.ConnectionBroken):
                    await ws.send(message)

    return run


@pytest.mark.heavy_after_first(each=("role",))
@pytest.mark.virtual_time
@pytest.mark.parametrize("compression", [None, Deflate()], ids=["plain", "deflate"])
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("rate", [100 * KIB, 400 * KIB, MIB, 8 * MIB], ids=["100k", "400k", "1m", "8m"])
async def test_x11_a_pong_waits_for_one_frame_and_little_else_on_a_slow_line(
    run: Run, role: str, rate: float, compression: Deflate | None
) -> None:
    async def body(peer: PingingPeer, line: Line) -> None:
        await peer.read(lambda peer: anyio.current_time() >= (8 * MIB / rate if rate > MIB else 12))
        rate_known = next(when for when, _ in peer.frames[5:])
        assert peer.longest() <= (FRAME + UNKNOWN + QUEUE) / rate + 0.02
        assert peer.longest(rate_known) <= (FRAME + unsent(rate) + QUEUE) / rate + 0.02
        assert {size for _, size in peer.frames} == {FRAME} or compression
        assert line.delivered >= 0.98 * rate * anyio.current_time()  # the line was never idle

    await run(role, rate, body, compression=compression)


@pytest.mark.virtual_time
async def test_x11_a_slow_line_is_known_as_such_when_the_transport_takes_bytes_again(run: Run) -> None:
    async def body(peer: PingingPeer, line: Line) -> None:
        await peer.read(lambda _: line.limits[-1] < 128 * KIB)
        assert line.delivered <= QUEUE + UNKNOWN

    await run("server", 100 * KIB, body)


@pytest.mark.virtual_time
async def test_x11_at_100_kib_a_second_smaller_frames_make_the_wait_as_short_as_they_are(run: Run) -> None:
    async def body(peer: PingingPeer, _: Line) -> None:
        await peer.read(lambda _: anyio.current_time() >= 12)
        assert peer.longest(4) <= (8 + 16 + 32) / 100 + 0.02

    await run("server", 100 * KIB, body, flow=FlowControl(frame_size=8 * KIB))


@pytest.mark.virtual_time
@pytest.mark.parametrize("role", ["client", "server"])
async def test_x11_when_a_fast_line_becomes_slow_what_was_handed_over_leaves_first(
    run: Run, role: str
) -> None:
    async def body(peer: PingingPeer, line: Line) -> None:
        await peer.read(lambda peer: peer.received >= 8 * MIB)
        assert line.limits[-1] == MIB
        assert peer.frames[-1][1] == MIB
        fell_at, line.rate = anyio.current_time(), MIB
        await peer.read(lambda _: anyio.current_time() >= fell_at + 5)
        # Unsent in the kernel, the frame in progress, and one that follows it.
        assert peer.longest() <= (2 * MIB + QUEUE) / MIB + 0.02
        assert max(when for when, size in peer.frames if size > FRAME) <= fell_at + 3.3
        assert peer.longest(fell_at + 3.3) <= (FRAME + unsent(MIB) + QUEUE) / MIB + 0.02

    await run(role, 400 * MIB, body)


@pytest.mark.virtual_time
async def test_x11_a_slow_line_that_becomes_fast_is_used_as_such(run: Run) -> None:
    async def body(peer: PingingPeer, line: Line) -> None:
        await peer.read(lambda _: anyio.current_time() >= 6)
        assert line.limits[-1] == 16 * KIB
        line.rate = 400 * MIB
        before = peer.received
        await peer.read(lambda peer: peer.received >= 28 * MIB)
        assert line.limits[-1] == MIB
        small = sum(size for _, size in peer.frames if size == FRAME) - before
        assert small <= 4 * MIB

    await run("server", 100 * KIB, body)


@pytest.mark.heavy
@pytest.mark.virtual_time
@pytest.mark.parametrize("rate", [2 * KIB, 100 * KIB], ids=["2k", "100k"])
async def test_keepalive_does_not_end_a_connection_that_is_only_slow(run: Run, rate: float) -> None:
    """With the usual `ping_interval` and `ping_timeout`, and a peer that never sends a byte by itself."""

    async def body(peer: PingingPeer, line: Line) -> None:
        raw = peer._raw
        line.rate = rate
        with anyio.move_on_after(60):
            while True:
                if (frame := await raw.read_frame()).kind == "ping":
                    await raw.pong(frame.payload)
        assert line.delivered >= 0.98 * rate * 60

    await run("server", rate, body, message=bytes(16 * MIB))


# -- over sockets --------------------------------------------------------------------------------


@asynccontextmanager
async def sending(net: Any, role: str) -> AsyncIterator[tuple[PingingPeer, PacedSocket]]:
    """Our endpoint in that role sends MESSAGE; its peer, and the line that the peer reads from."""
    ready, leave = anyio.Event(), anyio.Event()
    peers: list[tuple[PingingPeer, PacedSocket]] = []

    async def peer(sock: socket.socket) -> None:
        stream = PacedSocket(sock, 16 * MIB)
        handshake = RawPeer.as_server if role == "client" else RawPeer.as_client
        tls: Any = stream
        if net.scheme == "wss":
            context = net.server_tls if role == "client" else net.client_tls
            tls = await TLSStream.wrap(
                stream,
                server_side=role == "client",
                hostname=None if role == "client" else "127.0.0.1",
                ssl_context=context,
                standard_compatible=False,
            )
        peers.append((PingingPeer(await handshake(tls), time.monotonic), stream))
        ready.set()
        await leave.wait()
        await stream.aclose()

    async def send(ws: WebSocketStream) -> None:
        with pytest.raises(wsstream.ConnectionBroken):
            await ws.send(MESSAGE)

    async with anyio.create_task_group() as tasks:
        if role == "client":
            with socket.create_server(("127.0.0.1", 0)) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PacedSocket.BUFFER)
                port = listener.getsockname()[1]

                async def connect() -> None:
                    async with net.connect(f"{net.scheme}://127.0.0.1:{port}", close_timeout=0) as ws:
                        await send(ws)

                tasks.start_soon(connect)
                await anyio.wait_readable(listener)
                tasks.start_soon(peer, listener.accept()[0])
                await ready.wait()
                yield peers[0]
                leave.set()
        else:
            async with net.serve(send, close_timeout=0) as server:
                sock = socket.socket()
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, PacedSocket.BUFFER)
                sock.connect(("127.0.0.1", server.port))
                tasks.start_soon(peer, sock)
                await ready.wait()
                yield peers[0]
                leave.set()


@pytest.mark.slow
@pytest.mark.time_limit(120)
@pytest.mark.also_on_uvloop
@pytest.mark.parametrize("compression", [None])
@pytest.mark.parametrize("rate", [100 * KIB, MIB], ids=["100k", "1m"])
@pytest.mark.parametrize("role", ["client", "server"])
async def test_x11_over_sockets_a_pong_passes_32_mib_on_a_slow_line(net: Any, role: str, rate: float) -> None:
    async with sending(net, role) as (peer, stream):
        stream.rate = rate
        begin = time.monotonic()
        await peer.read(lambda peer: time.monotonic() >= begin + (10 if rate < MIB else 4))
        rate_known = next(when for when, _ in peer.frames[5:])
        assert peer.longest(rate_known) <= (FRAME + unsent(rate) + PIPE) / rate + 0.2


@pytest.mark.slow
@pytest.mark.time_limit(120)
@pytest.mark.parametrize("compression", [None])
@pytest.mark.parametrize("role", ["client", "server"])
async def test_x11_over_sockets_when_the_line_becomes_slow(net: Any, role: str) -> None:
    async with sending(net, role) as (peer, stream):
        stream.rate = 100 * MIB
        await peer.read(lambda peer: peer.received >= 4 * MIB and peer.frames[-1][1] >= 4 * FRAME)
        fell_at, stream.rate = time.monotonic(), MIB
        await peer.read(lambda peer: time.monotonic() >= fell_at + 5)
        assert peer.longest() <= (2 * MIB + PIPE) / MIB + 0.2
        assert peer.longest(fell_at + 3.5) <= (FRAME + unsent(MIB) + PIPE) / MIB + 0.2
