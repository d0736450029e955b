"""``wsstream echo``: a server that sends back what it receives, or misbehaves as told."""

from __future__ import annotations

import argparse
from functools import partial

import anyio

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.running import run_command
from wsstream.cli.serving import binds_of, listening
from wsstream.cli.signals import Stopping
from wsstream.errors import check_close_arguments
from wsstream.streams.reader import MessageReader
from wsstream.streams.websocket import WebSocketStream

__all__ = ["echo_command"]

_CHUNK = 64 * 1024  # bytes


def echo_command(options: argparse.Namespace) -> int:
    """Run ``wsstream echo`` until a signal comes, or for one connection; return the exit status.

    Raises:
        CommandFailed: an option is wrong, or the system refuses to listen.
    """
    if options.close_after is not None:
        try:
            check_close_arguments(options.close_after[1], "")
        except ValueError as error:
            raise CommandFailed(Exit.USAGE, str(error)) from None
    return run_command(options, partial(_serve, options))


async def _serve(options: argparse.Namespace, stopping: Stopping) -> int:
    ended = anyio.Event()

    async def handle(ws: WebSocketStream) -> None:
        try:
            await _Behaviour(options, ws).run()
        finally:
            if options.once:
                ended.set()

    async with listening(options, handle, binds_of(options), path=options.path):
        with stopping.by(ended.set):
            await ended.wait()
    return Exit.OK


class _Behaviour:
    """What the server does on one connection."""

    def __init__(self, options: argparse.Namespace, ws: WebSocketStream) -> None:
        self._options = options
        self._ws = ws
        self._messages = 0  # those that were answered, or in other modes received or sent
        self._pace = _Pace(options.rate)

    async def run(self) -> None:
        """Do it until the connection ends, or until it is to end."""
        options, ws = self._options, self._ws
        if await self._is_over():
            return
        if options.stall:
            await ws.wait_closed()
        elif options.mode == "flood":
            await self._flood()
        else:
            async for message in ws.readable.messages():
                if options.mode == "message":
                    await self._answer(message)
                else:
                    async for _ in message:
                        pass
                self._messages += 1
                if await self._is_over():
                    return

    async def _is_over(self) -> bool:
        """End the connection, if the number of messages for that is reached."""
        options = self._options
        if options.drop_after is not None and self._messages >= options.drop_after:
            self._ws.abort()
            return True
        if options.close_after is not None and self._messages >= options.close_after[0]:
            await self._ws.aclose(options.close_after[1])
            return True
        return False

    async def _answer(self, message: MessageReader) -> None:
        await self._delay()
        async with self._ws.writable.message(message.kind) as answer:
            async for chunk in message:
                for start in range(0, len(chunk), self._pace.step):
                    piece = chunk[start : start + self._pace.step]
                    await self._pace.wait(len(piece))
                    await answer.send(piece)

    async def _flood(self) -> None:
        self._ws.readable.discard()
        size = self._options.size
        piece = bytes(min(size, self._pace.step))
        while not await self._is_over():
            await self._delay()
            async with self._ws.writable.message() as message:
                left = size
                while left:
                    await self._pace.wait(min(left, len(piece)))
                    await message.send(piece[:left])
                    left -= min(left, len(piece))
            self._messages += 1

    async def _delay(self) -> None:
        if self._options.delay:
            await anyio.sleep(self._options.delay)


class _Pace:
    """Spreads bytes over time.

    Args:
        rate: bytes a second; ``None``: no limit.

    Attributes:
        step: the most bytes to `wait` for at once, a tenth of a second's.
    """

    def __init__(self, rate: int | None) -> None:
        self._rate = rate
        self._due = 0.0
        self.step = _CHUNK if not rate else max(1, min(_CHUNK, rate // 10))

    async def wait(self, size: int) -> None:
        """Wait until `size` bytes may be sent."""
        if self._rate:
            now = anyio.current_time()
            await anyio.sleep(max(0.0, self._due - now))
            self._due = max(now, self._due) + size / self._rate
