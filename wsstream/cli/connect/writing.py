"""From messages to stdout, in the framings of a pipe: in chunks as they arrive, whatever their size."""

from __future__ import annotations

import base64
import codecs
import json
from collections.abc import Awaitable, Callable

from wsstream.cli.stdio import Output
from wsstream.cli.terminal import Escaper
from wsstream.streams.reader import MessageReader

__all__ = ["writer_for"]

Write = Callable[[MessageReader], Awaitable[None]]
"""Writes one message."""

_CHUNK = 64 * 1024  # bytes
_GROUP = 3  # bytes that base64 makes into 4


def writer_for(framing: str, output: Output) -> Write:
    """Return what writes messages to `output` in `framing`: one of ``--framing``, or ``"whole"``.

    On a terminal, what a peer sent is escaped.
    """
    ways: dict[str, Callable[[Output], Write]] = {
        "lines": _lines,
        "raw": _raw,
        "json": _json,
        "len": _lengths,
        "whole": _raw,
    }
    if output.is_terminal and framing != "json":  # JSON is printable
        return _escaped(output)
    return ways[framing](output)


def _lines(output: Output) -> Write:
    async def write(message: MessageReader) -> None:
        async for chunk in message:
            await output.write(chunk + b"\n" if message.complete else chunk)
            if message.complete:
                return
        await output.write(b"\n")

    return write


def _raw(output: Output) -> Write:
    async def write(message: MessageReader) -> None:
        async for chunk in message:
            await output.write(chunk)

    return write


def _escaped(output: Output) -> Write:
    async def write(message: MessageReader) -> None:
        escaper = Escaper(text=message.kind == "text")
        async for chunk in message:
            await output.write(escaper.feed(chunk))
        await output.write(escaper.feed(b"", last=True) + b"\n")

    return write


def _json(output: Output) -> Write:
    async def write(message: MessageReader) -> None:
        await output.write(b'{"text": "' if message.kind == "text" else b'{"binary": "')
        encode = _encode_text() if message.kind == "text" else _encode_binary()
        async for chunk in message:
            await output.write(encode(chunk, False))
        await output.write(encode(b"", True) + b'"}\n')

    return write


def _encode_text() -> Callable[[bytes, bool], bytes]:
    decoder = codecs.getincrementaldecoder("utf-8")()
    return lambda chunk, last: json.dumps(decoder.decode(chunk, last))[1:-1].encode()


def _encode_binary() -> Callable[[bytes, bool], bytes]:
    held = b""

    def encode(chunk: bytes, last: bool) -> bytes:
        nonlocal held
        data = held + chunk
        end = len(data) if last else len(data) - len(data) % _GROUP
        held = data[end:]
        return base64.b64encode(data[:end])

    return encode


def _lengths(output: Output) -> Write:
    async def write(message: MessageReader) -> None:
        # The length comes first, so the message is held whole, up to --max-message.
        payload = await message.read()
        await output.write(len(payload).to_bytes(4) + payload)

    return write
