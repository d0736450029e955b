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

__all__ = ["SecondProcess", "second_process"]

_START_TIMEOUT = 30.0  # seconds
_END_TIMEOUT = 5.0  # seconds for it to end by itself
_MAX_HELLO = 64 * 1024  # bytes of the line that it prints

logger = logging.getLogger("wsstream.cli.demo")


class SecondProcess:
    """The server that runs.

    Attributes:
        url: its URL.
        context: a TLS context that trusts only its certificate; ``None`` without TLS.
    """

    def __init__(
        self,
        process: Process,
        output: BufferedByteReceiveStream,
        url: str,
        context: ssl.SSLContext | None,
    ) -> None:
        self.url = url
        self.context = context
        self._process = process
        self._output = output

    @classmethod
    async def begin(cls, process: Process) -> SecondProcess:
        """Read the server's first line: its URL, and the authority of its certificate.

        Raises:
            CommandFailed: it did not start.
        """
        assert process.stdout is not None
        output = BufferedByteReceiveStream(process.stdout)
        try:
            with anyio.fail_after(_START_TIMEOUT):
                line = await output.receive_until(b"\n", _MAX_HELLO)
        except (anyio.IncompleteRead, TimeoutError) as error:
            raise CommandFailed(Exit.NO_CONNECTION, "the server did not start") from error
        hello = json.loads(line)
        logger.info("the server is process %d at %s", process.pid, hello["url"])
        authority = hello["authority"]
        context = None if authority is None else ssl.create_default_context(cadata=authority)
        return cls(process, output, hello["url"], context)

    async def end(self) -> int | None:
        """End it; return its peak memory in bytes, or ``None`` if that is not known."""
        assert self._process.stdin is not None
        await self._process.stdin.aclose()
        try:
            with anyio.fail_after(_END_TIMEOUT):
                peak = json.loads(await self._output.receive_until(b"\n", _MAX_HELLO))["peak_memory"]
        except (anyio.IncompleteRead, TimeoutError):
            return None
        return None if peak is None else int(peak)


@asynccontextmanager
async def second_process(
    backend: str, *, tls: bool, verbose: bool, folder: str | None = None
) -> AsyncIterator[SecondProcess]:
    """Run the server while the block runs: of the files in `folder`, or without one of single messages.

    If cancelled, or at a second signal, the process is killed.

    Raises:
        CommandFailed: the server did not start.
    """
    process = await anyio.open_process(
        _command(backend, tls=tls, verbose=verbose, folder=folder),
        stdin=PIPE,
        stdout=PIPE,
        stderr=None,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
        start_new_session=True,  # Ctrl-C reaches only the client, which then closes cleanly
    )
    try:
        with before_exit(partial(_kill, process)):
            yield await SecondProcess.begin(process)
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


def _command(backend: str, *, tls: bool, verbose: bool, folder: str | None) -> list[str]:
    """The command; with -P, as the working directory is searched only if it is in this process's path."""
    flags = ["--tls"] * tls + ["--verbose"] * verbose
    flags += [] if folder is None else ["--files", folder]
    return [sys.executable, "-P", "-m", "wsstream.cli.demo_server", backend, *flags]
