"""What the commands that look into the cost of a message have in common: their arguments."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from cases import BY_NAME
from subjects import SUBJECTS

CASES = [name for name, case in BY_NAME.items() if case.measure != "memory"]  # those that count messages


def parser(
    description: str | None, *, cases: Sequence[str], libraries: Sequence[str], seconds: float
) -> argparse.ArgumentParser:
    """The cases, the libraries, and how long a measurement takes; with what to take where none is named."""
    made = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog=f"cases: {', '.join(CASES)}\n\nlibraries: {', '.join(SUBJECTS)}",
    )
    made.add_argument("cases", nargs="*", metavar="CASE", default=cases, help=f"{' '.join(cases)}, if none")
    made.add_argument("--library", nargs="+", metavar="NAME", choices=SUBJECTS, default=libraries)
    made.add_argument("--seconds", type=float, default=seconds, help="for each measurement (%(default)s)")
    return made


def parsed(made: argparse.ArgumentParser) -> argparse.Namespace:
    options = made.parse_args()
    if unknown := sorted(set(options.cases) - set(CASES)):
        made.error(f"there is no case {', '.join(unknown)}; choose from {', '.join(CASES)}")
    return options
