"""``wsstream demo``: the main job of the library in one command.

A server in a second process streams one message of any size back while it arrives. The data is digested where
it is sent, where it passes through the server, and where it comes back, and the three digests are compared.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from time import perf_counter

import anyio
from anyio.streams.tls import TLSAttribute

from wsstream.cli.backends import describe_backend, require
from wsstream.cli.demo_data import DemoFile, MadeUpSource, Source, Tally
from wsstream.cli.demo_process import second_process
from wsstream.cli.demo_report import Account, Report
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.failures import reason_of
from wsstream.cli.memory import peak_memory
from wsstream.cli.progress import Progress, choose_progress
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping
from wsstream.client.connect import connect
from wsstream.close_codes import CloseCode
from wsstream.errors import ConnectionClosed
from wsstream.streams.websocket import WebSocketStream

__all__ = ["demo"]


def demo(options: argparse.Namespace) -> int:
    """Run the demo, print its result and return the exit status 0.

    Raises:
        CommandFailed: the demo failed, or the digests differ, after the result was printed.
    """
    if options.tls:
        require("trustme", extra="cli", what="--tls")
    with MadeUpSource(options.size) if options.file is None else DemoFile(options.file) as source:
        progress = choose_progress(quiet=options.quiet, bars=not options.verbose)
        report = run_command(options, _Demo(options, source, progress).run)
    _print(report.as_json() if options.json else report.as_table())
    if problem := report.mismatch():
        raise CommandFailed(Exit.MISMATCH, problem)
    return Exit.OK


class _Demo:
    """One run: the state that its tasks share."""

    def __init__(self, options: argparse.Namespace, source: Source, progress: Progress) -> None:
        self._options = options
        self._source = source
        self._progress = progress
        self._sent = Tally()
        self._received = Tally()
        self._began = self._up_seconds = self._down_seconds = 0.0

    async def run(self, stopping: Stopping) -> Report:
        """Stream there and back. The first signal closes the connection with 1001, if it is open."""
        try:
            return await self._run_both_processes(stopping)
        except (BaseExceptionGroup, ConnectionClosed) as error:
            reason = reason_of(error) if isinstance(error, BaseExceptionGroup) else error
            if isinstance(reason, ConnectionClosed):
                stopping.check()
            raise

    async def _run_both_processes(self, stopping: Stopping) -> Report:
        options, source = self._options, self._source
        async with (
            second_process(options.backend, tls=options.tls, verbose=bool(options.verbose)) as (url, context),
            connect(url, ssl=context) as ws,
        ):
            tls = ws.extra(TLSAttribute.ssl_object, None)
            tls_version = None if tls is None else tls.version()
            self._progress.begin(f"{source.name} to {url} and back", source.size)
            with stopping.by(lambda: ws.begin_close(CloseCode.GOING_AWAY, stopping.reason)):
                try:
                    await self._exchange(ws)
                finally:
                    self._progress.end()
                report = self._report(await ws.receive(), tls_version)
        stopping.check()
        return report

    async def _exchange(self, ws: WebSocketStream) -> None:
        """Send one message and receive one, at the same time, and show the progress."""
        async with anyio.create_task_group() as showing:
            showing.start_soon(self._show_progress)
            async with anyio.create_task_group() as tasks:
                self._began = perf_counter()
                tasks.start_soon(self._send, ws)
                await self._receive(ws)
            showing.cancel_scope.cancel()
        self._progress.show(self._sent.bytes, self._received.bytes)

    async def _send(self, ws: WebSocketStream) -> None:
        async with ws.writable.message() as message:
            while chunk := await anyio.to_thread.run_sync(self._read):
                await message.send(chunk)
        self._up_seconds = perf_counter() - self._began

    async def _receive(self, ws: WebSocketStream) -> None:
        async with ws.readable.message() as message:
            async for chunk in message:
                self._received.add(chunk)
        self._down_seconds = perf_counter() - self._began

    def _read(self) -> bytes:
        """The next chunk, read and digested away from the event loop."""
        chunk = self._source.read()
        self._sent.add(chunk)
        return chunk

    async def _show_progress(self) -> None:
        while True:
            await anyio.sleep(self._progress.interval)
            self._progress.show(self._sent.bytes, self._received.bytes)

    def _report(self, passed: str | bytes, tls_version: str | None) -> Report:
        server = json.loads(passed)
        return Report(
            source=self._source.name,
            sent=Account(self._sent.bytes, self._sent.sha256),
            passed=Account(server["bytes"], server["sha256"]),
            received=Account(self._received.bytes, self._received.sha256),
            up_seconds=self._up_seconds,
            down_seconds=self._down_seconds,
            client_peak=peak_memory(),
            server_peak=server["peak_memory"],
            backend=describe_backend(self._options.backend),
            tls=tls_version,
        )


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        # The buffered output must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandFailed(Exit.LOCAL_IO, f"standard output: {error.strerror or error}") from error
