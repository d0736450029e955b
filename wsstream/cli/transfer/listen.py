"""``wsstream send`` and ``receive`` where this side listens and the other one connects."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from functools import partial

import anyio

from wsstream.cli.bridge.ends import Listening, parse_end
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.running import run_command
from wsstream.cli.serving import listening
from wsstream.cli.signals import Stopping
from wsstream.cli.transfer.run import run_transfer
from wsstream.files.errors import TransferError
from wsstream.files.progress import OnProgress, Progress
from wsstream.files.protocol.messages import SUBPROTOCOL
from wsstream.files.result import TransferResult
from wsstream.files.server import Allow, Deny, FileHandler, Op, serve_files
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.transfer import name_of
from wsstream.streams.websocket import WebSocketStream

__all__ = ["end_that_listens", "receive_by_listening", "send_by_listening"]

_IN_ORDER = (1000, 1005)  # a client that is interrupted closes with 1001, and comes back


def end_that_listens(url: str) -> Listening | None:
    """Where to listen, if the argument says so in place of a URL.

    Raises:
        CommandFailed: it is no address.
    """
    if not url.lower().startswith("ws-listen:"):
        return None
    end = parse_end(url)
    return end if isinstance(end, Listening) else None


def send_by_listening(options: argparse.Namespace, end: Listening) -> int:
    """Let others get the file or folder of the command line, until one has it; return the exit status.

    Raises:
        CommandFailed: an option is wrong, or the system refuses to listen.
        TransferError: the file has a name that nobody could ask for.
    """
    _refuse(options, ("name", "limit_rate"))
    if len(options.files) > 1 or options.files == ["-"]:
        raise CommandFailed(Exit.USAGE, "ws-listen: takes one file, or a folder with several")
    path = os.path.realpath(options.files[0])
    if os.path.isdir(path):
        return _run(options, end, path, "", ("get", "list"))
    return _run(options, end, os.path.dirname(path), name_of(path), ("get",))


def receive_by_listening(options: argparse.Namespace, end: Listening) -> int:
    """Let others send files, until one has sent some; return the exit status.

    Raises:
        CommandFailed: an option is wrong, or the system refuses to listen.
    """
    _refuse(options, ("name", "limit_rate", "expect"))
    if options.dest == "-":
        raise CommandFailed(Exit.USAGE, "- needs a URL to connect to: ws-listen: stores what is sent")
    ops: tuple[Op, ...] = ("put", "overwrite") if options.on_exist == "overwrite" else ("put",)
    if os.path.isdir(options.dest):
        return _run(options, end, options.dest, "", ops)
    folder, name = os.path.split(os.path.abspath(options.dest))
    return _run(options, end, folder, name, ops)


def _refuse(options: argparse.Namespace, names: Sequence[str]) -> None:
    for name in names:
        if getattr(options, name) is not None:
            option = f"--{name.replace('_', '-')}"
            raise CommandFailed(Exit.USAGE, f"{option} needs a URL to connect to, not ws-listen:")


def _run(options: argparse.Namespace, end: Listening, folder: str, name: str, ops: Sequence[Op]) -> int:
    try:
        root = SafeRoot(folder)
    except TransferError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{folder}: {error.reason}") from None
    with root:
        return run_command(options, partial(_Visits(options, end, root, name, ops).run))


class _Visits:
    """Clients that come, until one has moved a file and has gone in good order.

    One that is cut off comes back, and goes on.

    Args:
        options, end: of the command line.
        root: the folder of what is moved.
        name: the one file in it; ``""``: all of them.
        ops: what clients may do.
    """

    def __init__(
        self, options: argparse.Namespace, end: Listening, root: SafeRoot, name: str, ops: Sequence[Op]
    ) -> None:
        self._options = options
        self._end = end
        self._root = root
        self._name = name
        self._ops = ops
        self._results: dict[str, TransferResult] = {}
        self._visitors: set[WebSocketStream] = set()  # those that have moved something

    async def run(self, stopping: Stopping) -> int:
        """Listen until one has come. Raises what `run_transfer` does."""
        await run_transfer(self._options, stopping, self._transfer)
        return Exit.OK

    async def _transfer(self, progress: OnProgress) -> list[TransferResult]:
        handler, over = self._handler(progress), anyio.Event()

        async def handle(ws: WebSocketStream) -> None:
            await handler(ws)
            info = ws.close_info
            if ws in self._visitors and info is not None and info.code in _IN_ORDER:
                over.set()

        async with listening(
            self._options, handle, [self._end.bind], path=self._end.path, subprotocols=[SUBPROTOCOL]
        ):
            await over.wait()
        return list(self._results.values())

    def _handler(self, progress: OnProgress) -> FileHandler:
        def tell(ws: WebSocketStream, state: Progress) -> None:
            progress(state)

        def note(ws: WebSocketStream, result: TransferResult) -> None:
            self._visitors.add(ws)
            self._results[result.name] = result

        return serve_files(
            self._root,
            allow=self._ops,
            authorize=self._authorize if self._name else None,
            on_exist="rename" if self._options.on_exist == "rename" else "fail",
            max_size=getattr(self._options, "max_size", None),
            on_progress=tell,
            on_result=note,
        )

    async def _authorize(self, identity: str | None, op: Op, name: str, size: int | None) -> Allow | Deny:
        """Whatever the client calls it, there is one file."""
        return Allow(self._name)
