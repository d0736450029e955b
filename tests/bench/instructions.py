"""Instructions for each message: ``python tests/bench/instructions.py [CASE ...] [--library NAME ...]``.

They are those of the subject in user space, as callgrind (of valgrind) counts them: the difference of two
runs of different length, divided by the messages. The count hardly depends on what else the machine does, so
a change of a few percent shows. It has nothing of what the kernel does, and an instruction is not a time.

uvloop does not run under valgrind. Whatever looks at the clock finds a machine that is some 50 times slower.
"""

from __future__ import annotations

import subprocess
import sys

import command
from control import Failed
from difference import Counts, Tool
from subjects import SUBJECTS
from tables import markdown


def read(text: str) -> dict[str, float]:
    """The sum at the end of a profile."""
    total = next(line for line in text.splitlines() if line.startswith("totals:"))
    return {"instructions": float(total.split()[1])}


def begin(process: int) -> None:
    """Count from here; until here the process ran four times as fast as it does now."""
    order = ["vgdb", f"--pid={process}", "instrumentation", "on"]
    done = subprocess.run(order, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Failed(f"vgdb, a part of valgrind, does not reach the subject: {done.stderr}")


CALLGRIND = Tool(
    "valgrind",
    ["--tool=callgrind", "--instr-atstart=no", "--callgrind-out-file={}", "--log-file={}.log"],
    read,
    begin,
)


def main() -> int:
    libraries = ["wsstream-asyncio", "wsstream-trio", "picows-asyncio"]
    parser = command.parser(__doc__, cases=["echo-256"], libraries=libraries, seconds=3)
    options = command.parsed(parser)
    if others := [name for name in options.library if SUBJECTS[name].loop == "uvloop"]:
        parser.error(f"uvloop does not run under valgrind: {', '.join(others)}")
    found = CALLGRIND.measure(options.cases, options.library, options.seconds)
    rows = [[case, *(told(found.get((case, name))) for name in options.library)] for case in options.cases]
    print(markdown(["instructions for each message", *options.library], rows))
    return 0 if len(found) == len(options.cases) * len(options.library) else 1


def told(counts: Counts | None) -> str:
    return "–" if counts is None else f"{counts['instructions']:,.0f}"


if __name__ == "__main__":
    sys.exit(main())
