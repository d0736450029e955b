"""``wsstream demo``: the main job in one command.

A server in a second process stores a file, and serves it. The file goes up by the code of ``wsstream send``
and comes back by that of ``receive``; what came back is dropped. The digests of what was sent, of what the
server stored, and of what came back are compared. ``--raw`` does it without the protocol for files.
"""

from __future__ import annotations

import argparse
import os
import shutil
import ssl
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import IO, TypeVar, cast

from anyio.streams.tls import TLSAttribute

from wsstream.cli.backends import describe_backend, require
from wsstream.cli.demo_data import DemoFile, MadeUpSource
from wsstream.cli.demo_process import second_process
from wsstream.cli.demo_raw import stream_one_message
from wsstream.cli.demo_report import Account, Report, announce
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.memory import peak_memory
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping, before_exit
from wsstream.cli.transfer.display import showing
from wsstream.cli.units import format_size
from wsstream.client.connect import connect
from wsstream.files.client import download_into
from wsstream.files.progress import OnProgress, Progress
from wsstream.files.protocol.messages import SUBPROTOCOL
from wsstream.files.result import TransferResult
from wsstream.files.transfer import send_file

__all__ = ["demo"]

_T = TypeVar("_T")

_NAME = "demo.bin"  # on the server
_SPARE = 64 << 20  # bytes of the disk that stay free


def demo(options: argparse.Namespace) -> int:
    """Run the demo, print its result and return the exit status 0.

    Raises:
        CommandFailed: the demo failed, or the digests differ, after the result was printed.
    """
    if options.tls:
        require("trustme", extra="cli", what="--tls")
    with MadeUpSource(options.size) if options.file is None else DemoFile(options.file) as source:
        run = stream_one_message if options.raw else _send_and_receive
        report = run_command(options, partial(run, options, source))
    _print(report.as_json() if options.json else report.as_table())
    if problem := report.mismatch():
        raise CommandFailed(Exit.MISMATCH, problem)
    return Exit.OK


async def _send_and_receive(
    options: argparse.Namespace, source: MadeUpSource | DemoFile, stopping: Stopping
) -> Report:
    """Send the file and receive it. A signal cancels that, and leaves nothing behind."""
    async with (
        _folder(source.size) as folder,
        second_process(
            options.backend, tls=options.tls, verbose=bool(options.verbose), folder=folder
        ) as server,
    ):
        announce(options, source, server.url)
        with showing(options) as show:
            told = partial(_tell, show, source.name)
            (up, tls_version), up_seconds = await _timed(
                lambda: _send(server.url, server.context, source, told)
            )
            down, down_seconds = await _timed(
                lambda: download_into(
                    server.url, _Nowhere(), name=_NAME, delays=(), progress=told, ssl=server.context
                )
            )
        server_peak = await server.end()
    return Report(
        source=source.name,
        way="one file, up and back",
        hash=up.hash,
        sent=Account(source.size, up.digest),
        passed=Account(up.size, up.digest),  # both ends have compared their digests
        received=Account(down.size, down.digest),
        seconds=up_seconds + down_seconds,
        up_seconds=up_seconds,
        down_seconds=down_seconds,
        client_peak=peak_memory(),
        server_peak=server_peak,
        backend=describe_backend(options.backend),
        tls=tls_version,
    )


async def _send(
    url: str, context: ssl.SSLContext | None, source: MadeUpSource | DemoFile, progress: OnProgress
) -> tuple[TransferResult, str | None]:
    """Send the file; return what has arrived, and the version of TLS."""
    async with connect(url, ssl=context, subprotocols=[SUBPROTOCOL]) as ws:
        if isinstance(source, DemoFile):
            result = await send_file(ws, source.path, name=_NAME, progress=progress)
        else:
            data = cast(IO[bytes], source)
            result = await send_file(ws, data, name=_NAME, size=source.size, progress=progress)
        return result, ws.extra(TLSAttribute.tls_version, None)


async def _timed(call: Callable[[], Awaitable[_T]]) -> tuple[_T, float]:
    began = perf_counter()
    result = await call()
    return result, perf_counter() - began


def _tell(show: OnProgress, name: str, progress: Progress) -> None:
    show(replace(progress, name=name))


class _Nowhere:
    """Drops what came back; its digest is known by then."""

    async def send(self, item: bytes) -> None:
        """Drop it."""


@asynccontextmanager
async def _folder(size: int) -> AsyncIterator[str]:
    """A folder with room for `size` bytes, for the block. It is removed even at the second signal.

    Raises:
        CommandFailed: there is too little room, or it cannot be made.
    """
    try:
        temporary = TemporaryDirectory(prefix="wsstream-demo-", ignore_cleanup_errors=True)
    except OSError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"no folder can be made: {error}") from None
    with temporary as folder, before_exit(partial(shutil.rmtree, folder, ignore_errors=True)):
        free = shutil.disk_usage(folder).free
        if size + _SPARE > free:
            text = f"{folder} has {format_size(free)} free, which is too little for {format_size(size)}"
            raise CommandFailed(Exit.LOCAL_IO, f"{text}: choose a smaller --size, or another TMPDIR")
        yield folder


def _print(text: str) -> None:
    try:
        print(text, flush=True)
    except OSError as error:
        # The buffered output must not fail once more when the interpreter exits.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise CommandFailed(Exit.LOCAL_IO, f"standard output: {error.strerror or error}") from error
