"""What a message costs, call by call: ``python tests/bench/calls.py [CASE ...] [--library NAME ...]``.

Runs each case once under ``cProfile`` and prints the functions that took the most time of their own. The
number of calls for each message is exact; times are too long by what the profiler costs, about 0.1 µs a call.
"""

from __future__ import annotations

from typing import Any

import command
from cases import BY_NAME
from files import made_for
from measure import Bench
from tables import markdown

USUAL = ["consume-256-server", "produce-256", "echo-256", "proxy-1m"]


def main() -> None:
    parser = command.parser(__doc__, cases=USUAL, libraries=["wsstream-asyncio"], seconds=0.5)
    parser.add_argument("--rows", type=int, default=12)
    options = command.parsed(parser)
    with made_for(options.cases) as files:
        bench = Bench(files, options.seconds)
        for case, library in ((case, library) for case in options.cases for library in options.library):
            print(f"\n{case}, {library}: {told(profile(bench, case, library), options.rows)}")


def profile(bench: Bench, case: str, library: str) -> list[dict[str, Any]]:
    """The functions that one library calls: how often for each message, and the seconds in itself."""
    sample = bench.once(BY_NAME[case], library, profile=True)
    messages = sample["messages"]
    return [
        {**row, "calls": row["calls"] / messages, "own": row["own"] / messages} for row in sample["calls"]
    ]


def told(rows: list[dict[str, Any]], most: int) -> str:
    calls, own = (sum(row[what] for row in rows) for what in ("calls", "own"))
    table = markdown(
        ["function", "calls", "µs"],
        [
            [f"`{row['function']}`", f"{row['calls']:.3g}", f"{row['own'] * 1e6:.3g}"]
            for row in sorted(rows, key=lambda row: -row["own"])[:most]
        ],
    )
    return f"{calls:.3g} calls and {own * 1e6:.3g} µs for each message\n\n{table}"


if __name__ == "__main__":
    main()
