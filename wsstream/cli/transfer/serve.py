"""``wsstream serve files``: a folder for `send` and `receive`."""

from __future__ import annotations

import argparse
from functools import partial
from weakref import WeakKeyDictionary

import anyio

from wsstream.cli.credentials import read_token
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.report import Reporter
from wsstream.cli.running import run_command
from wsstream.cli.serving import binds_of, listening
from wsstream.cli.signals import Stopping
from wsstream.cli.terminal import printable
from wsstream.cli.units import format_size
from wsstream.files.errors import TransferError
from wsstream.files.progress import Progress
from wsstream.files.protocol.messages import SUBPROTOCOL
from wsstream.files.server import serve_files
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.web.pages import web_page
from wsstream.streams.websocket import WebSocketStream

__all__ = ["serve_files_command"]


def serve_files_command(options: argparse.Namespace) -> int:
    """Run ``wsstream serve files`` until a signal comes, or for one connection; return the exit status.

    Raises:
        CommandFailed: an option or the folder is wrong, or the system refuses to listen.
    """
    if options.web and not (options.path or "/").endswith("/"):
        raise CommandFailed(
            Exit.USAGE, "--web: the path must end with a slash, as the page has files below it"
        )
    try:
        root = SafeRoot(options.dir)
    except TransferError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{options.dir}: {error.reason}") from None
    with root:
        return run_command(options, partial(_serve, options, root))


async def _serve(options: argparse.Namespace, root: SafeRoot, stopping: Stopping) -> int:
    ended = anyio.Event()
    handler = serve_files(
        root,
        allow=options.allow,
        on_exist=options.on_exist,
        max_size=options.max_size,
        min_free=options.min_free,
        on_progress=_Log(Reporter(options)).note,
    )

    async def handle(ws: WebSocketStream) -> None:
        try:
            await handler(ws)
        finally:
            if options.once:
                ended.set()

    page = web_page(options.path or "/", token=read_token(options)) if options.web else None
    async with listening(
        options, handle, binds_of(options), path=options.path, subprotocols=[SUBPROTOCOL], page=page
    ):
        with stopping.by(ended.set):
            await ended.wait()
    return Exit.OK


class _Log:
    """Reports each file that has been moved."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._phases: WeakKeyDictionary[WebSocketStream, str] = WeakKeyDictionary()  # the last of each

    def note(self, ws: WebSocketStream, progress: Progress) -> None:
        """Take the progress of a client's file."""
        if progress.phase != "done":
            self._phases[ws] = progress.phase
            return
        # A sender waits for the receiver to verify, a receiver puts the file on the disk after that.
        verb = "sent" if self._phases.pop(ws, "") == "verifying" else "received"
        text = f"{verb} {printable(progress.name)}, {format_size(progress.acknowledged)}"
        self._reporter.note(verb, text, name=progress.name, size=progress.acknowledged)
