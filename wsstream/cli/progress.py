"""Progress on stderr: bars by rich on a terminal, elsewhere a line every 10 seconds."""

from __future__ import annotations

import sys
from time import monotonic
from typing import TYPE_CHECKING, Protocol

from wsstream.cli.units import format_size, mebibytes

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import Task
    from rich.text import Text

__all__ = ["Progress", "choose_progress"]


class Progress(Protocol):
    """Shows how much of a message was sent and received. Sizes are bytes.

    Attributes:
        interval: seconds between two calls of `show`.
    """

    interval: float

    def begin(self, title: str, total: int) -> None:
        """Show the title and prepare for `total` bytes each way."""

    def show(self, sent: int, received: int) -> None:
        """Show these numbers of bytes."""

    def end(self) -> None:
        """Leave the terminal as it was."""


def choose_progress(*, quiet: bool, bars: bool) -> Progress:
    """Return the kind of progress that suits stderr. Pass `bars` only if nothing else is written there."""
    if quiet:
        return _Silent()
    if bars and sys.stderr.isatty():
        try:
            from rich.console import Console
        except ImportError:
            return _Lines()
        console = Console(stderr=True)  # respects NO_COLOR
        if not console.is_dumb_terminal:
            return _Bars(console)
    return _Lines()


class _Silent:
    interval = 3600.0

    def begin(self, title: str, total: int) -> None:
        pass

    def show(self, sent: int, received: int) -> None:
        pass

    def end(self) -> None:
        pass


class _Lines:
    interval = 10.0

    def begin(self, title: str, total: int) -> None:
        self._total = total
        self._began = monotonic()
        self._say(f"{title}, {format_size(total)}")

    def show(self, sent: int, received: int) -> None:
        rate = mebibytes(received / (monotonic() - self._began))
        self._say(f"up {self._share(sent)}, down {self._share(received)}, {rate} MiB/s")

    def end(self) -> None:
        pass

    @staticmethod
    def _say(line: str) -> None:
        try:
            sys.stderr.write(f"{line}\n")  # in one call, as both processes write here
            sys.stderr.flush()
        except OSError:
            pass  # nobody reads stderr; the work continues

    def _share(self, done: int) -> str:
        return f"{100 * done // self._total} %" if self._total else format_size(done)


class _Bars:
    interval = 0.1

    def __init__(self, console: Console) -> None:
        from rich.progress import BarColumn, Progress, ProgressColumn, TaskProgressColumn, TextColumn
        from rich.progress import TimeRemainingColumn as Remaining
        from rich.text import Text

        class Rate(ProgressColumn):
            def render(self, task: Task) -> Text:
                return Text(f"{mebibytes(task.speed or 0):7.1f} MiB/s")

        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(None),
            TaskProgressColumn(),
            Rate(),
            Remaining(),
            console=console,
            auto_refresh=False,  # no thread: `show` draws
        )

    def begin(self, title: str, total: int) -> None:
        self._console.print(f"{title}, {format_size(total)}", markup=False, highlight=False)
        self._up = self._progress.add_task("up  ", total=total)
        self._down = self._progress.add_task("down", total=total)
        self._progress.start()

    def show(self, sent: int, received: int) -> None:
        self._progress.update(self._up, completed=sent)
        self._progress.update(self._down, completed=received)
        self._progress.refresh()

    def end(self) -> None:
        self._progress.stop()
