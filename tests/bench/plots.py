"""The results as SVG: few colours, each line and bar labelled where it is, readable on light and dark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl

mpl.use("svg")
import matplotlib.pyplot as plt
from cases import BY_NAME, WSSTREAM
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter, NullFormatter, NullLocator
from report import LOOPS, Results, better
from subjects import SUBJECTS

INK = "#808080"  # of text and axes: readable on white and on black
FAINT = "#80808040"
OURS = "#1f8fbf"
COLOURS = {
    "wsstream": OURS,
    "picows": "#e08214",
    "websockets": "#4d9a4d",
    "aiohttp": "#b5589b",
    "raw socket": INK,
}
SHADES = {"asyncio": OURS, "uvloop": "#6fbbd9", "trio": "#14607f"}
HEIGHT = 10  # points, of a label
STYLES = {"asyncio": "-", "uvloop": "--", "trio": ":", "none": "-"}

mpl.rcParams.update(
    {
        "svg.fonttype": "none",  # text stays text
        "svg.hashsalt": "wsstream",  # the same results make the same file
        "font.family": "sans-serif",
        "font.size": 9,
        "text.color": INK,
        "axes.labelcolor": INK,
        "axes.edgecolor": FAINT,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "xtick.color": INK,
        "ytick.color": INK,
        "path.simplify": True,
    }
)


def draw(results: Results, folder: Path) -> None:
    """Write the plots of these results to `folder`."""
    if results["table"]:
        ratios(results["table"], folder / "ratios.svg")
    for name, series in results["series"].items():
        growth(series, folder / f"{name}.svg")


def ratios(table: Mapping[str, Any], path: Path) -> None:
    """Bars for each row: how many times as good as the best peer wsstream is, on its three loops."""
    rows = [
        (BY_NAME[name], [better(BY_NAME[name], row, subject) for subject in WSSTREAM])
        for name, row in table.items()
    ]
    _, axes = plt.subplots(figsize=(7.2, 0.5 * len(rows) + 0.7))
    for at, (_, ratio) in enumerate(rows):
        for loop, place, each in zip(LOOPS, (-0.25, 0, 0.25), ratio, strict=True):
            if each is None:
                continue
            times = each.by_measure
            axes.barh(at + place, times - 1, left=1, height=0.22, color=SHADES[loop])
            label = f"{times:.2f} {loop}" if at == 0 else f"{times:.2f}"
            side = "left" if times >= 1 else "right"
            axes.annotate(
                label,
                (times, at + place),
                xytext=(3 if times >= 1 else -3, 0),
                textcoords="offset points",
                ha=side,
                va="center",
                fontsize=7,
            )
    axes.axvline(1, color=INK, linewidth=0.8)
    axes.set_xscale("log", base=2)
    axes.margins(x=0.12)
    axes.set_yticks(range(len(rows)), [case.title for case, _ in rows])
    axes.set_ylim(len(rows) - 0.4, -0.7)
    axes.tick_params(length=0)
    axes.spines["left"].set_visible(False)
    axes.xaxis.set_major_formatter(FuncFormatter(lambda x, _: f"{x:g}×"))
    axes.set_xlabel("times as good as the best peer")
    save(path)


def growth(series: Mapping[str, Any], path: Path) -> None:
    """Lines: CPU time for one message at each point, both axes by powers."""
    _, axes = plt.subplots(figsize=(7.2, 4))
    ends = []
    for name, points in series["subjects"].items():
        subject = SUBJECTS[name]
        across = [point for point, _ in points]
        up = [figures["cpu"] * 1e6 for _, figures in points]
        colour = COLOURS[subject.library]
        axes.plot(
            across,
            up,
            STYLES[subject.loop] if subject.library == "wsstream" else "-",
            color=colour,
            linewidth=1.4,
        )
        if points:
            label = f"wsstream {subject.loop}" if subject.library == "wsstream" else subject.library
            ends.append((up[-1], across[-1], label, colour))
    axes.set_xscale("log", base=4 if series["base"] == 4 else 10)
    axes.set_yscale("log")
    axes.xaxis.set_major_formatter(
        FuncFormatter(lambda x, _: size(x) if series["base"] == 4 else f"{x:,.0f}")
    )
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda y, _: duration(y)))
    low, high = axes.get_ylim()
    axes.yaxis.set_minor_formatter(FuncFormatter(between) if high < 100 * low else NullFormatter())
    axes.grid(color=FAINT, linewidth=0.5)
    axes.tick_params(length=0, which="both")
    axes.set_xlabel(series["axis"])
    axes.set_title(f"{series['title']}: CPU time for one message", fontsize=10, loc="left")
    label_ends(axes, ends)
    save(path)


def label_ends(axes: Axes, ends: Sequence[tuple[float, float, str, str]]) -> None:
    """Names at the right end of the lines, moved apart where they would overlap."""
    ends = sorted(ends)
    scale = 72 / axes.figure.dpi
    places = [float(axes.transData.transform((across, up))[1]) * scale for up, across, _, _ in ends]
    for (up, across, label, colour), place, to in zip(ends, places, moved_apart(places), strict=True):
        axes.annotate(
            label,
            (across, up),
            xytext=(6, to - place),
            textcoords="offset points",
            va="center",
            color=colour,
            fontsize=8,
        )


def moved_apart(places: Sequence[float]) -> list[float]:
    """Ascending places (points), moved until each is `HEIGHT` from the next."""
    moved = list(places)
    for _ in range(200):
        for below in range(len(moved) - 1):
            lacking = HEIGHT - (moved[below + 1] - moved[below])
            if lacking > 0:
                moved[below] -= lacking / 2
                moved[below + 1] += lacking / 2
    return moved


def size(number: float) -> str:
    for unit in ("B", "KiB", "MiB"):
        if number < 1024 or unit == "MiB":
            break
        number /= 1024
    return f"{number:g} {unit}"


def duration(microseconds: float) -> str:
    if microseconds >= 1e6:
        return f"{microseconds / 1e6:g} s"
    return f"{microseconds / 1e3:g} ms" if microseconds >= 1e3 else f"{microseconds:g} µs"


def between(microseconds: float, _: object) -> str:
    """A label at 2 and 5 of each power."""
    return duration(microseconds) if f"{microseconds:e}"[0] in "25" else ""


def save(path: Path) -> None:
    plt.savefig(path, transparent=True, bbox_inches="tight", metadata={"Date": None, "Creator": None})
    plt.close()
