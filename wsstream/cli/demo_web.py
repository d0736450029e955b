"""``wsstream demo --web``: the page on which backpressure can be seen, with a temporary folder."""

from __future__ import annotations

import argparse
import json
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import anyio

from wsstream.cli.demo_data import MadeUpSource
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.report import Reporter
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping
from wsstream.cli.slow_disk import Disk, SlowRoot
from wsstream.files.protocol.messages import SUBPROTOCOL
from wsstream.files.server import serve_files
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.web.pages import web_page
from wsstream.server.serve import serve
from wsstream.streams.websocket import WebSocketStream

__all__ = ["demo_web"]

_CONTROL = "wsstream.demo.v1"  # what the page's slider for the disk speaks
_SAMPLE = 64 << 20  # bytes of the file that is there to be downloaded
_HOST = "127.0.0.1"


def demo_web(options: argparse.Namespace) -> int:
    """Serve the page until a signal comes; return the exit status.

    Raises:
        CommandFailed: an option does not go with ``--web``, or the system refuses.
    """
    if options.file is not None or options.raw or options.tls or options.json:
        raise CommandFailed(Exit.USAGE, "--web does not go with FILE, --raw, --tls and --json")
    disk = Disk()
    with TemporaryDirectory(prefix="wsstream-demo-") as folder:
        _make_sample(Path(folder, "sample.bin"))
        with SlowRoot(folder, disk) as root:
            return run_command(options, partial(_serve, options, root, disk))


def _make_sample(path: Path) -> None:
    with MadeUpSource(_SAMPLE) as source, path.open("wb") as file:
        while chunk := source.read():
            file.write(chunk)


async def _serve(options: argparse.Namespace, root: SafeRoot, disk: Disk, stopping: Stopping) -> int:
    files = serve_files(root, allow=["get", "list", "put"], on_exist="rename")

    async def handle(ws: WebSocketStream) -> None:
        if ws.subprotocol == _CONTROL:
            await _control(ws, disk)
        else:
            await files(ws)

    ended = anyio.Event()
    async with serve(
        handle,
        _HOST,
        subprotocols=[SUBPROTOCOL, _CONTROL],
        hosts=[_HOST, "localhost"],
        process_request=web_page(control=_CONTROL),
        shutdown_timeout=2,
    ) as server:
        url = f"http://{_HOST}:{server.port}/"
        Reporter(options).note("listening", f"open {url} in a browser; Ctrl-C ends it", url=url)
        with stopping.by(ended.set):
            await ended.wait()
    return Exit.OK


async def _control(ws: WebSocketStream, disk: Disk) -> None:
    """Set the rate of the disk, as the page's slider says: ``{"disk": bytes per second or null}``."""
    async for message in ws:
        try:
            rate = json.loads(message)["disk"]
            if rate is not None and not (type(rate) is int and rate > 0):
                raise ValueError
        except (ValueError, KeyError, TypeError, RecursionError):
            ws.begin_close(1008, "not a rate")
            return
        disk.rate = rate
