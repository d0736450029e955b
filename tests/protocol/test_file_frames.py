"""Parts of files in the output queue: what leaves is the same as with their bytes, however it is cut."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from wsstream.codec.events import Ping
from wsstream.protocol.connection import Connection
from wsstream.protocol.file_frames import FileFrames, FileRange
from wsstream.protocol.frame_queue import FrameQueue, Piece
from wsstream.testing import close, parse_frames, ping, pong

CONTENT = bytes(range(256)) * 4
CLOSE = close(1011)


@dataclass
class Content:
    """Stands for an open file."""

    content: bytes = CONTENT

    def fileno(self) -> int:
        raise NotImplementedError


def in_file(start: int, stop: int) -> FileRange:
    return FileRange(Content(), start, stop)


def bytes_of(piece: Piece) -> bytes:
    if isinstance(piece, FileRange):
        assert isinstance(piece.file, Content)
        return piece.file.content[piece.start : piece.stop]
    if isinstance(piece, FileFrames):
        payload, size = bytes_of(piece.payload), piece.size
        return b"".join(piece.header + payload[at : at + size] for at in range(0, len(payload), size))
    return bytes(piece)


def leave(queue: FrameQueue, count: int) -> bytes:
    data = b"".join(map(bytes_of, queue.pieces()))[:count]
    if data:
        queue.advance(len(data))
    return data


def leave_all(queue: FrameQueue) -> bytes:
    data = b""
    while left := leave(queue, 1 << 20):
        data += left
    assert (queue.size, queue.files) == (0, 0)
    return data


def test_a_range_has_a_length_and_slices_like_a_view() -> None:
    whole = in_file(100, 200)
    assert len(whole) == 100
    for part in (slice(10, None), slice(None, 10), slice(20, 30), slice(90, 150), slice(100, None)):
        assert bytes_of(whole[part]) == CONTENT[100:200][part]
        assert len(whole[part]) == len(CONTENT[100:200][part])
    assert not whole[100:]
    assert whole[10:].file is whole.file


def test_frames_are_cut_at_any_byte() -> None:
    frames = FileFrames(b"HH", in_file(5, 35), 10)
    data = bytes_of(frames)
    assert len(frames) == len(data) == 36
    for count in range(len(data) + 1):
        begun, payload, rest = frames.after(count)
        left = b"HH" + bytes_of(payload) if payload is not None else b""
        left += bytes_of(rest) if rest is not None else b""
        assert (begun, left[begun:]) == (count % 12, data[count:]), count


@pytest.mark.parametrize("size", [1, 9, 10, 11, 25, 30])
def test_a_file_is_sent_in_frames_that_do_not_end_its_message(size: int) -> None:
    connection = Connection(client=False)
    connection.send_file("binary", in_file(0, size), 10)
    connection.send_file("binary", in_file(size, size + 3), 10)
    connection.send_data("binary", b"", last=True)
    frames = parse_frames(leave_all(connection.queue))
    assert b"".join(frame.payload for frame in frames) == CONTENT[: size + 3]
    assert [frame.opcode for frame in frames] == [2] + [0] * (len(frames) - 1)
    assert [frame.fin for frame in frames] == [False] * (len(frames) - 1) + [True]
    assert max(len(frame.payload) for frame in frames) == max(3, min(size, 10))


@given(st.lists(st.integers(1, 60), min_size=1, max_size=200))
@settings(max_examples=100)
def test_what_leaves_is_whole_frames_however_little_at_a_time_and_pings_go_between(
    portions: list[int],
) -> None:
    connection = Connection(client=False)
    connection.send_file("binary", in_file(0, 503), 50)
    data, size = b"", connection.queue.size
    for number, portion in enumerate(portions):
        if number % 3 == 2:
            connection.send(Ping(b"%d" % number))
        data += leave(connection.queue, portion)
        assert connection.queue.sent == len(data)
    connection.send_data("binary", b"", last=True)
    data += leave_all(connection.queue)
    frames = parse_frames(data)
    assert size == 503 + 11 * 2
    assert b"".join(frame.payload for frame in frames if frame.opcode != 9) == CONTENT[:503]
    assert [frame.opcode for frame in frames if frame.opcode != 9] == [2] + [0] * 11


def test_a_control_frame_waits_for_no_more_than_the_frame_that_has_begun() -> None:
    connection = Connection(client=False)
    connection.send_file("binary", in_file(0, 400), 100)
    whole = leave(connection.queue, 102 + 10)
    connection.queue.put_pong(pong(b"x"))
    assert connection.queue.files == 2  # what is left of the frame, and the others
    frames = parse_frames(whole + leave_all(connection.queue))
    assert [frame.opcode for frame in frames] == [2, 0, 10, 0, 0]


@pytest.mark.parametrize(("gone", "kept", "cut"), [(0, 0, False), (102, 102, True), (110, 204, True)])
def test_an_urgent_close_drops_the_frames_that_have_not_begun(gone: int, kept: int, cut: bool) -> None:
    connection = Connection(client=False)
    connection.send_file("binary", in_file(0, 400), 100)
    data = leave(connection.queue, gone)
    assert connection.queue.put_close(CLOSE, urgent=True)
    assert connection.queue.message_cut is cut
    data += leave_all(connection.queue)
    assert len(data) == kept + len(CLOSE)
    assert parse_frames(data)[-1].opcode == 8


def test_a_file_keeps_its_place_behind_a_burst_and_before_other_data() -> None:
    queue = FrameQueue()
    queue.batch.sends_until_yield = 100
    queue.batch.begin(0x82, b"burst")
    queue.put_file(FileFrames(b"\x82\x0a", in_file(0, 20), 10))
    queue.put_data(b"behind")
    queue.put_ping(ping())
    data = leave_all(queue)
    assert (
        data
        == ping() + b"\x82\x05burst" + b"\x82\x0a" + CONTENT[:10] + b"\x82\x0a" + CONTENT[10:20] + b"behind"
    )


@pytest.mark.parametrize("gone", range(12, 24))
def test_the_last_frame_of_a_file_may_leave_in_parts(gone: int) -> None:
    queue = FrameQueue()
    queue.put_file(FileFrames(b"\x82\x0a", in_file(0, 20), 10))
    data = leave(queue, gone)
    assert queue.files == 1
    assert data + leave_all(queue) == b"\x82\x0a" + CONTENT[:10] + b"\x82\x0a" + CONTENT[10:20]
    assert queue.files == 0


def test_what_was_cleared_is_no_file_that_waits() -> None:
    queue = FrameQueue()
    queue.put_file(FileFrames(b"\x82\x0a", in_file(0, 20), 10))
    leave(queue, 5)
    assert queue.files == 2
    queue.clear()
    assert (queue.files, queue.pieces()) == (0, [])
