"""Starting the demo's second process, and making sure that it ends."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from subprocess import PIPE

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from wsstream.cli.exits import CommandFailed, Exit

__all__ = ["second_process"]

_START_TIMEOUT = 30.0  # seconds
_END_TIMEOUT = 5.0  # seconds for it to end by itself
_LINE = 64 * 1024  # bytes; what it may say

logger = logging.getLogger("wsstream.cli.demo")


@asynccontextmanager
async def second_process(
    backend: str, *, tls: bool, verbose: bool
) -> AsyncIterator[tuple[str, ssl.SSLContext | None]]:
    """Run the server while the block runs; gives its URL, and the context that trusts only its certificate.

    Raises:
        CommandFailed: it did not start.
    """
    process = await anyio.open_process(
        _command(backend, tls=tls, verbose=verbose),
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C is for the client, which then closes in good order
    )
    try:
        yield await _hear(process)
    except anyio.get_cancelled_exc_class():
        process.kill()
        raise
    finally:
        # Closing its stdin ends it; if it does not, aclose is cancelled and kills it.
        with anyio.move_on_after(_END_TIMEOUT, shield=True):
            await process.aclose()


def _command(backend: str, *, tls: bool, verbose: bool) -> list[str]:
    """With -P and this process's own path, so that the working directory is searched only if it is here."""
    flags = ["--tls"] * tls + ["--verbose"] * verbose
    return [sys.executable, "-P", "-m", "wsstream.cli.demo_server", backend, *flags]


async def _hear(process: Process) -> tuple[str, ssl.SSLContext | None]:
    assert process.stdout is not None
    try:
        with anyio.fail_after(_START_TIMEOUT):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", _LINE)
    except (anyio.IncompleteRead, TimeoutError) as error:
        raise CommandFailed(Exit.NO_CONNECTION, "the server did not start") from error
    hello = json.loads(line)
    logger.info("the server is process %d at %s", process.pid, hello["url"])
    authority = hello["authority"]
    return hello["url"], None if authority is None else ssl.create_default_context(cadata=authority)
