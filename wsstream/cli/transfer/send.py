"""``wsstream send``: files, folders or stdin to a server of files."""

from __future__ import annotations

import argparse
import os
import stat
from collections.abc import Iterable
from functools import partial
from typing import IO, Any, cast

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.opening import Dial, client_keywords, dial_of
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping
from wsstream.cli.transfer.listen import end_that_listens, send_by_listening
from wsstream.cli.transfer.run import delays_of, run_transfer
from wsstream.cli.transfer.stdin import StandardInput
from wsstream.errors import ConnectionClosed
from wsstream.files.client import is_folder, target_of, upload
from wsstream.files.errors import TransferError
from wsstream.files.progress import OnProgress
from wsstream.files.protocol.messages import SUBPROTOCOL
from wsstream.files.result import TransferResult
from wsstream.files.storage.target import names_for
from wsstream.files.transfer import send_file

__all__ = ["send_command"]

_STDIN = "-"


def send_command(options: argparse.Namespace) -> int:
    """Run ``wsstream send`` and return the exit status.

    Raises:
        CommandFailed: an option or a file is wrong, or the transfer failed.
    """
    if (end := end_that_listens(options.url)) is not None:
        _check_files(path for path in options.files if path != _STDIN)
        return send_by_listening(options, end)
    keywords = client_keywords(options, options.url)
    target = target_of(options.url, options.name)
    folder_is_meant = is_folder(target)
    if _STDIN in options.files:
        if len(options.files) > 1 or folder_is_meant:
            raise CommandFailed(Exit.USAGE, "- must be alone, and needs --name or a name in the URL")
        dial = dial_of(options, options.url, [SUBPROTOCOL])
        return run_command(options, partial(_send_stdin, options, dial, target))
    if len(options.files) > 1 and not folder_is_meant:
        raise CommandFailed(Exit.USAGE, "the name must end in / for several files: it is that of a folder")
    _check_files(options.files)
    return run_command(options, partial(_send, options, keywords))


def _check_files(paths: Iterable[str]) -> None:
    """Find wrong paths before anything is sent."""
    for path in paths:
        try:
            mode = os.stat(path).st_mode
        except OSError as error:
            raise CommandFailed(Exit.LOCAL_IO, f"{path}: {error.strerror or error}") from None
        if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
            raise CommandFailed(Exit.LOCAL_IO, f"{path}: neither a file nor a folder")


async def _send(options: argparse.Namespace, keywords: dict[str, Any], stopping: Stopping) -> int:
    async def transfer(progress: OnProgress) -> list[TransferResult]:
        return await upload(
            options.url,
            options.files,
            name=options.name,
            on_exist=options.on_exist,
            limit_rate=options.limit_rate,
            delays=delays_of(options),
            progress=progress,
            **keywords,
        )

    await run_transfer(options, stopping, transfer)
    return Exit.OK


async def _send_stdin(options: argparse.Namespace, dial: Dial, name: str, stopping: Stopping) -> int:
    """Send stdin, which can be read only once: over one connection, without another attempt."""
    with StandardInput() as stdin:

        async def transfer(progress: OnProgress) -> list[TransferResult]:
            async with dial() as ws:
                refused = TransferError("exists")
                for candidate in names_for(name, options.on_exist):
                    try:
                        result = await send_file(
                            ws,
                            cast(IO[bytes], stdin),
                            name=candidate,
                            size=stdin.size,
                            replace=options.on_exist == "overwrite",
                            limit_rate=options.limit_rate,
                            progress=progress,
                        )
                    except TransferError as error:
                        if error.error != "exists" or stdin.begun:
                            raise
                        refused = error
                    else:
                        return [result]
                if options.on_exist == "skip":
                    return []
                raise refused

        try:
            await run_transfer(options, stopping, transfer, resumable=False, stop=stdin.stop)
        except (ConnectionClosed, TransferError) as error:
            if stdin.begun:
                error.add_note("stdin was read in part, and cannot be read again: begin anew.")
            raise
    return Exit.OK
