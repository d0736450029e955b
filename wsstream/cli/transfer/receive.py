"""``wsstream receive``: a file or a folder from a server of files, or a file for stdout."""

from __future__ import annotations

import argparse
import hashlib
import os
from functools import partial
from typing import Any

from anyio import to_thread

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.opening import client_keywords
from wsstream.cli.running import run_command
from wsstream.cli.signals import Stopping
from wsstream.cli.standard_stream import StandardStream
from wsstream.cli.terminal import printable
from wsstream.cli.transfer.listen import end_that_listens, receive_by_listening
from wsstream.cli.transfer.run import delays_of, run_transfer
from wsstream.files.client import download, download_into, is_folder, split_dest, target_of
from wsstream.files.progress import OnProgress
from wsstream.files.result import TransferResult

__all__ = ["receive_command"]

_STDOUT = "-"


def receive_command(options: argparse.Namespace) -> int:
    """Run ``wsstream receive`` and return the exit status.

    Raises:
        CommandFailed: an option is wrong, the transfer failed, or this is not the expected file.
    """
    if (end := end_that_listens(options.url)) is not None:
        return receive_by_listening(options, end)
    keywords = {
        **client_keywords(options, options.url),
        "name": options.name,
        "max_size": options.max_size,
        "expect": options.expect,
        "limit_rate": options.limit_rate,
    }
    target = target_of(options.url, options.name)
    folder_is_meant = is_folder(target)
    if options.expect is not None and folder_is_meant:
        raise CommandFailed(Exit.USAGE, "--expect is for one file, and the URL names a folder")
    if options.dest == _STDOUT:
        if folder_is_meant:
            raise CommandFailed(Exit.USAGE, "- takes one file, and the URL names a folder")
        return run_command(options, partial(_receive_to_stdout, options, keywords))
    folder, name = split_dest(options.dest, target)
    needed = options.dest if folder_is_meant else folder  # a later attempt would take a new one for another
    if not os.path.isdir(needed):
        raise CommandFailed(Exit.LOCAL_IO, f"{needed}: there is no such folder")
    return run_command(options, partial(_receive, options, keywords, os.path.join(folder, name)))


async def _receive(
    options: argparse.Namespace, keywords: dict[str, Any], path: str, stopping: Stopping
) -> int:
    async def transfer(progress: OnProgress) -> list[TransferResult]:
        return await download(
            options.url,
            options.dest,
            on_exist=options.on_exist,
            delays=delays_of(options),
            progress=progress,
            **keywords,
        )

    results = await run_transfer(options, stopping, transfer)
    if options.expect is not None and not results:  # there is a file, and it was left as it is
        await _expect(options.expect, path)
    return Exit.OK


async def _receive_to_stdout(
    options: argparse.Namespace, keywords: dict[str, Any], stopping: Stopping
) -> int:
    """Pass the file on to stdout while it arrives. It cannot be resumed by another process."""

    async def transfer(progress: OnProgress) -> list[TransferResult]:
        result = await download_into(
            options.url, StandardStream(), delays=delays_of(options), progress=progress, **keywords
        )
        return [result]

    await run_transfer(options, stopping, transfer, resumable=False)
    return Exit.OK


async def _expect(digest: str, path: str) -> None:
    """Compare the SHA-256 of the file with `digest`.

    Raises:
        CommandFailed: they differ, or the file cannot be read.
    """
    try:
        found = await to_thread.run_sync(_sha256, path, abandon_on_cancel=True)
    except OSError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{printable(path)}: {error.strerror or error}") from None
    if found != digest:
        raise CommandFailed(
            Exit.MISMATCH, f"{printable(path)}: not the file that --expect names; its sha256 is {found}"
        )


def _sha256(path: str) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
