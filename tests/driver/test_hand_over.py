"""How much may wait before a control frame: the rule by itself, and over sockets."""

from __future__ import annotations

import socket
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import SocketAttribute
from hypothesis import given
from hypothesis import strategies as st

import wsstream
from wsstream import Deflate, FlowControl, WebSocketStream
from wsstream.driver.hand_over import FIRST_LOOK, LEAST, MOST, HandOver
from wsstream.testing import Frame, RawPeer
from wsstream.transports.base import NOTSENT, Delivery
from wsstream.transports.reset import reset
from wsstream.transports.sockets import SocketTransport

KIB = 1 << 10
MIB = 1 << 20
SECOND = 1_000_000


def after(rate: float, *sizes: int, flow: FlowControl | None = None) -> HandOver:
    """The bounds when as many bytes as `sizes` say have been delivered, at `rate` bytes a second."""
    hand_over, size = HandOver(flow or FlowControl()), 0
    for more in sizes:
        size += more
        hand_over.look(Delivery(size, int(size / rate * SECOND)))
    return hand_over


# -- the rule ------------------------------------------------------------------------------------


def test_a_connection_begins_with_the_least() -> None:
    hand_over = HandOver(FlowControl())
    assert (hand_over.unsent, hand_over.frame_size) == (128 * KIB, 64 * KIB)


@pytest.mark.parametrize(
    ("rate", "unsent", "frame_size"),
    [
        (100 * KIB, 128 * KIB, 64 * KIB),
        (16 * MIB, 128 * KIB, 64 * KIB),
        (24 * MIB, 128 * KIB, 64 * KIB),
        (26 * MIB, 256 * KIB, 256 * KIB),
        (60 * MIB, 512 * KIB, 512 * KIB),
        (110 * MIB, MIB, MIB),
        (4096 * MIB, MIB, MIB),
    ],
)
def test_both_bounds_are_what_leaves_in_10_ms(rate: int, unsent: int, frame_size: int) -> None:
    hand_over = after(rate, *[MIB] * 4)
    assert (hand_over.unsent, hand_over.frame_size) == (unsent, frame_size)


@given(
    st.lists(st.tuples(st.integers(0, 4 * MIB), st.integers(0, 20 * SECOND)), max_size=20),
    st.integers(64 * KIB, 3 * MIB),
    st.none() | st.integers(3 * MIB, 4 * MIB),
    st.integers(0, 6),
    st.booleans(),
)
def test_whatever_is_measured_the_bounds_stay_within_their_limits(
    steps: list[tuple[int, int]], frame_size: int, largest: int | None, stalls: int, full: bool
) -> None:
    flow = FlowControl(frame_size=frame_size, max_frame_size=largest)
    hand_over = HandOver(flow)
    size = time = 0
    for more, later in steps:
        size, time = size + more, time + later
        hand_over.look(Delivery(size, time), full=full)
        assert hand_over.unsent in {LEAST << power for power in range(7)}
        assert LEAST << 6 == MOST
        assert full or hand_over.unsent >= NOTSENT
        assert flow.frame_size <= hand_over.frame_size <= flow.max_frame_size
        if later >= SECOND and more <= MIB:
            assert hand_over.unsent <= 2 * MIB  # however fast it was
    for _ in range(stalls):
        before = hand_over.unsent
        assert hand_over.halve() is (before > NOTSENT)
        assert hand_over.unsent == max(min(before, NOTSENT), before // 2)


@given(st.integers(1, 4 * MIB), st.lists(st.integers(1, 4 * MIB), min_size=12, max_size=20))
def test_at_a_steady_rate_the_bound_is_at_most_what_leaves_in_10_ms(
    rate_in_kib: int, sizes: list[int]
) -> None:
    rate = rate_in_kib * KIB
    unsent = after(rate, *sizes).unsent
    assert unsent == NOTSENT or unsent <= rate / 100 * 1.01 + 1


def test_when_the_peer_becomes_slow_the_next_looks_show_it() -> None:
    hand_over = after(1000 * MIB, *[MIB] * 10)
    assert hand_over.unsent == MOST
    time, size = hand_over._last.time, hand_over._last.size
    hand_over.look(Delivery(size + MIB, time + SECOND))
    assert hand_over.unsent == NOTSENT


def test_without_an_acknowledgement_nothing_is_known() -> None:
    hand_over = HandOver(FlowControl())
    hand_over.look(Delivery(0, 0))
    hand_over.look(Delivery(0, SECOND))
    assert hand_over.unsent == NOTSENT


def test_the_frames_of_flow_control_are_kept() -> None:
    large = FlowControl(frame_size=600 * KIB)
    assert after(26 * MIB, MIB, MIB, flow=large).frame_size == 600 * KIB
    assert after(1000 * MIB, MIB, MIB, MIB, flow=large).frame_size == MIB
    limited = FlowControl(max_frame_size=100_000)
    assert after(1000 * MIB, MIB, MIB, flow=limited).frame_size == 100_000


def test_what_fills_the_buffers_to_a_slow_reader_makes_nothing_grow_far() -> None:
    hand_over = after(1000 * MIB, 200 * KIB)
    for _ in range(20):  # the buffers are full: little moves on
        hand_over.look(Delivery(200 * KIB, 200))
    assert hand_over.unsent <= 256 * KIB


@pytest.mark.parametrize(("frame_size", "grows"), [(64 * KIB - 1, False), (64 * KIB, True), (MIB, True)])
def test_frames_below_the_usual_size_are_for_a_peer_with_a_limit(frame_size: int, grows: bool) -> None:
    hand_over = after(1000 * MIB, *[MIB] * 4, flow=FlowControl(frame_size=frame_size))
    assert (hand_over.unsent, hand_over.frame_size) == ((MIB, MIB) if grows else (NOTSENT, frame_size))


@pytest.mark.parametrize(
    ("rate", "unsent"),
    [
        (10 * KIB, 16 * KIB),
        (255 * KIB, 16 * KIB),
        (300 * KIB, 32 * KIB),
        (600 * KIB, 64 * KIB),
        (1100 * KIB, 128 * KIB),
    ],
)
def test_on_a_slow_line_the_kernel_holds_what_leaves_in_an_eighth_of_a_second(rate: int, unsent: int) -> None:
    hand_over, size = HandOver(FlowControl()), 0
    for _ in range(8):
        size += hand_over.unsent
        hand_over.look(Delivery(size, int(size / rate * SECOND)), full=True)
    assert (hand_over.unsent, hand_over.frame_size) == (unsent, 64 * KIB)
    assert hand_over.step == (None if unsent == NOTSENT else unsent // 2)


def test_an_application_that_sends_little_is_not_a_slow_line() -> None:
    hand_over = after(10 * KIB, *[NOTSENT] * 4)  # the transport was never full
    assert (hand_over.unsent, hand_over.step) == (NOTSENT, None)


def test_a_slow_past_is_soon_forgotten() -> None:
    hand_over = HandOver(FlowControl())
    size, time = MIB, 3600 * SECOND
    hand_over.look(Delivery(size, time), full=True)
    assert hand_over.unsent == LEAST
    for looks in range(1, 20):  # noqa: B007 - how many it took
        size += hand_over.unsent
        time += hand_over.unsent // 1000  # 1 GB/s
        hand_over.look(Delivery(size, time), full=True)
        if hand_over.unsent == MOST:
            break
    assert looks <= 12
    assert size <= 5 * MIB


def test_a_look_before_anything_was_acknowledged_says_nothing() -> None:
    hand_over = after(1000 * MIB, *[MIB] * 4)
    assert not hand_over.look(Delivery(4 * MIB, SECOND), full=True)
    assert hand_over.unsent == MOST


def test_before_a_file_and_when_output_stands_still_less_may_wait_but_not_more() -> None:
    fast, slow = after(1000 * MIB, *[MIB] * 4), HandOver(FlowControl())
    slow.look(Delivery(MIB, 1000 * SECOND), full=True)
    assert [fast.halve(), fast.unsent, fast.shrink(), fast.unsent] == [True, MOST // 2, True, NOTSENT]
    assert [slow.halve(), slow.shrink(), slow.unsent] == [False, False, LEAST]


def test_while_a_file_leaves_nothing_grows_far() -> None:
    hand_over = HandOver(FlowControl())
    for size in range(MIB, 9 * MIB, MIB):
        hand_over.look(Delivery(size, size // 1000), grows=False)
    assert hand_over.unsent == NOTSENT


# -- over sockets --------------------------------------------------------------------------------

LOWAT = getattr(socket, "TCP_NOTSENT_LOWAT", None)
PAYLOAD = bytes(MIB)


def unsent_limit(ws: WebSocketStream) -> int:
    assert LOWAT is not None
    return ws.extra(SocketAttribute.raw_socket).getsockopt(socket.IPPROTO_TCP, LOWAT)


async def frames_of(
    count: int, look: Callable[[WebSocketStream], Any], **options: Any
) -> tuple[list[Frame], Any]:
    """The frames of `count` messages of 1 MiB to a peer that reads at once, and what `look` sees then."""
    frames: list[Frame] = []
    seen: list[Any] = []

    async def send(ws: WebSocketStream) -> None:
        for _ in range(count):
            await ws.send(PAYLOAD)
        seen.append(look(ws))

    headers = [("Sec-WebSocket-Extensions", "permessage-deflate")] if options.get("compression") else []
    async with (
        wsstream.serve(send, "127.0.0.1", **options) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
        await RawPeer.as_client(stream, headers=headers) as raw,
    ):
        while (frame := await raw.read_frame()).kind != "close":
            frames.append(frame)
        await raw.close()
    return frames, seen[0]


def fast_delivery() -> Callable[[SocketTransport], Delivery]:
    """What the kernel says of a peer that takes 1 GB/s, however busy this machine is."""
    size = 0

    def delivery(_: SocketTransport) -> Delivery:
        nonlocal size
        size += MIB
        return Delivery(size, size // 1000)

    return delivery


@pytest.mark.anyio
@pytest.mark.also_on_uvloop
@pytest.mark.skipif(LOWAT is None, reason="this system has no limit for unsent bytes")
class TestOverSockets:
    async def test_to_a_fast_peer_messages_become_one_frame_each(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        frames, unsent = await frames_of(8, unsent_limit)
        assert all(len(frame.payload) == 64 * KIB for frame in frames[: FIRST_LOOK // (64 * KIB)])
        assert [(len(frame.payload), frame.fin) for frame in frames[-4:]] == [(MIB, True)] * 4
        assert unsent == MIB
        assert b"".join(frame.payload for frame in frames) == PAYLOAD * 8

    @pytest.mark.parametrize(
        "options",
        [
            {"flow": FlowControl(frame_size=64 * KIB - 1)},
            {"compression": Deflate()},
        ],
        ids=["small-frames", "compressed"],
    )
    async def test_where_nothing_grows_the_bounds_are_those_of_the_beginning(
        self, monkeypatch: pytest.MonkeyPatch, options: Any
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        frames, unsent = await frames_of(2, unsent_limit, **options)
        assert max(len(frame.payload) for frame in frames) <= 64 * KIB
        assert unsent == 128 * KIB

    async def test_frames_of_chunks_do_not_grow(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", lambda _: Delivery(1 << 40, 1))
        sizes: list[int] = []

        async def send(ws: WebSocketStream) -> None:
            async with ws.writable.message() as message:
                for _ in range(4):
                    await message.send(PAYLOAD)

        async with (
            wsstream.serve(send, "127.0.0.1") as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
            await RawPeer.as_client(stream) as raw,
        ):
            while (frame := await raw.read_frame()).kind != "close":
                sizes.append(len(frame.payload))
            await raw.close()
        assert sum(sizes) == 4 * MIB
        assert max(sizes) == 64 * KIB

    async def test_a_pipe_passes_on_large_frames_as_large_ones(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        sizes: list[int] = []

        async def send(ws: WebSocketStream) -> None:
            for _ in range(16):
                await ws.send(PAYLOAD)

        async def forward(ws: WebSocketStream) -> None:
            async with wsstream.connect(source.url) as upstream:
                await wsstream.pipe(upstream, ws)

        async with (
            wsstream.serve(send, "127.0.0.1") as source,
            wsstream.serve(forward, "127.0.0.1") as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
            await RawPeer.as_client(stream) as raw,
        ):
            while (frame := await raw.read_frame()).kind != "close":
                sizes.append(len(frame.payload))
            await raw.close()
        assert sum(sizes) == 16 * MIB
        assert 64 * KIB < max(sizes) <= MIB

    async def test_a_file_begins_with_the_least_again(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        path = tmp_path / "file"
        path.write_bytes(PAYLOAD)
        limits: list[int] = []
        monkeypatch.setattr(SocketTransport, "limit_unsent", lambda _, size: limits.append(size))

        async def send(ws: WebSocketStream) -> None:
            for _ in range(3):
                await ws.send(PAYLOAD)
            assert await ws.writable.send_file(path) == MIB
            await ws.send(PAYLOAD)

        async with (
            wsstream.serve(send, "127.0.0.1") as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
            await RawPeer.as_client(stream) as raw,
        ):
            while (await raw.read_frame()).kind != "close":
                pass
            await raw.close()
        begun = limits.index(128 * KIB)
        assert begun >= 2
        assert limits[begun - 1 : begun + 2] == [limits[begun - 1], 128 * KIB, 256 * KIB]
        assert limits[begun - 1] >= 512 * KIB

    async def test_a_kernel_that_does_not_tell_is_asked_once(self, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[object] = []
        monkeypatch.setattr(SocketTransport, "delivery", lambda transport: asked.append(transport))
        frames, unsent = await frames_of(4, unsent_limit)
        assert len(asked) == 1
        assert {len(frame.payload) for frame in frames} == {64 * KIB}
        assert unsent == 128 * KIB

    @pytest.mark.heavy
    async def test_when_output_stands_still_the_bounds_are_halved(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        limits: list[int] = []
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        monkeypatch.setattr(SocketTransport, "limit_unsent", lambda _, size: limits.append(size))

        async def send(ws: WebSocketStream) -> None:
            with pytest.raises(wsstream.ConnectionClosed):
                await ws.send(bytes(64 * MIB))

        async with (
            wsstream.serve(send, "127.0.0.1", ping_interval=0.2, ping_timeout=30) as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
            await RawPeer.as_client(stream) as raw,
        ):
            await raw.read_frame()
            await raw.read_frame()
            with anyio.fail_after(10):  # it reads no more
                while limits[-1:] != [128 * KIB]:
                    await anyio.sleep(0.005)
            next(iter(server.connections)).abort()
        assert limits[0] == 256 * KIB
        steps = list(pairwise(limits))  # a busy machine may hold the peer up while it still reads
        assert all(later in (2 * before, before // 2) for before, later in steps)

    async def test_a_send_buffer_that_the_application_chose_is_kept(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        listener = socket.create_server(("127.0.0.1", 0))
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
        chosen = listener.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        sizes: list[int] = []

        def size(ws: WebSocketStream) -> int:
            sock: socket.socket = ws.extra(SocketAttribute.raw_socket)
            return sock.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)

        async def send(ws: WebSocketStream) -> None:
            for _ in range(8):
                await ws.send(PAYLOAD)
                sizes.append(size(ws))
            await ws.receive()

        async with (
            wsstream.serve(send, listeners=[listener]) as server,
            wsstream.connect(server.url) as ws,
        ):
            ws.extra(SocketAttribute.raw_socket).setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 50_000)
            for _ in range(8):
                assert await ws.receive() == PAYLOAD
            await ws.send(PAYLOAD)
            assert size(ws) == chosen
        assert set(sizes) == {chosen}

    @pytest.mark.heavy
    async def test_what_was_handed_over_in_one_step_leaves_complete_though_its_send_was_cancelled(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        begun = 0

        async def send(ws: WebSocketStream) -> None:
            nonlocal begun
            with anyio.move_on_after(0.3):
                while True:
                    message = bytearray([begun]) * MIB
                    begun += 1
                    try:
                        await ws.send(message)
                    finally:
                        message[:] = bytes(MIB)
            stuck.set()

        stuck = anyio.Event()
        async with (
            wsstream.serve(send, "127.0.0.1") as server,
            await anyio.connect_tcp("127.0.0.1", server.port) as stream,
            await RawPeer.as_client(stream) as raw,
        ):
            message, numbers = (await raw.read_frame()).payload, []
            await stuck.wait()
            while (frame := await raw.read_frame()).kind != "close":
                message += frame.payload
                if frame.fin:
                    assert message == message[:1] * MIB
                    numbers.append(message[0])
                    message = b""
            await raw.close()
        assert len(numbers) >= begun - 1
        assert numbers == list(range(len(numbers)))

    async def test_who_waits_for_a_message_to_leave_hears_that_the_connection_broke(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(SocketTransport, "delivery", fast_delivery())
        raised: list[Exception] = []

        async def send(ws: WebSocketStream) -> None:
            try:
                while True:
                    await ws.send(PAYLOAD)
            except wsstream.ConnectionBroken as error:
                raised.append(error)

        async with wsstream.serve(send, "127.0.0.1") as server:
            stream = await anyio.connect_tcp("127.0.0.1", server.port)
            raw = await RawPeer.as_client(stream)
            while not (await raw.read_frame()).fin:
                pass
            ws = next(iter(server.connections))
            with anyio.fail_after(10):
                while not ws.statistics().send_buffered:
                    await anyio.sleep(0.01)
                await reset(stream)
                while not raised:
                    await anyio.sleep(0.01)
