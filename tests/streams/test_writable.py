"""Sending: turns, room, the writer of one message, files."""

from __future__ import annotations

import io
from pathlib import Path

import anyio
import pytest
from kit.endpoints import against_peer

import wsstream
from wsstream.testing import (
    Frame,
    StallStream,
    connected_pair,
    memory_pair,
    parse_frames,
    ping,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


async def test_an_idle_connection_sends_each_chunk_at_once_and_the_end_without_bytes() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        async with ws.writable.message("text") as writer:
            await writer.send("a")
            assert (await peer.read_frame()).payload == b"a"
            await writer.send("b")
            frame = await peer.read_frame()
            assert (frame.opcode, frame.payload, frame.fin) == (0, b"b", False)
        frame = await peer.read_frame()
        assert (frame.opcode, frame.payload, frame.fin) == (0, b"", True)


async def test_small_chunks_are_merged_while_the_transport_is_busy() -> None:
    ours, theirs = memory_pair()
    stalled = StallStream(ours, receive=False, send=False)
    async with connected_pair(streams=(stalled, theirs)) as (client, server):
        stalled.stall(receive=False)
        async with client.writable.message() as writer:
            for number in range(1000):
                await writer.send(number.to_bytes(2, "big"))
            before = client.statistics().bytes_sent
            stalled.resume()
        assert await server.receive() == b"".join(number.to_bytes(2, "big") for number in range(1000))
        await client.writable.drain()
        assert client.statistics().bytes_sent - before < 2000 + 3 * 8


async def test_a_large_message_is_sent_in_frames_of_frame_size_and_text_is_cut_between_code_points() -> None:
    flow = wsstream.FlowControl(frame_size=1000)
    async with against_peer(close_timeout=0, flow=flow) as (ws, peer):
        await ws.send(bytes(2500))
        frames = [await peer.read_frame() for _ in range(3)]
        assert [(f.opcode, len(f.payload), f.fin) for f in frames] == [
            (2, 1000, False),
            (0, 1000, False),
            (0, 500, True),
        ]
        await ws.send("x" + "€" * 700)
        frames = [await peer.read_frame() for _ in range(3)]
        assert "".join(frame.payload.decode() for frame in frames) == "x" + "€" * 700
        assert [len(frame.payload) for frame in frames] == [1000, 999, 102]


async def test_a_declared_message_is_one_frame() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        async with ws.writable.message(size=300_000) as writer:
            for _ in range(3):
                await writer.send(bytes(100_000))
            with pytest.raises(ValueError, match="must have the 300000 bytes it was declared with"):
                await writer.send(b"x")
        frame = await peer.read_frame()
        assert (frame.opcode, len(frame.payload), frame.fin) == (2, 300_000, True)
        async with ws.writable.message("text", size=0):
            pass
        frame = await peer.read_frame()
        assert (frame.opcode, frame.payload, frame.fin) == (1, b"", True)
        await ws.send("after")
        assert (await peer.read_frame()).payload == b"after"


@pytest.mark.parametrize("marks", [{}, {"send_high_water": 8, "send_low_water": 4}], ids=["default", "tiny"])
async def test_a_pong_that_waits_for_the_rest_of_a_frame_holds_up_nothing(marks: dict[str, int]) -> None:
    flow = wsstream.FlowControl(**marks)
    async with against_peer(close_timeout=0, flow=flow) as (ws, peer):
        async with ws.writable.message(size=12) as writer:
            await writer.send(b"one ")
            data = await peer.stream.receive()
            for number in range(5):
                await peer.send(ping(bytes([number]) * 100))
            await anyio.wait_all_tasks_blocked()  # the Pongs cannot leave inside the frame
            with anyio.fail_after(1):
                await writer.send(b"two ")
                data += await peer.stream.receive()
                await writer.flush()
                await anyio.sleep(0.5)  # of virtual time, which stands still if a task never rests
                await writer.send(b"end.")
        while len(data) < 18 + 106:  # with the headers and masking keys
            data += await peer.stream.receive()
    first, second = parse_frames(data[: 18 + 106])
    assert (first.kind, first.payload) == ("binary", b"one two end.")
    assert (second.kind, len(second.payload)) == ("pong", 100)


async def test_a_declared_message_that_stays_short_breaks_the_connection() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        with pytest.raises(ValueError, match="must have the 10 bytes it was declared with, got 3"):
            async with ws.writable.message(size=10) as writer:
                await writer.send(b"abc")
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await ws.send("more")
        assert caught.value.code == 1011
        # nothing may follow the torn frame, not even a Close
        data = b""
        with pytest.raises(anyio.EndOfStream):
            while True:
                data += await peer.stream.receive()
        assert len(data) in (0, 6 + 3)


async def test_text_may_be_cut_anywhere_but_not_left_inside_a_code_point() -> None:
    async with connected_pair() as (client, server):
        async with client.writable.message("text") as writer:
            for byte in "a€😀".encode():
                await writer.send(bytes([byte]))
            with pytest.raises(wsstream.InvalidUTF8):
                await writer.send(b"ok\xff")
            await writer.send("!")
        assert await server.receive() == "a€😀!"
        with pytest.raises(wsstream.InvalidUTF8):
            async with client.writable.message("text") as writer:
                await writer.send(b"\xe2\x82")
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await server.receive()
        assert (caught.value.code, client.close_info and client.close_info.code) == (1011, 1011)


async def test_wrong_arguments_are_refused_and_change_nothing() -> None:
    async with connected_pair() as (client, server):
        for item in (5, None, object(), {"x": b"x"}):
            with pytest.raises(TypeError):
                await client.send(item)  # type: ignore[arg-type]
        with pytest.raises(UnicodeEncodeError):
            await client.send("\ud800")
        with pytest.raises(ValueError, match="must be contiguous"):
            await client.send(memoryview(b"abcd")[::2])
        with pytest.raises(ValueError, match="'text' or 'binary'"):
            client.writable.message("json")  # type: ignore[arg-type]
        for size in (-1, 1 << 63):
            with pytest.raises(ValueError, match="size"):
                client.writable.message(size=size)
        async with client.writable.message() as writer:
            with pytest.raises(TypeError, match="not str"):
                await writer.send("text")
            with pytest.raises(TypeError):
                await writer.send(3)  # type: ignore[arg-type]
        assert await server.receive() == b""


async def test_buffers_of_all_shapes_are_sent_as_their_bytes() -> None:
    async with connected_pair() as (client, server):
        for item in (bytearray(b"abc"), memoryview(b"abc"), memoryview(bytearray(b"abc")).cast("c")):
            await client.send(item)
            assert await server.receive() == b"abc"


async def test_the_task_that_holds_a_writer_cannot_deadlock_itself() -> None:
    async with connected_pair() as (client, server):
        async with client.writable.message() as writer:
            with pytest.raises(RuntimeError, match="MessageWriter"):
                await client.send("x")
            with pytest.raises(RuntimeError, match="MessageWriter"):
                async with client.writable.message():
                    pass
            await writer.send(b"fine")
        await client.send("afterwards")
        assert [await server.receive(), await server.receive()] == [b"fine", "afterwards"]


async def test_a_writer_is_finished_once_and_then_closed() -> None:
    async with connected_pair() as (client, server):
        async with client.writable.message() as writer:
            await writer.send(b"x")
            await writer.aclose()
            await writer.aclose()
            with pytest.raises(anyio.ClosedResourceError):
                await writer.send(b"y")
            with pytest.raises(anyio.ClosedResourceError):
                await writer.flush()
            writer.abort()
        assert await server.receive() == b"x"
        assert client.state == "open"


async def test_flush_returns_when_the_bytes_have_left() -> None:
    ours, theirs = memory_pair()
    stalled = StallStream(ours, receive=False, send=False)
    async with connected_pair(streams=(stalled, theirs)) as (client, server):
        async with client.writable.message() as writer:
            stalled.stall(receive=False)
            await writer.send(b"abc")
            await writer.send(b"def")
            with anyio.move_on_after(1) as scope:
                await writer.flush()
            assert scope.cancelled_caught
            stalled.resume()
            await writer.flush()
            assert client.statistics().send_buffered == 0
        assert await server.receive() == b"abcdef"


async def test_drain_waits_for_what_was_sent_and_raises_after_the_end() -> None:
    async with connected_pair() as (client, server):
        await client.send(bytes(60_000))
        await client.writable.drain()
        assert client.statistics().send_buffered == 0
        assert await server.receive() == bytes(60_000)
        await client.aclose()
        with pytest.raises(wsstream.ClosedLocally):
            await client.writable.drain()


@pytest.mark.parametrize("anyio_backend", ["asyncio-real-time", "trio-real-time"], indirect=True)
async def test_send_file_sends_a_file_or_a_part_of_it_as_one_message(tmp_path: Path) -> None:
    path = tmp_path / "file"
    content = bytes(range(256)) * 3000
    path.write_bytes(content)
    async with connected_pair() as (client, server), anyio.create_task_group() as tasks:
        sent: list[int] = []

        async def send() -> None:
            sent.append(await client.writable.send_file(path))
            sent.append(await client.writable.send_file(str(path), offset=700_000))
            with path.open("rb") as file:
                sent.append(await client.writable.send_file(file, offset=10, count=300_000))
            sent.append(await client.writable.send_file(io.BytesIO(b""), count=0))

        tasks.start_soon(send)
        expected = [content, content[700_000:], content[10:300_010], b""]
        assert [await server.receive() for _ in expected] == expected
        await anyio.wait_all_tasks_blocked()
        assert sent == [len(part) for part in expected]


async def test_send_file_refuses_what_it_cannot_send(tmp_path: Path) -> None:
    async with connected_pair() as (client, server):
        for arguments in ({"offset": -1}, {"count": -1}):
            with pytest.raises(ValueError, match="must not be negative, got -1"):
                await client.writable.send_file(tmp_path, **arguments)
        with pytest.raises(FileNotFoundError):
            await client.writable.send_file(tmp_path / "missing")
        await client.send("still open")
        assert await server.receive() == "still open"
        with pytest.raises(EOFError, match="2 bytes early"):
            await client.writable.send_file(io.BytesIO(b"abc"), count=5)
        with pytest.raises(wsstream.ConnectionBroken) as caught:
            await server.receive()
        assert caught.value.code == 1011


async def test_senders_that_wait_for_their_turn_are_let_go_when_the_connection_ends() -> None:
    async with connected_pair() as (client, server):
        outcomes: list[BaseException] = []

        async def send() -> None:
            try:
                await client.send("never")
            except wsstream.ConnectionClosed as error:
                outcomes.append(error)

        with pytest.raises(wsstream.ConnectionBroken):
            async with client.writable.message() as writer, anyio.create_task_group() as tasks:
                await writer.send(b"begun")
                for _ in range(3):
                    tasks.start_soon(send)
                await anyio.wait_all_tasks_blocked()
                assert client.statistics().tasks_waiting_send == 3
                await server.aclose(4001)
        assert [type(error) for error in outcomes] == [wsstream.ConnectionBroken] * 3
        assert client.close_info == (4001, "", False)


async def test_many_sends_in_a_row_let_other_tasks_run() -> None:
    async with connected_pair() as (client, server):
        server.readable.discard()
        with anyio.CancelScope() as scope:
            sends = 0

            async def stop() -> None:
                scope.cancel()

            async with anyio.create_task_group() as tasks:
                tasks.start_soon(stop)
                while True:
                    await client.send(b"x")
                    sends += 1
        assert sends <= 512


async def test_messages_of_a_burst_leave_together_and_in_order_with_all_others() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        expected: list[tuple[int, bytes]] = []
        for number in range(30):
            await ws.send(f"text {number}")
            await ws.send(b"%d" % number)
            expected += [(1, b"text %d" % number), (2, b"%d" % number)]
            if number % 10 == 3:
                await ws.send(bytes(20_000))
                await ws.send(bytearray(b"mutable"))
                expected += [(2, bytes(20_000)), (2, b"mutable")]
            if number % 10 == 7:
                async with ws.writable.message("text") as writer:
                    await writer.send("part")
                expected.append((1, b"part"))
        received: list[tuple[int, bytes]] = []
        while len(received) < len(expected):
            frame = await peer.read_frame()
            if frame.opcode:
                received.append((frame.opcode, frame.payload))
            else:
                assert frame == Frame(0, b"", mask=frame.mask)
        assert received == expected


async def test_a_burst_is_sent_without_another_call() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        for number in range(5):
            await ws.send(b"%d" % number)
        assert [(await peer.read_frame()).payload for _ in range(5)] == [
            b"%d" % number for number in range(5)
        ]
        assert ws.statistics().send_buffered == 0


async def test_a_burst_waits_where_the_peer_takes_nothing() -> None:
    ours, theirs = memory_pair()
    stalled = StallStream(ours, receive=False, send=False)
    async with connected_pair(streams=(stalled, theirs)) as (client, _):
        stalled.stall(receive=False)
        sent = 0
        with anyio.CancelScope() as scope:
            scope.cancel()
            while True:
                await client.send(bytes(1000))
                sent += 1
        assert scope.cancelled_caught
        assert 10 <= sent <= 300
        assert client.statistics().send_buffered < 64 * 1024 + 64 * 1024 + 2000
        stalled.resume()


async def test_after_the_end_a_burst_takes_nothing() -> None:
    async with connected_pair() as (client, server):
        for _ in range(3):
            await client.send(b"a")
        client.begin_close()
        with pytest.raises(wsstream.ClosedLocally):
            await client.send(b"b")
        assert [message async for message in server] == [b"a"] * 3


async def test_a_burst_cannot_slip_past_a_writer() -> None:
    async with connected_pair() as (client, server):
        for _ in range(3):
            await client.send(b"a")
        async with client.writable.message() as writer:
            await writer.send(b"b")
            with pytest.raises(RuntimeError):
                await client.send(b"c")
        assert [await server.receive() for _ in range(4)] == [b"a"] * 3 + [b"b"]


async def test_each_ping_of_one_read_gets_its_pong_also_after_something_was_sent() -> None:
    async with against_peer(close_timeout=0) as (ws, peer):
        await ws.send(b"a")
        assert (await peer.read_frame()).payload == b"a"
        for round_ in (b"1", b"2"):
            await peer.send(ping(round_ + b"a") + ping(round_ + b"b") + ping(round_ + b"c"))
            pongs = [await peer.read_frame() for _ in range(3)]
            assert [(pong.opcode, pong.payload) for pong in pongs] == [
                (10, round_ + c) for c in (b"a", b"b", b"c")
            ]
