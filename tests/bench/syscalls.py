"""System calls for each message: ``python tests/bench/syscalls.py [CASE ...] [--library NAME ...]``.

They are those of the subject with all its threads, as strace counts them: the difference of two runs of
different length, divided by the messages. strace makes each call slower, so what depends on how much has
arrived since the last call, such as the size of reads, is not exactly as without it.
"""

from __future__ import annotations

import sys

import command
from difference import Counts, Tool
from tables import markdown

RARE = 0.005  # calls for each message that are not told by name


def read(text: str) -> dict[str, float]:
    """How often each call was made, of the lines ``calls name``."""
    rows = [line.split() for line in text.splitlines()]
    return {row[1]: float(row[0]) for row in rows if len(row) == 2 and row[0].isdigit() and row[1] != "total"}


STRACE = Tool("strace", ["-f", "-c", "-U", "calls,name", "-o", "{}"], read)


def main() -> int:
    libraries = [f"{name}-{loop}" for name in ("wsstream", "picows") for loop in ("asyncio", "uvloop")]
    libraries.insert(2, "wsstream-trio")
    options = command.parsed(command.parser(__doc__, cases=["echo-256"], libraries=libraries, seconds=1))
    found = STRACE.measure(options.cases, options.library, options.seconds)
    rows = [
        [f"{case}, {library}", f"{sum(counts.values()):.3g}", told(counts)]
        for (case, library), counts in found.items()
    ]
    print(markdown(["", "system calls for each message", "of them"], rows))
    return 0 if len(found) == len(options.cases) * len(options.library) else 1


def told(counts: Counts) -> str:
    """The calls by name, the most frequent first."""
    often = sorted(counts.items(), key=lambda each: -each[1])
    return ", ".join(f"{name} {count:.3g}" for name, count in often if count >= RARE)


if __name__ == "__main__":
    sys.exit(main())
