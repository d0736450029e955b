"""The benchmark: ``python tests/bench/run.py``. Needs the extra `bench`.

Every case runs each library in a process of its own against the same partner: plain sockets in another
process, on another core. Rounds are interleaved over the libraries, what counts are medians of the rounds,
and only ratios within one run mean something. `--out FOLDER` keeps the results as JSON, Markdown and SVG;
`--report FILE` makes the latter two again from the JSON. Exits with 1 if two ends of a connection did not
count the same.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from cases import BY_NAME, CASES, SERIES, SERIES_BY_NAME, Series
from control import Failed
from files import made_for
from instructions import CALLGRIND
from machine import description, load
from measure import Bench, Summary
from report import Results, fragment, seconds
from subjects import SUBJECTS, missing

INSTRUCTION_SECONDS = 3  # under valgrind
SERIES_ROUNDS = 3  # at most
SERIES_SHARE = 0.3  # of the time of a measurement in the table
QUICK = {"rounds": 1, "seconds": 0.03}


def main() -> int:
    options = parsed_arguments()
    if options.report:
        results = json.loads(options.report.read_text())
    else:
        lacking = missing(options.libraries)
        if lacking:
            print(f"Not installed: {', '.join(lacking)}. Try pip install -e '.[bench]'.", file=sys.stderr)
            return 2
        results = measured(options)
    if options.out:
        write(results, options.out)
    for failure in results["failures"]:
        print(f"FAILED: {failure}", file=sys.stderr)
    return 1 if results["failures"] else 0


def parsed_arguments() -> argparse.Namespace:
    names = [*BY_NAME, *SERIES_BY_NAME]
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        epilog="\n\n".join(
            f"{what}: {', '.join(each)}"
            for what, each in (("cases", BY_NAME), ("series", SERIES_BY_NAME), ("libraries", SUBJECTS))
        ),
    )
    parser.add_argument("--cases", nargs="+", metavar="NAME", choices=names, default=names)
    parser.add_argument("--libraries", nargs="+", metavar="NAME", choices=SUBJECTS, default=list(SUBJECTS))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.4, help="for each measurement")
    parser.add_argument("--quick", action="store_true", help="everything once, briefly: does it run?")
    parser.add_argument(
        "--out", type=Path, metavar="FOLDER", help="where results.json, table.inc and the plots go"
    )
    parser.add_argument("--report", type=Path, metavar="FILE", help="do not measure; take these results")
    options = parser.parse_args()
    if options.quick:
        parser.set_defaults(**QUICK)
        options = parser.parse_args()
    if options.report and not options.out:
        options.out = options.report.parent
    return options


def measured(options: argparse.Namespace) -> Results:
    """Measure all that is asked for, and print it meanwhile."""
    results: Results = {
        "machine": description(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "load": [load()],
        "table": {},
        "series": {},
        "failures": [],
    }
    start = time.monotonic()
    with made_for(options.cases) as files:
        bench = Bench(files, options.seconds)
        for case in (case for case in CASES if case.name in options.cases):
            case = case.quick() if options.quick else case
            subjects = [name for name in options.libraries if name in case.subjects]
            print(f"\n{case.title} ({case.name})", flush=True)
            try:
                row = bench.run(case, subjects, options.rounds)
            except Failed as failure:
                results["failures"].append(str(failure))
                continue
            results["table"][case.name] = row
            tell(row)
        bench.seconds *= SERIES_SHARE
        for series in (series for series in SERIES if series.name in options.cases):
            series = series.quick() if options.quick else series
            try:
                results["series"][series.name] = run_series(bench, series, options)
            except Failed as failure:
                results["failures"].append(str(failure))
    results["codecs"] = bench.codecs
    if "echo-256" in options.cases and not options.quick and shutil.which("valgrind"):
        wanted = [name for name in ("wsstream-asyncio", "picows-asyncio") if name in options.libraries]
        counted = CALLGRIND.measure(["echo-256"], wanted, INSTRUCTION_SECONDS)
        results["instructions"] = {name: counts["instructions"] for (_, name), counts in counted.items()}
    results["load"].append(load())
    print(f"\n{time.monotonic() - start:.0f} s")
    return results


def run_series(bench: Bench, series: Series, options: argparse.Namespace) -> dict[str, Any]:
    subjects = [name for name in options.libraries if name in series.subjects]
    lines: dict[str, list[tuple[int, Summary]]] = {name: [] for name in subjects}
    for point in series.points:
        row = bench.run(series.at(point), subjects, min(SERIES_ROUNDS, options.rounds))
        print(f"\n{series.title} ({series.name}): {point}")
        tell(row)
        for name, figures in row.items():
            lines[name].append((point, figures))
    return {"title": series.title, "axis": series.axis, "base": series.base, "subjects": lines}


def tell(row: dict[str, Summary]) -> None:
    for name, figures in row.items():
        print(
            f"  {name:20}{figures['rate']:12,.0f}/s {figures['throughput'] / 1e6:10,.1f} MB/s"
            f"   CPU {seconds(figures['cpu']):>9}   memory + {figures['peak'] / 2**20:.1f} MiB",
            flush=True,
        )


def write(results: Results, folder: Path) -> None:
    from plots import draw  # matplotlib is not needed before

    folder.mkdir(parents=True, exist_ok=True)
    results = rounded(results)  # before the table is made, which can be made again from what is kept
    (folder / "results.json").write_text(json.dumps(results) + "\n")
    (folder / "table.inc").write_text(fragment(results))
    draw(results, folder)


def rounded(value: Any) -> Any:
    """Four digits are more than the machine is good for."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: rounded(each) for name, each in value.items()}
    return (
        [rounded(each) for each in value]
        if isinstance(value, Sequence) and not isinstance(value, str)
        else value
    )


if __name__ == "__main__":
    sys.exit(main())
