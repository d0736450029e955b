"""``wsstream demo --raw``: one message of any size, there and back at the same time.

The server sends the message back while it arrives. The data is digested where it is sent, where it passes
through the server, and where it comes back.
"""

from __future__ import annotations

import argparse
import json
from time import perf_counter

import anyio
from anyio.streams.tls import TLSAttribute

from wsstream.cli.backends import describe_backend
from wsstream.cli.demo_data import Source, Tally
from wsstream.cli.demo_process import second_process
from wsstream.cli.demo_report import Account, Report, announce
from wsstream.cli.failures import reason_of
from wsstream.cli.memory import peak_memory
from wsstream.cli.signals import Stopping
from wsstream.cli.transfer.display import showing
from wsstream.client.connect import connect
from wsstream.close_codes import CloseCode
from wsstream.errors import ConnectionClosed
from wsstream.files.progress import Meter, OnProgress
from wsstream.streams.websocket import WebSocketStream

__all__ = ["stream_one_message"]

_INTERVAL = 0.1  # seconds between two looks at how far it is


async def stream_one_message(options: argparse.Namespace, source: Source, stopping: Stopping) -> Report:
    """Stream there and back. The first signal closes the connection with 1001, if it is open."""
    try:
        return await _Demo(options, source).run(stopping)
    except (BaseExceptionGroup, ConnectionClosed) as error:
        reason = reason_of(error) if isinstance(error, BaseExceptionGroup) else error
        if isinstance(reason, ConnectionClosed):
            stopping.check()
        raise


class _Demo:
    """One run: the state that its tasks share."""

    def __init__(self, options: argparse.Namespace, source: Source) -> None:
        self._options = options
        self._source = source
        self._sent = Tally()
        self._received = Tally()
        self._began = self._up_seconds = self._down_seconds = 0.0

    async def run(self, stopping: Stopping) -> Report:
        options, source = self._options, self._source
        async with (
            second_process(options.backend, tls=options.tls, verbose=bool(options.verbose)) as server,
            connect(server.url, ssl=server.context) as ws,
        ):
            tls_version = ws.extra(TLSAttribute.tls_version, None)
            announce(options, source, server.url)
            with stopping.by(lambda: ws.begin_close(CloseCode.GOING_AWAY, stopping.reason)):
                with showing(options) as show:
                    await self._exchange(ws, show)
                passed = json.loads(await ws.receive())
        stopping.check()
        return self._report(passed, tls_version)

    async def _exchange(self, ws: WebSocketStream, show: OnProgress) -> None:
        """Send one message and receive one, at the same time, and show the progress."""
        async with anyio.create_task_group() as showing_tasks:
            showing_tasks.start_soon(self._show_progress, show)
            async with anyio.create_task_group() as tasks:
                self._began = perf_counter()
                tasks.start_soon(self._send, ws)
                await self._receive(ws)
            showing_tasks.cancel_scope.cancel()

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

    async def _show_progress(self, show: OnProgress) -> None:
        meter = Meter(show, self._source.name, self._source.size)
        meter.start(0, self._source.size)
        while True:
            await anyio.sleep(_INTERVAL)
            back = self._received.bytes
            meter.tell("receiving", back, credit_used=self._sent.bytes - back)

    def _report(self, passed: dict[str, object], tls_version: str | None) -> Report:
        return Report(
            source=self._source.name,
            way="one message each way",
            hash="sha256",
            sent=Account(self._sent.bytes, self._sent.sha256),
            passed=Account(int(str(passed["bytes"])), str(passed["sha256"])),
            received=Account(self._received.bytes, self._received.sha256),
            seconds=self._down_seconds,
            up_seconds=self._up_seconds,
            down_seconds=self._down_seconds,
            client_peak=peak_memory(),
            server_peak=passed["peak_memory"],  # type: ignore[arg-type]
            backend=describe_backend(self._options.backend),
            tls=tls_version,
        )
