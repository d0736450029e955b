"""Who is alive: keepalive over real and simulated transports, and how long a stalled end may take."""

from __future__ import annotations

import logging
import socket
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import anyio
import pytest

import wsstream
from wsstream.opening.handshake import accept_key
from wsstream.streams.websocket import ending_of
from wsstream.testing import RateStream, RawPeer, connected_pair, frames, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

RawServer = Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]]


async def _send_until_it_ends(ws: wsstream.WebSocketStream) -> wsstream.ConnectionBroken:
    with pytest.raises(wsstream.ConnectionBroken) as caught:
        while True:
            await ws.send(bytes(65536))
    return caught.value


@asynccontextmanager
async def _raw_client(**options: Any) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
    """A server of ours, and a client that a test plays."""
    ours, theirs = memory_pair(1 << 16)
    accepting = wsstream.accept(ours, **options)
    opened: list[wsstream.WebSocketStream] = []

    async def accept() -> None:
        opened.append(await accepting.__aenter__())

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(accept)
        peer = await RawPeer.as_client(theirs)
    try:
        yield opened[0], peer
    finally:
        await accepting.__aexit__(None, None, None)


@pytest.fixture(params=["client", "server"])
def hung_peer(request: pytest.FixtureRequest, raw_server: RawServer) -> RawServer:
    """``async with hung_peer(**options) as (ws, peer)``: the peer does nothing by itself."""
    return raw_server if request.param == "client" else _raw_client


@pytest.mark.parametrize(("interval", "timeout"), [(5, 3), (3, 5), (4, 4)])
async def test_a_peer_that_hangs_while_output_is_blocked_is_given_up_in_time(
    hung_peer: RawServer, interval: float, timeout: float
) -> None:
    async with hung_peer(ping_interval=interval, ping_timeout=timeout, close_timeout=1) as (ws, _):
        start = anyio.current_time()
        error = await _send_until_it_ends(ws)
        assert isinstance(error.__cause__, wsstream.KeepaliveTimeout)
        assert anyio.current_time() - start == pytest.approx(interval + timeout, abs=0.1)


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("rate", [20_000, 100_000])
async def test_a_peer_that_reads_slowly_but_steadily_is_alive(rate: float) -> None:
    """Its Pongs are behind what it has not read, and nothing tells how far that is."""
    ours, theirs = memory_pair(1 << 16)
    streams = RateStream(ours, send=rate), theirs
    options = {"ping_interval": 4, "ping_timeout": 4}
    quiet = {"ping_interval": None}
    async with (
        connected_pair(streams=streams, client_options=options, server_options=quiet) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        read = 0

        async def send() -> None:
            while True:
                await ws.send(bytes(500_000))

        tasks.start_soon(send)
        with anyio.move_on_after(120):
            async for message in peer:
                read += len(message)
        assert ws.state == "open"
        assert read >= 100 * rate
        tasks.cancel_scope.cancel()


@pytest.mark.parametrize(("interval", "timeout"), [(1, 1), (1, 4), (1, 20), (4, 1)])
async def test_pings_come_each_interval_whatever_the_timeout_is(
    hung_peer: RawServer, interval: float, timeout: float
) -> None:
    async with (
        hung_peer(ping_interval=interval, ping_timeout=timeout) as (_, peer),
        anyio.create_task_group() as tasks,
    ):
        pings = []

        async def answer() -> None:
            while True:
                frame = await peer.read_frame()
                if frame.kind == "ping":
                    pings.append(anyio.current_time())
                    await peer.pong(frame.payload)

        start = anyio.current_time()
        tasks.start_soon(answer)
        await anyio.sleep(20.5 * interval)
        tasks.cancel_scope.cancel()
    assert [time - start for time in pings] == pytest.approx([interval * n for n in range(1, 21)], abs=0.1)


async def test_a_slow_reader_sends_pongs_though_it_never_pauses_for_long(hung_peer: RawServer) -> None:
    """What a peer of another make has to go by: its own Pings wait unseen behind its data."""
    async with (
        hung_peer(ping_interval=2, ping_timeout=2) as (ws, peer),
        anyio.create_task_group() as tasks,
    ):
        frames: list[str] = []

        async def flood() -> None:
            while True:
                await peer.binary(bytes(60_000))

        async def read() -> None:
            while True:
                frames.append((await peer.read_frame()).kind)

        tasks.start_soon(flood)
        tasks.start_soon(read)
        with anyio.move_on_after(20.5):
            async for _ in ws.readable:
                await anyio.sleep(0.2)
        assert frames == ["pong"] * 10
        tasks.cancel_scope.cancel()


# -- the end ----------------------------------------------------------------------------------------


async def test_a_peer_that_sent_close_and_reads_no_more_is_dropped_after_two_seconds(
    hung_peer: RawServer,
) -> None:
    """A page that cancels a download: it says Close and never reads the rest."""
    async with hung_peer(close_timeout=10) as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_send_until_it_ends, ws)
        await anyio.wait_all_tasks_blocked()
        await peer.close(1000)
        start = anyio.current_time()
        assert (await ws.wait_closed()).code == 1000
        assert anyio.current_time() - start == pytest.approx(2, abs=0.6)


async def test_a_peer_that_sent_close_and_reads_on_slowly_gets_all_the_time(hung_peer: RawServer) -> None:
    async with hung_peer(close_timeout=60) as (ws, peer), anyio.create_task_group() as tasks:
        tasks.start_soon(_send_until_it_ends, ws)
        await anyio.wait_all_tasks_blocked()
        await peer.close(1000)
        frames = []
        for _ in range(1000):
            frames.append(await peer.read_frame())
            await anyio.sleep(1)
            if frames[-1].kind == "close":
                break
        assert frames[-1].kind == "close"
        await peer.aclose()


async def test_leaving_waits_for_a_reader_that_pauses(hung_peer: RawServer) -> None:
    """What was sent is not given up after two seconds: nobody said that it is not wanted."""
    async with anyio.create_task_group() as tasks:
        async with hung_peer(close_timeout=30) as (ws, peer):
            with anyio.move_on_after(0.1):  # it is handed over, so it goes out whole
                await ws.send(bytes(2_000_000))

            async def read() -> None:
                await anyio.sleep(10)
                read = 0
                while (frame := await peer.read_frame()).kind != "close":
                    read += len(frame.payload)
                await peer.close(1000)
                assert read == 2_000_000

            tasks.start_soon(read)
            await anyio.sleep(0.1)
        assert ws.close_info == (1000, "", True)


async def test_a_standstill_of_both_directions_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    async with connected_pair() as (client, server), anyio.create_task_group() as tasks:

        async def send(ws: wsstream.WebSocketStream) -> None:
            while True:
                await ws.send(bytes(65536))

        tasks.start_soon(send, client)
        tasks.start_soon(send, server)
        await anyio.sleep(300)
        assert (client.state, server.state) == ("open", "open")
        warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
        assert sorted(text.split(":")[0] for text in warnings) == sorted(
            f"connection {ws.id}" for ws in (client, server)
        )
        assert all("both directions have stood still for 30 s" in text for text in warnings)
        tasks.cancel_scope.cancel()


# -- real sockets, where the kernel and the peer's system hold bytes, too ---------------------------------


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio", ("asyncio", {"use_uvloop": True})], ids=str)
@pytest.mark.parametrize("kind", ["tcp", "small tcp", "tls", "unix", "transport"])
async def test_a_peer_that_hangs_is_given_up_over_real_sockets(
    anyio_backend: object,
    kind: str,
    tmp_path_factory: pytest.TempPathFactory,
    server_tls: ssl.SSLContext,
    client_tls: ssl.SSLContext,
) -> None:
    """The peer's process reads nothing more, as after SIGSTOP; its system takes what its buffers hold."""
    with socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET) as listener:
        listener.bind(str(tmp_path_factory.mktemp("s") / "s") if kind == "unix" else ("127.0.0.1", 0))
        if kind == "small tcp":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.listen()
        address = listener.getsockname()
        if kind == "unix":
            transport: Any = await anyio.connect_unix(address)
        else:
            transport = await anyio.connect_tcp(*address) if kind == "transport" else None
        scheme = "wss" if kind == "tls" else "ws"
        url = "ws://localhost/" if kind == "unix" else f"{scheme}://127.0.0.1:{address[1]}/"
        options: Any = {"ping_interval": 0.2, "ping_timeout": 0.2, "close_timeout": 1}
        if kind == "tls":
            options["ssl"] = client_tls
        connecting = wsstream.connect(url, transport=transport, **options)
        peers: list[socket.socket] = []
        async with anyio.create_task_group() as tasks:
            context = server_tls if kind == "tls" else None
            tasks.start_soon(anyio.to_thread.run_sync, _answer_and_hang, listener, peers, context)
            ws = await connecting.__aenter__()
        start = anyio.current_time()
        error = await _send_until_it_ends(ws)
        assert isinstance(error.__cause__, wsstream.KeepaliveTimeout)
        assert 0.3 < anyio.current_time() - start < 1.5  # 0.4 on a quiet machine
        await connecting.__aexit__(None, None, None)
        peers[0].close()


def _answer_and_hang(
    listener: socket.socket, peers: list[socket.socket], context: ssl.SSLContext | None
) -> None:
    peer, _ = listener.accept()
    if context is not None:
        peer = context.wrap_socket(peer, server_side=True)
    peers.append(peer)
    head = b""
    while b"\r\n\r\n" not in head:
        head += peer.recv(4096)
    key = head.lower().split(b"sec-websocket-key: ")[1]
    key = head[-len(key) :].split(b"\r\n")[0]
    peer.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept_key(key.decode()).encode() + b"\r\n\r\n"
    )


# -- a message that does not come to its end -----------------------------------------------------------


async def test_a_message_that_drips_in_may_be_bounded(raw_server: RawServer) -> None:
    async with raw_server(receive_timeout=5, ping_interval=1, ping_timeout=1) as (ws, peer):
        start = anyio.current_time()
        await peer.binary(b"x", declared_length=1000)

        with anyio.move_on_after(60):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_drip, peer)
                with pytest.raises(wsstream.ConnectionBroken) as caught:
                    await ws.receive()
                tasks.cancel_scope.cancel()
        assert anyio.current_time() - start == pytest.approx(5, abs=0.1)
        assert isinstance(caught.value.__cause__, wsstream.ReceiveTimeout)
        assert caught.value.code == 1008


async def _drip(peer: RawPeer) -> None:
    """One byte of a payload each half second; its key is the one that `RawPeer` uses."""
    while True:
        await anyio.sleep(0.5)
        await peer.send(b"x")


async def test_a_header_that_drips_in_is_bounded_too(raw_server: RawServer) -> None:
    async with raw_server(receive_timeout=5, ping_interval=None) as (ws, peer):
        await peer.send(b"\x82")
        with pytest.raises(wsstream.ConnectionBroken) as caught, anyio.fail_after(20):
            await ws.receive()
        assert isinstance(caught.value.__cause__, wsstream.ReceiveTimeout)


async def test_read_in_chunks_a_message_may_take_any_time_while_it_goes_on(raw_server: RawServer) -> None:
    async with raw_server(receive_timeout=5, ping_interval=None) as (ws, peer):
        await peer.binary(b"x", declared_length=1000)
        async with ws.readable.message() as reader:
            for _ in range(30):
                assert await reader.receive() == b"x"
                await peer.send(b"x")
                await anyio.sleep(4)
            assert await reader.receive() == b"x"
            with pytest.raises(wsstream.ConnectionBroken) as caught, anyio.fail_after(5.1):
                await reader.receive()
        assert isinstance(caught.value.__cause__, wsstream.ReceiveTimeout)


async def test_the_time_in_which_reading_is_paused_does_not_count(raw_server: RawServer) -> None:
    async with raw_server(receive_timeout=5, ping_interval=None, max_message_size=None) as (ws, peer):
        size = 2_000_000
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer.binary, bytes(size))
            await anyio.sleep(60)
            assert ws.statistics().reading_paused
            assert len(await ws.receive()) == size


async def test_whole_messages_and_pauses_between_them_are_not_bounded(raw_server: RawServer) -> None:
    async with raw_server(receive_timeout=5, ping_interval=None) as (ws, peer):
        for _ in range(5):
            await peer.text("whole")
            await peer.send(frames.text("be", fin=False))
            await anyio.sleep(4)
            await peer.send(frames.continuation("gun"))
            assert [await ws.receive(), await ws.receive()] == ["whole", "begun"]
            await anyio.sleep(10)


async def test_a_server_may_ask_for_a_least_rate() -> None:
    rate = wsstream.ReceiveRate(at_least=1000)
    async with _raw_client(receive_rate=rate, ping_interval=None) as (ws, peer):
        start = anyio.current_time()
        await peer.binary(b"x", declared_length=100_000)
        async with ws.readable.message() as reader, anyio.create_task_group() as tasks:
            tasks.start_soon(_drip, peer)
            with pytest.raises(wsstream.ConnectionBroken) as caught:
                async for _ in reader:
                    pass
            tasks.cancel_scope.cancel()
        assert isinstance(caught.value.__cause__, wsstream.ReceiveTimeout)
        assert anyio.current_time() - start == pytest.approx(5, abs=0.2)


async def test_a_peer_that_is_fast_enough_may_take_any_time() -> None:
    rate = wsstream.ReceiveRate(at_least=1000)
    async with _raw_client(receive_rate=rate, ping_interval=None) as (ws, peer):
        await peer.binary(b"x", declared_length=100_000)
        async with ws.readable.message() as reader, anyio.create_task_group() as tasks:

            async def send() -> None:
                for _ in range(99):
                    await anyio.sleep(0.9)
                    await peer.send(bytes(1000))
                await peer.send(bytes(999))

            tasks.start_soon(send)
            assert len(await reader.read()) == 100_000


async def test_a_server_that_shuts_down_drops_who_reads_nothing_after_two_seconds(
    hung_peer: RawServer,
) -> None:
    async with hung_peer(close_timeout=60) as (ws, _), anyio.create_task_group() as tasks:

        async def send() -> None:
            with pytest.raises(wsstream.ConnectionClosed):
                while True:
                    await ws.send(bytes(65536))

        tasks.start_soon(send)
        await anyio.wait_all_tasks_blocked()
        start = anyio.current_time()
        ending_of(ws).close(1001, "", hurried=True)
        with pytest.raises(wsstream.ConnectionBroken):
            await ws.wait_closed()
        assert anyio.current_time() - start == pytest.approx(2, abs=0.6)
