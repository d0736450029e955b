"""``wsstream connect``: one connection, its two directions, and how it ends."""

from __future__ import annotations

import argparse
import os
from functools import partial

import anyio

from wsstream.cli.connect.console import Console
from wsstream.cli.connect.sending import Sender
from wsstream.cli.connect.writing import writer_for
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.failures import failure_of, is_good_end
from wsstream.cli.opening import Dial, dial_of
from wsstream.cli.report import Reporter
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping
from wsstream.cli.stdio import Input, Output
from wsstream.close_codes import CloseCode
from wsstream.errors import ClosedLocally, ConnectionBroken, ConnectionClosed, MessageAborted
from wsstream.streams.websocket import WebSocketStream

__all__ = ["connect_command"]

_ROUND = 5.0  # seconds: a timeout of a proxy is a multiple of it, mostly
_NEAR = 0.7  # seconds: so near to such a multiple the connection was cut
_CUT = "the peer closed before the message was complete"


def connect_command(options: argparse.Namespace) -> int:
    """Run ``wsstream connect`` and return the exit status.

    Raises:
        CommandFailed: the connection could not be opened, or did not end well.
    """
    dial = dial_of(options, options.url)
    return run_command(options, partial(_run, options, dial))


async def _run(options: argparse.Namespace, dial: Dial, stopping: Stopping) -> int:
    with anyio.move_on_after(options.timeout) as scope:
        async with dial() as ws:
            await _Session(options, ws, stopping).run()
    if scope.cancelled_caught:
        raise CommandFailed(Exit.TIMEOUT, "--timeout ran out")
    return Exit.OK


class _Session:
    def __init__(self, options: argparse.Namespace, ws: WebSocketStream, stopping: Stopping) -> None:
        self._options = options
        self._ws = ws
        self._stopping = stopping
        self._reporter = Reporter(options)
        self._output = Output()
        self._framing = "whole" if options.whole else options.framing
        self._sender = Sender(Input(), ws, options.kind, self._reporter)
        interactive = os.isatty(0) and self._output.is_terminal and self._framing == "lines"
        self._console = Console(ws, self._output, self._reporter) if interactive else None
        self._write = writer_for(self._framing, self._output) if self._console is None else self._console.show
        self._received = 0  # messages
        self._busy = False  # a message of the peer is being written
        self._active = anyio.current_time()  # when a message of the peer last began or ended
        self._touched = anyio.Event()  # set at that time

    async def run(self) -> None:
        """Exchange messages until the connection ends.

        Raises:
            CommandFailed: it did not end well.
        """
        self._reporter.note("open", "", **self._facts()) if self._options.json else self._greet()
        with self._stopping.by(lambda: self._ws.begin_close(1001, self._stopping.reason)):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(self._send)
                await self._receive()
                tasks.cancel_scope.cancel()
            self._stopping.check()
        if self._sender.in_message:
            raise CommandFailed(Exit.CLOSED, _CUT)
        info = self._ws.close_info
        if self._options.json and info is not None:
            self._reporter.note("closed", "", code=info.code, reason=info.reason)

    def _facts(self) -> dict[str, str]:
        return {"subprotocol": self._ws.subprotocol, "extensions": self._ws.extensions}

    def _greet(self) -> None:
        if self._console is not None:
            self._reporter.note("open", "connected; /help for commands, Ctrl-D to close")

    # -- receiving ---------------------------------------------------------------------------

    async def _receive(self) -> None:
        """Write the peer's messages until the connection ends.

        Raises:
            CommandFailed: it did not end well.
        """
        try:
            async for message in self._ws.readable.messages():
                self._touch(busy=True)
                await self._write(message)
                self._touch(busy=False)
                self._received += 1
                if self._received == self._options.count:
                    await self._ws.aclose(CloseCode.NORMAL)
                    return
        except ClosedLocally:
            return
        except ConnectionBroken as error:
            if isinstance(error.__cause__, MessageAborted):
                return  # the input is at fault, and whoever reads it says so
            if error.__cause__ is None and is_good_end(error.info):  # Close cut a message, either way
                raise CommandFailed(Exit.CLOSED, _CUT) from None
            raise self._explained(error) from None
        info = self._ws.close_info
        assert info is not None
        if not is_good_end(info):
            text = ConnectionClosed("the peer closed the connection", info)
            raise CommandFailed(Exit.CLOSED, str(text))

    def _touch(self, *, busy: bool) -> None:
        self._busy = busy
        self._active = anyio.current_time()
        self._touched.set()

    def _explained(self, error: ConnectionBroken) -> CommandFailed:
        failure = failure_of(error)
        assert isinstance(failure, CommandFailed)
        idle = anyio.current_time() - self._active
        if (
            failure.status == Exit.LOST
            and abs(idle - round(idle / _ROUND) * _ROUND) < _NEAR
            and idle > _ROUND / 2
        ):
            seconds = round(idle / _ROUND) * _ROUND
            hint = f"it was cut after {seconds:g} s of silence, perhaps by a proxy: try --ping-interval"
            return CommandFailed(failure.status, f"{failure}; {hint} {seconds / 2:g}")
        return failure

    # -- sending -----------------------------------------------------------------------------

    async def _send(self) -> None:
        """Send the input to its end; then close, when the peer is silent."""
        try:
            if self._console is not None:
                await self._console.run()
                await self._ws.aclose(*self._console.close_with)
                return
            await self._sender.run(self._framing)
            await self._close_when_silent()
        except ConnectionClosed:
            pass  # whoever receives knows how it ended

    async def _close_when_silent(self) -> None:
        """Close once the peer has read everything and nothing has arrived for the time of ``--wait``.

        A peer that got Close may send nothing more (RFC 6455 section 5.5.1), so its answers come before.
        """
        await self._ws.ping()
        silent = False
        while not silent:
            self._touched = anyio.Event()
            with anyio.move_on_after(self._options.wait) as waiting:
                await self._touched.wait()
            silent = waiting.cancelled_caught and not self._busy
        await self._ws.aclose(CloseCode.NORMAL)
