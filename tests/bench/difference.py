"""What one message costs, counted by a tool that the subject runs under.

Starting Python, importing the library and opening the connection cost far more than a message. So the subject
runs twice, each time in a new process, for a short and for a long time, and the difference of the counts is
divided by the difference of the messages. The partner does not run under the tool.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from cases import BY_NAME, Case
from control import Failed
from files import made_for
from measure import Bench

SHORT = 0.25  # of the long run

Counts = Mapping[str, float]


class Tool(NamedTuple):
    """A program that counts what another one does.

    Attributes:
        program: its name.
        options: of its command line; ``{}`` stands for the file to which it writes.
        read: the counts, from the text of that file.
        started: called with the number of the process when the library is imported.
    """

    program: str
    options: Sequence[str]
    read: Callable[[str], Counts]
    started: Callable[[int], None] | None = None

    def measure(
        self, cases: Iterable[str], libraries: Iterable[str], seconds: float
    ) -> dict[tuple[str, str], Counts]:
        """The counts for one message, by case and library. What fails is told and left out.

        Exits with 2 if the program is not installed.
        """
        if shutil.which(self.program) is None:
            print(
                f"{self.program} is not installed. On Debian: apt-get install {self.program}", file=sys.stderr
            )
            sys.exit(2)
        found = {}
        with made_for(cases) as files:
            for case, library in ((case, library) for case in cases for library in libraries):
                try:
                    found[case, library] = self.for_each_message(BY_NAME[case], library, files, seconds)
                except Failed as failure:
                    print(f"FAILED: {failure}", file=sys.stderr)
        return found

    def for_each_message(self, case: Case, library: str, files: dict[str, str], seconds: float) -> Counts:
        """By what is counted, the count for one message. Raises `Failed`."""
        few, before = self._run(case, library, files, seconds * SHORT)
        many, after = self._run(case, library, files, seconds)
        if many <= few:
            raise Failed(f"{case.name}, {library}: no more messages in {seconds} s than in a part of them")
        return {
            what: (after.get(what, 0) - before.get(what, 0)) / (many - few) for what in {**after, **before}
        }

    def _run(self, case: Case, library: str, files: dict[str, str], seconds: float) -> tuple[int, Counts]:
        """How many messages there were, and the counts of the process."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "counts"
            under = [self.program, *(option.replace("{}", str(path)) for option in self.options)]
            got = Bench(files, seconds, under).once(case, library, started=self.started)
            return got["messages"], self.read(path.read_text())
