"""Starting the demo's second process, and making sure that it ends."""

from __future__ import annotations

import json
import logging
import os
import ssl
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from subprocess import PIPE

import anyio
from anyio.abc import Process
from anyio.streams.buffered import BufferedByteReceiveStream

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.signals import before_exit

__all__ = ["second_process"]

_START_TIMEOUT = 30.0  # seconds
_END_TIMEOUT = 5.0  # seconds for it to end by itself
_MAX_HELLO = 64 * 1024  # bytes of the line that it prints

logger = logging.getLogger("wsstream.cli.demo")


@asynccontextmanager
async def second_process(
    backend: str, *, tls: bool, verbose: bool
) -> AsyncIterator[tuple[str, ssl.SSLContext | None]]:
    """Run the server while the block runs. Yields its URL, and a TLS context that trusts only its
    certificate.

    If cancelled, or at a second signal, the process is killed.

    Raises:
        CommandFailed: the server did not start.
    """
    process = await anyio.open_process(
        _command(backend, tls=tls, verbose=verbose),
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C reaches only the client, which then closes cleanly
    )
    try:
        with before_exit(partial(_kill, process)):
            yield await _read_hello(process)
    except anyio.get_cancelled_exc_class():
        process.kill()
        raise
    finally:
        # aclose closes its stdin, which ends it. If it does not end in time, aclose is cancelled and kills
        # it.
        with anyio.move_on_after(_END_TIMEOUT, shield=True):
            await process.aclose()


def _kill(process: Process) -> None:
    """Kill the process, and wait until it is gone."""
    process.kill()
    os.waitpid(process.pid, 0)


def _command(backend: str, *, tls: bool, verbose: bool) -> list[str]:
    """The command; with -P, as the working directory is searched only if it is in this process's path."""
    flags = ["--tls"] * tls + ["--verbose"] * verbose
    return [sys.executable, "-P", "-m", "wsstream.cli.demo_server", backend, *flags]


async def _read_hello(process: Process) -> tuple[str, ssl.SSLContext | None]:
    """Read the server's first line: its URL, and the authority of its certificate."""
    assert process.stdout is not None
    try:
        with anyio.fail_after(_START_TIMEOUT):
            line = await BufferedByteReceiveStream(process.stdout).receive_until(b"\n", _MAX_HELLO)
    except (anyio.IncompleteRead, TimeoutError) as error:
        raise CommandFailed(Exit.NO_CONNECTION, "the server did not start") from error
    hello = json.loads(line)
    logger.info("the server is process %d at %s", process.pid, hello["url"])
    authority = hello["authority"]
    return hello["url"], None if authority is None else ssl.create_default_context(cadata=authority)
