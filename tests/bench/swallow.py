"""Counting what comes in, by the lengths in the frame headers."""

from __future__ import annotations

import socket
import time

import frames

BUFFER = 1024 * 1024  # bytes
SAMPLE = 4096  # bytes of the first message that are kept
_SMALL = 16 * 1024  # bytes; frames up to this size are counted many at a time


class Swallow:
    """Reads a socket until the Close frame and counts messages, frames and payload bytes.

    A row of frames with the same header is counted in one step: every byte of every header is compared,
    the payloads are skipped.
    """

    def __init__(self, sock: socket.socket, *, masked: bool) -> None:
        self.messages = 0
        self.frames = 0
        self.bytes = 0
        self.seconds = 0.0
        self.start_of_message = b""  # the first bytes of the first message's first frame, as sent
        self._sock = sock
        self._key_size = 4 if masked else 0
        self._memory = bytearray(BUFFER)
        self._view = memoryview(self._memory)
        self._skip = 0  # payload bytes of the frame that is being skipped
        self._header = b""  # of the last small frame
        self._closed = False

    def run(self, early: bytes) -> None:
        """Read until Close; `early` came with the opening handshake."""
        kept = len(early)
        self._memory[:kept] = early
        first = last = time.perf_counter() if early else 0.0
        while not self._closed:
            count = self._sock.recv_into(self._view[kept:])
            last = time.perf_counter()
            first = first or last
            if not count:
                raise ConnectionError("the connection ended without Close")
            kept = self._feed(kept + count)
        self.seconds = last - first

    def _feed(self, end: int) -> int:
        """Count what is in the buffer; how many bytes of it were kept at its front."""
        at = min(self._skip, end)
        self._skip -= at
        while at < end and not self._closed:
            at, before = self._row(at, end), at
            if at == before:
                at = self._one(at, end)
                if at == before:
                    self._memory[: end - at] = self._memory[at:end]
                    return end - at
        return 0

    def _row(self, at: int, end: int) -> int:
        """Pass over whole frames that have the header of the last one."""
        header = self._header
        if not header:
            return at
        size = self._size(header)
        stride = len(header) + self._key_size + size
        count = (end - at) // stride
        stop = at + count * stride
        memory = self._memory
        if count < 2 or any(
            memory[at + index : stop : stride] != bytes([octet]) * count for index, octet in enumerate(header)
        ):
            return at
        self._count(header[0], size, count)
        return stop

    def _one(self, at: int, end: int) -> int:
        """Pass over a frame, or what is there of it; stay if its header, or what is to be kept, is not."""
        header = self._header_at(at, end)
        if header is None:
            return at
        size = self._size(header)
        start = at + len(header) + self._key_size
        if header[0] & 0x0F == frames.CLOSE:
            self._closed = True
            return end
        if not self.frames:
            stop = start + min(size, SAMPLE)
            if stop > end:
                return at
            self._sample(start, stop)
        self._header = header if size <= _SMALL else b""
        self._count(header[0], size, 1)
        self._skip = max(0, start + size - end)
        return min(end, start + size)

    def _header_at(self, at: int, end: int) -> bytes | None:
        length = {126: 4, 127: 10}.get(self._memory[at + 1] & 0x7F, 2) if end - at > 1 else 2
        if end - at < length + self._key_size:
            return None
        header = bytes(self._memory[at : at + length])
        if bool(header[1] & frames.MASK) != bool(self._key_size):
            raise ConnectionError(f"masked where it must not be, or the other way: {header.hex()}")
        return header

    @staticmethod
    def _size(header: bytes) -> int:
        return header[1] & 0x7F if len(header) == 2 else int.from_bytes(header[2:])

    def _count(self, first: int, size: int, count: int) -> None:
        if first & 0x0F > frames.BINARY:
            raise ConnectionError(f"a frame of opcode {first & 0x0F} among the data")
        self.frames += count
        self.bytes += count * size
        if first & frames.FIN:
            self.messages += count

    def _sample(self, start: int, stop: int) -> None:
        data = bytes(self._memory[start:stop])
        key = bytes(self._memory[start - self._key_size : start])
        self.start_of_message = frames.mask(data, key) if key else data
