"""What is aimed at: for each row and loop a floor, and the peers that it is a ratio to."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple

from cases import PEERS, PURE, Case
from measure import Summary
from subjects import SUBJECTS

Row = Mapping[str, Summary]
Measure = Literal["rate", "cpu"]


class Aim(NamedTuple):
    """Attributes:
    asyncio, uvloop, trio: how many times as good as the best peer on that loop; None: not aimed at.
    by: what is compared.
    against: the library that is meant; the best one, if it is empty.
    everywhere: the loops on which the best peer of all loops counts.
    """

    asyncio: float | None
    uvloop: float | None
    trio: float | None
    by: Measure = "rate"
    against: str = ""
    everywhere: tuple[str, ...] = ()

    def on(self, loop: str) -> float | None:
        return {"asyncio": self.asyncio, "uvloop": self.uvloop, "trio": self.trio}[loop]


NONE = Aim(None, None, None)
AIMS = {
    "consume-256-server": Aim(2, 2, 2, everywhere=("trio",)),
    "consume-256-client": Aim(2, 2, 2, everywhere=("trio",)),
    "consume-64k": Aim(1, 1, 3),
    "consume-64m": Aim(3.5, 3.5, 3, everywhere=("trio",)),
    "produce-256": Aim(8, 8, 8, everywhere=("trio",)),
    "produce-1m-server": Aim(0.9, 0.9, 2),
    "produce-1m-client": Aim(0.95, 0.95, 2),
    "produce-1m-bound": Aim(1.1, 1.1, 2),
    "send-file": Aim(1 / 0.6, 1 / 0.6, 1 / 0.6, "cpu", everywhere=("asyncio", "uvloop", "trio")),
    "echo-256": Aim(0.95, 1.1, 2.5, "cpu", against="picows"),
    "proxy-1m": Aim(1, 1, 3),
    "deflate-consume": Aim(1.1, 1.1, 2),
    "deflate-produce": Aim(1.1, 1.1, 2),
    "deflate-fast": Aim(1.1, 1.1, 2),
    "tls-consume": Aim(0.95, 0.95, 2, "cpu"),
    "tls-produce": Aim(0.9, 0.9, 2, "cpu"),
    "handshakes": Aim(1, 1, 2, "cpu"),
}
SYNC_AIMS = {
    "sync-consume-256": 1.0,
    "sync-produce-256": 1.0,
    "sync-echo-256": 1.0,
}  # times the rate of websockets.sync
INSTRUCTIONS = 32_000  # of wsstream on asyncio for one echo, at most
IDLE = {"asyncio": 10, "uvloop": 10, "trio": 11}  # KiB
PURE_AIM = 2  # times websockets' rate
RAW_TRIO = 1.3  # times the CPU time of a bare loop on trio's sockets, for an echo, at most
INTO_A_FILE = 0.8  # of the rate at which the same is received and dropped, at least
FILE_MEMORY = 40  # MiB, at most
FORWARD_MEMORY = 0.1  # of picows' on the same loop, at most


class Result(NamedTuple):
    """One line: what wsstream reached on one loop."""

    title: str
    loop: str
    rate: str
    cpu: str
    aim: str
    met: bool | None  # None: nothing is aimed at, or it was not measured


def results(rows: list[tuple[Case, Row]], instructions: Mapping[str, float]) -> list[Result]:
    """Every line; `instructions` are those for an echo, by subject."""
    lines = [line for case, row in rows for line in _of_case(case, row)]
    lines += _into_a_file({case.name: row for case, row in rows})
    if found := instructions.get("wsstream-asyncio"):
        aim = f"≤ {INSTRUCTIONS:,}"
        lines.append(
            Result("echo 256 B, instructions", "asyncio", "", f"{found:,.0f}", aim, found <= INSTRUCTIONS)
        )
    return lines


def _into_a_file(rows: Mapping[str, Row]) -> list[Result]:
    """Receiving into a file beside receiving the same and dropping it."""
    lines = []
    kept, dropped = rows.get("receive-file", {}), rows.get("consume-64m", {})
    for loop in IDLE:
        name = f"wsstream-{loop}"
        if name in kept and name in dropped:
            share = kept[name]["rate"] / dropped[name]["rate"]
            title = "into a file, beside receiving and dropping"
            lines.append(Result(title, loop, f"{share:.2f}", "", f"≥ {INTO_A_FILE}", share >= INTO_A_FILE))
            size = kept[name]["peak"] / 2**20
            aim = f"≤ {FILE_MEMORY} MiB"
            lines.append(Result("into a file: memory", loop, f"{size:.1f} MiB", "", aim, size <= FILE_MEMORY))
    return lines


def _of_case(case: Case, row: Row) -> list[Result]:
    lines = []
    for loop in IDLE:
        name = f"wsstream-{loop}"
        if name in row:
            lines.append(_idle(case, row, loop) if case.measure == "memory" else _ratio(case, row, loop))
    lines += _more(case, row)
    return lines


def _idle(case: Case, row: Row, loop: str) -> Result:
    size = row[f"wsstream-{loop}"]["held"] / 1024
    return Result(case.title, loop, f"{size:.1f} KiB", "", f"≤ {IDLE[loop]} KiB", size <= IDLE[loop])


def _ratio(case: Case, row: Row, loop: str) -> Result:
    aim = AIMS.get(case.name, NONE)
    least, ours = aim.on(loop), row[f"wsstream-{loop}"]
    peers = [
        name for name in PEERS if name in row and (loop in aim.everywhere or SUBJECTS[name].loop == loop)
    ]
    if aim.against and loop != "trio":
        peers = [name for name in peers if SUBJECTS[name].library == aim.against]
    if not peers:
        return Result(case.title, loop, "–", "–", "–" if least is None else f"≥ {least:.3g}", None)
    fastest = max(peers, key=lambda name: row[name]["rate"])
    leanest = min(peers, key=lambda name: row[name]["cpu"])
    rate, cpu = ours["rate"] / row[fastest]["rate"], row[leanest]["cpu"] / ours["cpu"]
    told = "–" if least is None else f"≥ {least:.3g}{' by CPU' if aim.by == 'cpu' else ''}"
    met = None if least is None else (cpu if aim.by == "cpu" else rate) >= least
    return Result(case.title, loop, f"{rate:.2f} {fastest}", f"{cpu:.2f} {leanest}", told, met)


def _sync(case: Case, row: Row) -> Result:
    ours, theirs = row["wsstream-sync"], row["websockets-sync"]
    rate, cpu, least = ours["rate"] / theirs["rate"], theirs["cpu"] / ours["cpu"], SYNC_AIMS.get(case.name)
    aim = "–" if least is None else f"≥ {least:.3g}"
    met = None if least is None else rate >= least
    return Result(
        case.title, "threads", f"{rate:.2f} websockets-sync", f"{cpu:.2f} websockets-sync", aim, met
    )


def _more(case: Case, row: Row) -> list[Result]:
    """What is aimed at besides the ratio to a peer."""
    lines = []
    if case.name == "echo-256" and {"wsstream-trio", "raw-trio"} <= row.keys():
        times = row["wsstream-trio"]["cpu"] / row["raw-trio"]["cpu"]
        lines.append(
            Result(
                f"{case.title}: CPU beside a bare loop",
                "trio",
                "",
                f"{times:.2f} raw-trio",
                f"≤ {RAW_TRIO}",
                times <= RAW_TRIO,
            )
        )
    if case.name == "proxy-1m":
        for loop in ("asyncio", "uvloop"):
            if {f"wsstream-{loop}", f"picows-{loop}"} <= row.keys():
                share = row[f"wsstream-{loop}"]["peak"] / max(1, row[f"picows-{loop}"]["peak"])
                lines.append(
                    Result(
                        f"{case.title}: memory",
                        loop,
                        f"{share:.2f} picows-{loop}",
                        "",
                        f"≤ {FORWARD_MEMORY}",
                        share <= FORWARD_MEMORY,
                    )
                )
    if {"wsstream-sync", "websockets-sync"} <= row.keys():
        lines.append(_sync(case, row))
    if case.name.startswith("consume-256") and {PURE, "websockets-asyncio"} <= row.keys():
        times = row[PURE]["rate"] / row["websockets-asyncio"]["rate"]
        lines.append(
            Result(
                f"{case.title}, pure Python",
                "asyncio",
                f"{times:.2f} websockets-asyncio",
                "",
                f"≥ {PURE_AIM}",
                times >= PURE_AIM,
            )
        )
    return lines
