"""What a message costs, call by call: ``python tests/bench/calls.py [CASE ...] [--library NAME]``.

Runs each case once under ``cProfile`` and prints the functions that took the most time of their own. The
number of calls for each message is exact; times are too long by what the profiler costs, about 0.1 µs a call.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from cases import BY_NAME
from measure import Bench
from run import make_files
from subjects import SUBJECTS

USUAL = ["consume-256-server", "produce-256", "echo-256", "proxy-1m"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("cases", nargs="*", metavar="CASE", default=USUAL, help=", ".join(BY_NAME))
    parser.add_argument("--library", choices=SUBJECTS, default="wsstream-asyncio")
    parser.add_argument("--seconds", type=float, default=0.5)
    parser.add_argument("--rows", type=int, default=12)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(make_files(Path(folder), with_file="send-file" in options.cases), options.seconds)
        for name in options.cases:
            tell(name, bench.profile(BY_NAME[name], options.library), options.rows)


def tell(case: str, rows: list[dict[str, Any]], most: int) -> None:
    calls, own = (sum(row[what] for row in rows) for what in ("calls", "own"))
    print(f"\n{case}: {calls:.3g} calls and {own * 1e6:.3g} µs for each message\n")
    print("| function | calls | µs |\n| --- | ---: | ---: |")
    for row in sorted(rows, key=lambda row: -row["own"])[:most]:
        print(f"| `{row['function']}` | {row['calls']:.3g} | {row['own'] * 1e6:.3g} |")


if __name__ == "__main__":
    main()
