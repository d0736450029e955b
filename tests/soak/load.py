"""The load of one direction: tasks that send in every way there is, and one that receives in every way."""

from __future__ import annotations

import tempfile
import zlib
from collections.abc import Awaitable, Callable
from random import Random
from typing import Any

import anyio
from ledger import BROKEN_OFF, END, HEADER, Header, Ledger, Wrong, make_message, read_header

from wsstream import MessageReader, MessageWriter, WebSocketStream

__all__ = ["MAX_MESSAGE", "Receiver", "Sender", "break_off"]

MAX_MESSAGE = 4 << 20
_LARGEST = 2 << 20  # bytes
_NOISE = Random(0).randbytes(_LARGEST // 4) + bytes(range(256)) * (
    3 * _LARGEST // 1024
)  # to compress in part
_TEXT = "".join(Random(1).choices("abc xyz äöü 字 🙂\n", k=_LARGEST // 2))

_SIZES = ((200, 50), (5_000, 25), (70_000, 15), (_LARGEST, 5))  # bytes at most, weight
_WAYS = {"send": 40, "cancelled": 15, "chunks": 20, "file": 5, "empty": 5, "ping": 5, "rest": 10}


class Sender:
    """Sends messages of one lane until it has sent about `size` bytes."""

    def __init__(self, ws: WebSocketStream, ledger: Ledger, draw: Random, lane: int, size: int) -> None:
        self._ws = ws
        self._ledger = ledger
        self._draw = draw
        self._lane = lane
        self._left = size

    async def run(self) -> None:
        while self._left > 0:
            (way,) = self._draw.choices(list(_WAYS), list(_WAYS.values()))
            await getattr(self, f"_{way}")()
            self._ledger.moved += 1

    def _next(self, kind: str | None = None) -> tuple[str, int, bytes]:
        """A new message: kind, number, bytes."""
        (most,) = self._draw.choices([size for size, _ in _SIZES], [weight for _, weight in _SIZES])
        size = self._draw.randrange(min(most, max(self._left, 1)))
        kind = kind or self._draw.choice(("text", "binary"))
        start = self._draw.randrange(1 << 19)
        text, noise = _TEXT[start : start + size // 2], _NOISE[start : start + size]
        payload = text.encode() if kind == "text" else noise
        number = self._ledger.begin(self._lane)
        message = make_message(kind, self._lane, number, payload)
        self._left -= len(message)
        self._ledger.counts["bytes sent"] += len(message)
        return kind, number, message

    async def _send(self, seconds: float | None = None) -> None:
        kind, number, message = self._next()
        buffer = bytearray(message)
        item: Any = self._draw.choice((message, buffer, memoryview(buffer)))
        if kind == "text":
            item = message.decode()
        with anyio.move_on_after(seconds) as scope:
            await self._ws.send(item)
        buffer[:] = bytes(len(buffer))  # it may be used again
        if scope.cancelled_caught:
            self._ledger.counts["cancelled sends"] += 1
        else:
            self._ledger.sent(self._lane, number)

    async def _cancelled(self) -> None:
        await self._send(_soon(self._draw))

    async def _chunks(self) -> None:
        kind, number, message = self._next()
        size = len(message) if self._draw.random() < 0.2 else None
        async with self._ws.writable.message(kind, size=size) as writer:
            position = 0
            while position < len(message):
                chunk = message[position : position + 1 + int(10 ** self._draw.uniform(0, 5.3))]
                position += await self._send_chunk(writer, chunk)
                if self._draw.random() < 0.1:
                    await _cancelled_now_and_then(writer.flush, self._draw)
        self._ledger.sent(self._lane, number)

    async def _send_chunk(self, writer: MessageWriter, chunk: bytes) -> int:
        before = writer.bytes_sent
        with anyio.move_on_after(_soon(self._draw) if self._draw.random() < 0.2 else None) as scope:
            await writer.send(chunk)
        sent = writer.bytes_sent - before
        if sent not in (0, len(chunk)) or (not sent and not scope.cancelled_caught):
            raise Wrong(f"{sent} bytes of a chunk of {len(chunk)} were sent")
        self._ledger.moved += 1
        return sent

    async def _file(self) -> None:
        _, number, message = self._next("binary")
        with tempfile.NamedTemporaryFile() as file:
            file.write(message)
            file.flush()
            await self._ws.writable.send_file(file.name if self._draw.random() < 0.5 else file.file)
        self._ledger.sent(self._lane, number)

    async def _empty(self) -> None:
        self._ledger.empty[0] += 1
        await self._ws.send(self._draw.choice(("", b"")))
        self._ledger.empty[1] += 1

    async def _ping(self) -> None:
        await _cancelled_now_and_then(self._ws.ping, self._draw)

    async def _rest(self) -> None:
        await anyio.sleep(self._draw.random() * 0.02)

    async def send_end(self) -> None:
        """The message behind all others."""
        await self._ws.send(make_message("binary", END, self._ledger.begin(END), b""))
        self._ledger.sent(END, 0)


async def break_off(ws: WebSocketStream, ledger: Ledger) -> None:
    """Leave a message unfinished, which fails the connection."""
    message = make_message("binary", BROKEN_OFF, 0, b"never finished")
    try:
        async with ws.writable.message() as writer:
            await writer.send(message[:-1])
            raise _BrokenOff
    except _BrokenOff:
        ledger.counts["broken off"] += 1


class _BrokenOff(Exception):
    pass


class Receiver:
    """Receives until the message behind all others has come, and compares with the ledger.

    If it `stays`, what comes later is dropped; otherwise nothing more is read.
    """

    def __init__(self, ws: WebSocketStream, ledger: Ledger, draw: Random, *, stays: bool) -> None:
        self._ws = ws
        self._ledger = ledger
        self._draw = draw
        self._stays = stays
        self._ended = False

    async def run(self) -> None:
        ways = [
            self._whole,
            self._iterate,
            self._chunks,
            self._read,
            self._leave_early,
            self._readers,
            self._rest,
        ]
        weights = [30, 15, 20, 10, 5, 10, 10]
        while not self._ended:
            (way,) = self._draw.choices(ways, weights)
            await way()
        self._ledger.check_end()
        if self._stays:  # who reads no more, and sends no Pings, would not see the end
            self._ws.readable.discard()

    async def _whole(self) -> None:
        self._compare(await self._patiently(self._ws.receive))

    async def _iterate(self) -> None:
        left = self._draw.randrange(1, 20)
        async for message in self._ws.readable:
            self._compare(message)
            left -= 1
            if self._ended or not left:
                break

    async def _chunks(self) -> None:
        async with self._ws.readable.message() as reader:
            await self._compare_chunks(reader)

    async def _readers(self) -> None:
        left = self._draw.randrange(1, 10)
        async for reader in self._ws.readable.messages():
            await self._compare_chunks(reader)
            left -= 1
            if self._ended or not left:
                break

    async def _read(self) -> None:
        async with self._ws.readable.message() as reader:
            self._compare_bytes(reader.kind, await self._patiently(reader.read))

    async def _leave_early(self) -> None:
        async with self._ws.readable.message() as reader:
            start, header = await self._header(reader)
        if header is not None and header.lane != BROKEN_OFF:
            self._take(header)
            self._ledger.counts["left early"] += len(start) < HEADER[reader.kind] + header.size

    async def _rest(self) -> None:
        await anyio.sleep(self._draw.random() * 0.03)

    async def _header(self, reader: MessageReader) -> tuple[bytes, Header | None]:
        """The first bytes, and what they say; `None`: the message is empty."""
        start = b""
        while len(start) < HEADER[reader.kind]:
            try:
                start += await self._chunk(reader)
            except anyio.EndOfStream:
                break
        if not start:
            self._ledger.take_empty()
            return b"", None
        return start, read_header(reader.kind, start)

    async def _compare_chunks(self, reader: MessageReader) -> None:
        start, header = await self._header(reader)
        if header is None:
            return
        payload = start[HEADER[reader.kind] :]
        size, crc = len(payload), zlib.crc32(payload)
        try:
            while True:
                chunk = await self._chunk(reader)
                size, crc = size + len(chunk), zlib.crc32(chunk, crc)
                if self._draw.random() < 0.02:
                    await anyio.sleep(self._draw.random() * 0.02)
        except anyio.EndOfStream:
            if (size, crc) != (header.size, header.crc):
                raise Wrong(f"{header} is damaged in chunks: {size} bytes") from None
        self._take(header)

    async def _chunk(self, reader: MessageReader) -> bytes:
        most = 1 + int(10 ** self._draw.uniform(1, 5.3))
        if self._draw.random() < 0.9:
            chunk = await reader.receive(most)
        else:
            chunk = await self._patiently(lambda: reader.receive(most))
        self._count(len(chunk))
        return chunk

    def _count(self, size: int) -> None:
        self._ledger.moved += 1
        self._ledger.counts["bytes received"] += size

    def _compare(self, message: str | bytes) -> None:
        if isinstance(message, str):
            self._compare_bytes("text", message.encode())
        else:
            self._compare_bytes("binary", message)

    def _compare_bytes(self, kind: str, data: bytes) -> None:
        self._count(len(data))
        if not data:
            self._ledger.take_empty()
            return
        header = read_header(kind, data)
        header.check(data[HEADER[kind] :])
        self._take(header)

    def _take(self, header: Header) -> None:
        self._ledger.take(header)
        self._ended = header.lane == END

    async def _patiently(self, call: Callable[[], Awaitable[Any]]) -> Any:
        """Cancel the call a few times, which loses nothing."""
        for _ in range(self._draw.choice((0, 0, 1, 3))):
            with anyio.move_on_after(_soon(self._draw)):
                return await call()
            self._ledger.counts["cancelled receives"] += 1
        return await call()


def _soon(draw: Random) -> float:
    """Seconds until a call is cancelled: often in the very turn in which it is made."""
    return draw.choice((0.0, 0.0, 0.001, 0.01, 0.1)) * draw.random()


async def _cancelled_now_and_then(call: Callable[[], Awaitable[Any]], draw: Random) -> None:
    with anyio.move_on_after(_soon(draw) if draw.random() < 0.5 else None):
        await call()
