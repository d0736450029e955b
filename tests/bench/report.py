"""The results as a fragment of Markdown."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from statistics import median
from typing import Any, NamedTuple

import aims
from cases import BY_NAME, MIB, PEERS, PURE, WSSTREAM, Case
from measure import Summary
from subjects import SUBJECTS
from tables import markdown

Results = dict[str, Any]
Row = Mapping[str, Summary]

LOOPS = ("asyncio", "uvloop", "trio")
LIBRARIES = ("picows", "websockets", "aiohttp", "trio-websocket")
NONE = "–"


class Better(NamedTuple):
    """How wsstream compares with the best peer of a row: 2 is twice as good."""

    by_measure: float
    by_cpu: float


def value(case: Case, figures: Summary) -> float:
    """What is compared in this row, so that more is better."""
    if case.measure == "rate":
        return figures["rate"]
    return 1 / figures["cpu"] if case.measure == "cpu" else 1 / figures["held"]


def better(case: Case, row: Row, name: str, peers: Sequence[str] = PEERS) -> Better | None:
    """`name` against the best of `peers`: each measure against whichever peer is best at that."""
    others = [row[peer] for peer in peers if peer in row]
    if name not in row or not others:
        return None
    most = max(value(case, figures) for figures in others)
    least = min(figures["cpu"] for figures in others)
    return Better(value(case, row[name]) / most, least / row[name]["cpu"])


def fragment(results: Results) -> str:
    """Everything: what it was made on, the tables, the plots."""
    table: dict[str, Row] = results["table"]
    rows = [(BY_NAME[name], row) for name, row in table.items()]
    parts = [_origin(results)]
    if rows:
        parts += [
            "### Against the best peer",
            _ratios(rows, results.get("instructions", {})),
            "![Ratios to the best peer](performance/ratios.svg)",
        ]
        parts += ["### Rates", _figures(rows, _rate)]
        parts += ["### CPU time", _figures(rows, _cpu)]
        parts += ["### Memory", _figures(rows, _memory)]
    if results["series"]:
        parts.append("### How cost grows")
    for name, series in results["series"].items():
        parts.append(f"![{series['title']}](performance/{name}.svg)")
    return "\n\n".join(parts) + "\n"


def _origin(results: Results) -> str:
    about = dict(results["machine"])
    date, processor, cores, system, python = (
        about.pop(name) for name in ("date", "processor", "cores", "system", "python")
    )
    versions = ", ".join(f"{name} {version}" for name, version in about.items())
    codecs = sorted({results["codecs"][name] for name in WSSTREAM if name in results["codecs"]})
    return (
        f"Made on {date}: {processor}, {cores} cores, {system}, {python}; {versions}. wsstream's codec is"
        f" {' and '.join(codecs) or NONE}. Rounds: {results['rounds']}, of {results['seconds']} s. Load of"
        f" the machine: {results['load'][0]} before, {results['load'][-1]} after.{_spread(results)}"
    )


def _spread(results: Results) -> str:
    figures = [each for row in results["table"].values() for each in row.values()]
    spreads = [each["spread"] for each in figures if each["rounds"] > 1]
    if not spreads:
        return ""
    return (
        f" In half of the cases, the fastest and the slowest round are {median(spreads):.0%} apart or less."
    )


def _ratios(rows: Sequence[tuple[Case, Row]], instructions: Mapping[str, float]) -> str:
    """Each row on each loop beside its peers and its aim; at the end what falls short."""
    found = aims.results(list(rows), instructions)
    marks = {True: "yes", False: "**no**", None: NONE}
    lines = [[f"{each.title}, {each.loop}", each.rate, each.cpu, each.aim, marks[each.met]] for each in found]
    table = markdown(["", "rate, best peer", "CPU, best peer", "aim", "met"], lines)
    short = [f"- {each.title}, {each.loop}" for each in found if each.met is False]
    return table + "\n\nThese fall short:\n\n" + ("\n".join(short) or "- none")


def _rate(case: Case, figures: Summary) -> str:
    if case.measure == "memory":
        return NONE
    rate = f"{count(figures['rate'])}/s"
    return f"{figures['throughput'] / 1e9:.2f} GB/s" if case.size > 4096 else rate


def _cpu(case: Case, figures: Summary) -> str:
    return NONE if case.measure == "memory" else seconds(figures["cpu"])


def _memory(case: Case, figures: Summary) -> str:
    if case.measure == "memory":
        return f"{figures['held'] / 1024:.1f} KiB"
    return f"{max(0.0, figures['peak'] / MIB):.1f} MiB"


def _figures(rows: Iterable[tuple[Case, Row]], tell: Callable[[Case, Summary], str]) -> str:
    """One table of plain figures; of each peer the loop on which it is better."""
    lines = []
    for case, row in rows:
        cells = [tell(case, row[name]) if name in row else NONE for name in ("raw", *WSSTREAM, PURE)]
        for library in LIBRARIES:
            peers = [name for name in PEERS if SUBJECTS[name].library == library and name in row]
            best = max(peers, key=lambda name: value(case, row[name]), default=None)
            cells.append(tell(case, row[best]) if best else NONE)
        if any(cell != NONE for cell in cells):
            lines.append([case.title, *cells])
    return markdown(["", "raw", *(f"wsstream, {loop}" for loop in LOOPS), "pure", *LIBRARIES], lines)


def count(number: float) -> str:
    if number >= 1e6:
        return f"{number / 1e6:.2f} M"
    return f"{number / 1e3:.1f} k" if number >= 1e3 else f"{number:.0f}"


def seconds(time: float) -> str:
    if time >= 1e-3:
        return f"{time * 1e3:.1f} ms"
    return f"{time * 1e6:.2f} µs" if time < 1e-5 else f"{time * 1e6:.0f} µs"
