"""The progress of files on stderr: one line that is drawn anew on a terminal, or lines, or JSON."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from time import monotonic
from typing import TYPE_CHECKING

from wsstream.cli.report import Reporter
from wsstream.cli.terminal import printable
from wsstream.cli.units import format_size, mebibytes
from wsstream.files.progress import OnProgress, Progress, Totals

if TYPE_CHECKING:
    from rich.console import Console

__all__ = ["describe", "gauge", "of_all", "share", "showing", "time_left"]

_LINES = 5.0  # seconds between two lines
_EVENTS = 0.2  # seconds between two events
_NAME = 32  # characters of a name in the line
_CELLS = 8  # of the gauge
_MOST_LEFT = 100 * 3600.0  # seconds; more is no prediction


@contextmanager
def showing(options: argparse.Namespace) -> Iterator[OnProgress]:
    """The function that shows progress while the block runs, as the options and stderr want it."""
    if options.quiet:
        yield lambda progress: None
    elif options.json:
        yield _Events(Reporter(options)).show
    elif (console := _console(options)) is None:
        yield _Lines(Reporter(options)).show
    else:
        with _bar(console) as show:
            yield show


def _console(options: argparse.Namespace) -> Console | None:
    """A terminal that lines can be drawn anew on, if nothing but reports is written there."""
    if options.verbose or not sys.stderr.isatty():
        return None
    try:
        from rich.console import Console
    except ImportError:
        return None
    console = Console(stderr=True)  # respects NO_COLOR
    return None if console.is_dumb_terminal else console


# -- the parts of a line -------------------------------------------------------------------------


def share(progress: Progress | Totals) -> str:
    """How much of the file or of all files has arrived: ``" 42 %"``; bytes, if the size is not known."""
    if progress.size is None:
        return format_size(progress.acknowledged)
    return f"{100 * progress.acknowledged // progress.size if progress.size else 100:3} %"


def time_left(progress: Progress | Totals) -> str:
    """How long the rest takes: ``"0:01:10"``; dashes if that cannot be said."""
    left = progress.seconds_left
    if left is None or left > _MOST_LEFT:
        return "-:--:--"
    seconds = int(left + 0.5)
    return f"{seconds // 3600}:{seconds // 60 % 60:02}:{seconds % 60:02}"


def gauge(progress: Progress) -> str:
    """How much of the credit is used, the bytes on the way: ``"###....."``."""
    used = 0.0 if not progress.window else min(1.0, progress.credit_used / progress.window)
    return ("#" * round(used * _CELLS)).ljust(_CELLS, ".")


def of_all(totals: Totals) -> str:
    """How far all files are: ``"3 of 12 files"``."""
    return f"{totals.files_done} of {totals.files} files"


def describe(progress: Progress) -> str:
    """All of it in one line."""
    parts = [f"{printable(progress.name)}: {progress.phase}", share(progress).strip()]
    if progress.rate:
        parts += [f"{mebibytes(progress.rate)} MiB/s", f"{time_left(progress)} left"]
    if progress.window:
        parts.append(f"{format_size(progress.credit_used)} of {format_size(progress.window)} on the way")
    text = ", ".join(parts)
    if (totals := progress.totals) is None:
        return text
    size = "" if totals.size is None else f" of {format_size(totals.size)}"
    parts = [of_all(totals), format_size(totals.acknowledged) + size]
    if totals.rate:
        parts.append(f"{time_left(totals)} left")
    return f"{text}; {', '.join(parts)}"


# -- where it goes -------------------------------------------------------------------------------


class _Lines:
    """A line every few seconds. What takes less has none: the report at the end says it."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._due = monotonic() + _LINES

    def show(self, progress: Progress) -> None:
        now = monotonic()
        if now >= self._due:
            self._due = now + _LINES
            self._reporter.note("progress", describe(progress))


class _Events:
    """An object for each new phase, and five times a second."""

    def __init__(self, reporter: Reporter) -> None:
        self._reporter = reporter
        self._due = 0.0
        self._last: tuple[str, str] | None = None  # name and phase

    def show(self, progress: Progress) -> None:
        now, this = monotonic(), (progress.name, progress.phase)
        if now < self._due and this == self._last:
            return
        self._due, self._last = now + _EVENTS, this
        left = progress.seconds_left
        self._reporter.note(
            "progress",
            "",
            name=progress.name,
            phase=progress.phase,
            acknowledged=progress.acknowledged,
            durable=progress.durable,
            size=progress.size,
            resumed_at=progress.resumed_at,
            rate=round(progress.rate),
            seconds_left=None if left is None else round(left, 1),
            credit_used=progress.credit_used,
            window=progress.window,
            **({} if progress.totals is None else {"totals": _fields(progress.totals)}),
        )


def _fields(totals: Totals) -> dict[str, object]:
    left = totals.seconds_left
    return {
        "files": totals.files,
        "files_done": totals.files_done,
        "acknowledged": totals.acknowledged,
        "size": totals.size,
        "rate": round(totals.rate),
        "seconds_left": None if left is None else round(left, 1),
    }


@contextmanager
def _bar(console: Console) -> Iterator[OnProgress]:
    """One line by rich, which is gone at the end. Reports that are written meanwhile appear above it."""
    from rich import progress as rich_progress

    def column(text: str) -> rich_progress.TextColumn:
        return rich_progress.TextColumn(text, markup=False)

    bar = rich_progress.Progress(
        column("{task.fields[files]}{task.fields[name]}"),
        rich_progress.BarColumn(None),
        column("{task.fields[share]}"),
        column("{task.fields[rate]}"),
        column("{task.fields[left]}"),
        column("{task.fields[phase]}"),
        column("credit {task.fields[gauge]}"),
        console=console,
        auto_refresh=False,  # no thread: `show` draws
        transient=True,
    )
    task = bar.add_task("", total=None, files="", name="", share="", rate="", left="", phase="", gauge="")

    def show(progress: Progress) -> None:
        totals = progress.totals
        whole = progress if totals is None else totals  # what the bar and the time left are of
        bar.update(
            task,
            total=whole.size,
            completed=whole.acknowledged,
            files="" if totals is None else f"{of_all(totals)}: ",
            name=_short(printable(progress.name)),
            share=share(whole),
            rate=f"{mebibytes(whole.rate):6.1f} MiB/s",
            left=time_left(whole),
            phase=f"{progress.phase:9}",
            gauge=gauge(progress),
        )
        bar.refresh()

    with bar:
        yield show


def _short(name: str) -> str:
    """The end of a long name, which tells files of one folder apart."""
    return name if len(name) <= _NAME else f"...{name[3 - _NAME :]}"
