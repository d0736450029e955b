"""From stdin to messages, in the framings of a pipe. No more than a chunk or one JSON line is held."""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Awaitable, Callable
from typing import Protocol

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.report import Reporter
from wsstream.codec.events import Kind
from wsstream.errors import InvalidUTF8
from wsstream.streams.websocket import WebSocketStream
from wsstream.streams.writer import MessageWriter

__all__ = ["Sender", "Source"]

_LONG = 64 * 1024  # bytes; a line that is longer is sent while it is read
_MAX_JSON = 16 << 20  # bytes of a line of JSON, which has to be held whole
_LENGTH = 4  # bytes
_MUCH = 100 << 20  # bytes; browsers, Node and others refuse messages from about here on


class Source(Protocol):
    """Where the bytes come from."""

    async def read(self, size: int = ...) -> bytes:
        """Return the next bytes, ``b""`` at the end."""
        ...


class Sender:
    """Sends what a source has, to its end.

    Args:
        source: the bytes to send.
        ws: the connection.
        kind: of the messages; ``None``: that of the framing.
        reporter: is told when a message is larger than many peers take.

    Attributes:
        in_message: a message has begun to leave and is not complete.
    """

    def __init__(self, source: Source, ws: WebSocketStream, kind: Kind | None, reporter: Reporter) -> None:
        self.in_message = False
        self._source = source
        self._ws = ws
        self._kind: Kind | None = kind
        self._reporter = reporter
        self._held = bytearray()  # read, and not sent yet

    async def run(self, framing: str) -> None:
        """Send all there is, in `framing`: one of ``--framing``, or ``"whole"``.

        Raises:
            CommandFailed: the input is not what the framing says, or cannot be read.
            ConnectionClosed: the connection has ended.
        """
        ways: dict[str, Callable[[], Awaitable[None]]] = {
            "lines": self._send_lines,
            "raw": self._send_raw,
            "json": self._send_json,
            "len": self._send_lengths,
            "whole": self._send_whole,
        }
        try:
            await ways[framing]()
        except (UnicodeDecodeError, InvalidUTF8):
            raise CommandFailed(Exit.LOCAL_IO, "standard input is not UTF-8: use --binary") from None

    async def _send(self, payload: bytes, kind: Kind) -> None:
        await self._ws.send(payload.decode() if kind == "text" else payload)

    # -- lines -------------------------------------------------------------------------------

    async def _send_lines(self) -> None:
        kind = self._kind or "text"
        while chunk := await self._source.read():
            self._held += chunk
            await self._send_complete_lines(kind)
            while len(self._held) >= _LONG:
                await self._send_long_line(kind)
                await self._send_complete_lines(kind)
        if self._held:
            await self._send(bytes(self._held), kind)

    async def _send_complete_lines(self, kind: Kind) -> None:
        if b"\n" in self._held:
            *lines, self._held = self._held.split(b"\n")
            for line in lines:
                await self._send(bytes(line), kind)

    async def _send_long_line(self, kind: Kind) -> None:
        """Send a line while it is read, as one message; what follows it is held."""
        self.in_message = True
        async with self._ws.writable.message(kind) as message:
            chunk, self._held = bytes(self._held), bytearray()
            while chunk:
                line, newline, rest = chunk.partition(b"\n")
                await message.send(line)
                if newline:
                    self._held = bytearray(rest)
                    break
                chunk = await self._source.read()
        self.in_message = False

    # -- other framings ----------------------------------------------------------------------

    async def _send_raw(self) -> None:
        kind = self._kind or "binary"
        while chunk := await self._source.read():
            await self._send(chunk, kind)

    async def _send_whole(self) -> None:
        kind = self._kind or "binary"
        self.in_message = True
        async with self._ws.writable.message(kind) as message:
            while chunk := await self._source.read():
                before = message.bytes_sent
                await message.send(chunk)
                if before < _MUCH <= message.bytes_sent:
                    self._reporter.note(
                        "large", "the message is larger than 100 MiB, which many peers refuse", bytes=_MUCH
                    )
        self.in_message = False

    async def _send_json(self) -> None:
        while chunk := await self._source.read():
            self._held += chunk
            if b"\n" in chunk:
                *lines, self._held = self._held.split(b"\n")
                for line in lines:
                    await self._send_object(bytes(line))
            if len(self._held) > _MAX_JSON:
                raise CommandFailed(Exit.LOCAL_IO, "a line of JSON is longer than 16 MiB")
        await self._send_object(bytes(self._held))

    async def _send_object(self, line: bytes) -> None:
        if not line.strip():
            return
        try:
            match json.loads(line):
                case {"text": str(text)}:
                    message: str | bytes = text
                    text.encode()
                case {"binary": str(text)}:
                    message = base64.b64decode(text, validate=True)
                case _:
                    raise ValueError
        except (ValueError, RecursionError, binascii.Error):
            problem = 'a line is neither {"text": "..."} nor {"binary": "base64"}'
            raise CommandFailed(Exit.LOCAL_IO, f"standard input: {problem}") from None
        await self._ws.send(message)

    async def _send_lengths(self) -> None:
        kind = self._kind or "binary"
        while await self._fill(_LENGTH):
            size = int.from_bytes(self._held[:_LENGTH])
            del self._held[:_LENGTH]
            self.in_message = True
            async with self._ws.writable.message(kind) as message:
                await self._send_part(message, size)
            self.in_message = False

    async def _fill(self, size: int) -> bool:
        """Hold at least `size` bytes; false at the end of the input, where nothing is left over."""
        while len(self._held) < size:
            chunk = await self._source.read()
            if not chunk:
                if self._held:
                    raise _cut()
                return False
            self._held += chunk
        return True

    async def _send_part(self, message: MessageWriter, size: int) -> None:
        while size:
            if not self._held and not await self._fill(1):
                raise _cut()
            chunk = bytes(self._held[:size])
            del self._held[:size]
            size -= len(chunk)
            await message.send(chunk)


def _cut() -> CommandFailed:
    return CommandFailed(Exit.LOCAL_IO, "standard input ends inside a message")
