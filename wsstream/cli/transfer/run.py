"""What `send` and `receive` share: the attempts, the signals, and the report at the end."""

from __future__ import annotations

import argparse
from collections.abc import Awaitable, Callable, Iterable, Iterator
from itertools import islice
from time import monotonic

import anyio

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.report import Reporter
from wsstream.cli.signals import Stopping
from wsstream.cli.terminal import printable
from wsstream.cli.transfer.display import showing
from wsstream.cli.units import format_size, mebibytes
from wsstream.files.client import DELAYS
from wsstream.files.progress import OnProgress
from wsstream.files.result import TransferResult

__all__ = ["Transfer", "delays_of", "report", "run_transfer"]

Transfer = Callable[[OnProgress], Awaitable[list[TransferResult]]]
"""Moves files, and tells its argument how far it is."""


async def run_transfer(
    options: argparse.Namespace,
    stopping: Stopping,
    transfer: Transfer,
    *,
    resumable: bool = True,
    stop: Callable[[], object] | None = None,
) -> list[TransferResult]:
    """Run `transfer` with progress on stderr; return the files that have arrived.

    The first signal cancels it: what is on the receiver's disk stays there, so that a file can be resumed.

    Args:
        options: the command line.
        stopping: the command's.
        transfer: moves the files.
        resumable: the same command, repeated, goes on; not from or to a pipe.
        stop: called at the first signal, to end what cannot be cancelled.

    Raises:
        CommandFailed: a signal came; the status says whether the same command goes on.
        Exception: what `transfer` raises.
    """
    began = monotonic()
    results = None
    try:
        with showing(options) as show, anyio.CancelScope() as scope:

            def end() -> None:
                scope.cancel()
                if stop is not None:
                    stop()

            with stopping.by(end):
                results = await transfer(show)
    except Exception:
        if stopping.number is None:
            raise
    if results is None:
        if not resumable:
            stopping.check()
        raise CommandFailed(Exit.INTERRUPTED, f"{stopping.reason}; the same command goes on where it stopped")
    report(options, results, monotonic() - began)
    return results


def delays_of(options: argparse.Namespace) -> Iterable[float]:
    """The pauses before the attempts of ``--retry``, each of which is reported."""
    return _Delays(options.retry, Reporter(options))


class _Delays:
    def __init__(self, count: int, reporter: Reporter) -> None:
        self._count = count
        self._reporter = reporter

    def __iter__(self) -> Iterator[float]:
        for number, delay in enumerate(islice(DELAYS, self._count), 1):
            text = f"the connection was lost; connecting again, attempt {number} of {self._count}"
            self._reporter.note("retry", text, attempt=number, attempts=self._count)
            yield delay


def report(options: argparse.Namespace, results: list[TransferResult], seconds: float) -> None:
    """Report each file with its digest, and all of them with the rate."""
    reporter = Reporter(options)
    for each in results:
        reporter.note(
            "file",
            f"{printable(each.name)}: {format_size(each.size)}, {each.hash} {each.digest}",
            name=each.name,
            size=each.size,
            sent=each.sent,
            hash=each.hash,
            digest=each.digest,
        )
    size, sent = sum(each.size for each in results), sum(each.sent for each in results)
    reporter.note(
        "done",
        _summary(len(results), size, sent, seconds),
        files=len(results),
        size=size,
        sent=sent,
        seconds=round(seconds, 3),
    )


def _summary(files: int, size: int, sent: int, seconds: float) -> str:
    if not files:
        return "nothing to do: the files are there"
    name = "1 file" if files == 1 else f"{files} files"
    text = f"{name}, {format_size(size)}, in {seconds:.1f} s, {mebibytes(sent / seconds)} MiB/s"
    return text if sent == size else f"{text}; {format_size(size - sent)} had arrived before"
