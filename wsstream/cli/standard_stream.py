"""stdin and stdout as one stream of bytes."""

from __future__ import annotations

import anyio
from anyio.abc import ByteStream

from wsstream.cli.stdio import Input, Output

__all__ = ["StandardStream"]


class StandardStream(ByteStream):
    """Receives from stdin and sends to stdout. The end of one leaves the other open."""

    def __init__(self) -> None:
        self._input = Input()
        self._output = Output()
        self._closed = False
        self._ended = False  # stdout

    async def receive(self, max_bytes: int = 65536) -> bytes:
        """The next bytes of stdin. If cancelled, none is lost.

        Raises:
            anyio.EndOfStream: stdin has ended.
            CommandFailed: it cannot be read.
        """
        self._check()
        data = await self._input.read(max_bytes)
        if not data:
            raise anyio.EndOfStream
        return data

    async def send(self, item: bytes) -> None:
        """Write all of `item` to stdout. If cancelled, a part of it may have been written.

        Raises:
            CommandFailed: it cannot be written.
        """
        self._check()
        await self._output.write(item)

    async def send_eof(self) -> None:
        """Close stdout."""
        self._check()
        if not self._ended:
            self._ended = True
            await self._output.end()

    async def aclose(self) -> None:
        """Close stdout; stdin stays as it is."""
        if not self._closed:
            self._closed = True
            if not self._ended:
                self._ended = True
                await self._output.end()

    def _check(self) -> None:
        if self._closed:
            raise anyio.ClosedResourceError
