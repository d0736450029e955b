"""The demo's second process: a server of files, or one that streams each message back while it arrives.

It prints its URL as one line of JSON on stdout and ends when its stdin does, so it never outlives the process
that started it, however that process ends. Its last line has its peak memory. It removes its folder.
"""

from __future__ import annotations

import json
import logging
import os
import shutil
import ssl
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from threading import Timer

import anyio

from wsstream.cli.backends import run
from wsstream.cli.demo_data import CHUNK, Tally
from wsstream.cli.memory import peak_memory
from wsstream.files.server import serve_files
from wsstream.server.handlers import Handler
from wsstream.server.serve import serve
from wsstream.streams.websocket import WebSocketStream

__all__ = ["main"]

_WINDOWS = 16 << 20  # bytes on the way; between two processes of one machine, more would only wait
_GRACE = 2.0  # seconds to close connections after stdin has ended


def main(argv: Sequence[str]) -> None:
    """``python -m wsstream.cli.demo_server BACKEND [--tls] [--verbose] [--files DIR]``, as the demo does."""
    backend, *flags = argv
    if "--verbose" in flags:
        logging.basicConfig(level=logging.INFO, format="%(name)s: %(message)s")
    folder = flags[flags.index("--files") + 1] if "--files" in flags else None
    handler = _echo if folder is None else serve_files(folder, allow=["get", "put"], max_windows=_WINDOWS)
    try:
        run(partial(_serve, handler, tls="--tls" in flags), backend)
    finally:
        if folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


async def _serve(handler: Handler, *, tls: bool) -> None:
    context, authority = _certificate() if tls else (None, None)
    async with serve(
        handler,
        "127.0.0.1",
        ssl=context,
        origins=[None],  # web pages may not connect
        shutdown_timeout=_GRACE / 2,
        ping_interval=None,  # stdin ends with the client, which may be suspended for a long time
    ) as server:
        print(json.dumps({"url": server.url, "authority": authority}), flush=True)
        await anyio.to_thread.run_sync(_wait_for_end_of_stdin)
        with suppress(OSError):  # nobody is left to read it
            print(json.dumps({"peak_memory": peak_memory()}), flush=True)


async def _echo(ws: WebSocketStream) -> None:
    """Send one message back chunk by chunk, then a report of its bytes."""
    tally = Tally()
    async with ws.readable.message() as message, ws.writable.message(message.kind) as answer:
        try:
            while True:
                chunk = await message.receive(CHUNK)
                tally.add(chunk)
                await answer.send(chunk)
        except anyio.EndOfStream:
            pass
    report = {"bytes": tally.bytes, "sha256": tally.sha256, "peak_memory": peak_memory()}
    await ws.send(json.dumps(report))


def _wait_for_end_of_stdin() -> None:
    sys.stdin.buffer.read()
    end = Timer(_GRACE, os._exit, (1,))  # ends the process even if the event loop hangs
    end.daemon = True
    end.start()


def _certificate() -> tuple[ssl.SSLContext, str]:
    """A context for the server, and the authority's certificate for its clients. The key stays here."""
    import trustme

    authority = trustme.CA()
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    return context, authority.cert_pem.bytes().decode()


if __name__ == "__main__":
    main(sys.argv[1:])
