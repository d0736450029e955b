"""One case: every library in a process of its own, the same partner, rounds interleaved, counts compared."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Any

import frames
from cases import PURE, Case
from control import Child, Failed, allow_descriptors

SPARE_FILES = 200  # open files that a process has besides its connections, at most

Sample = dict[str, Any]
Summary = dict[str, float]


def cores() -> tuple[int | None, int | None]:
    """The subject's core, and the partners'."""
    if not hasattr(os, "sched_getaffinity"):
        return None, None
    allowed = sorted(os.sched_getaffinity(0))
    return allowed[0], allowed[-1]


class Bench:
    """Runs cases.

    Args:
        files: paths by name: `certificate`, `authority`, and `file`, which is to be sent.
        seconds: how long one measurement takes.
        under: the command line that runs each subject, if any; see :class:`Child`.
    """

    def __init__(self, files: dict[str, str], seconds: float, under: Sequence[str] = ()) -> None:
        self.codecs: dict[str, str] = {}  # of wsstream, by subject
        self.seconds = seconds
        self._files = files
        self._under = under
        self._subject_core, self._partner_core = cores()

    def run(self, case: Case, subjects: Sequence[str], rounds: int) -> dict[str, Summary]:
        """Figures by subject, of those that can do the work of `case`. Raises `Failed`."""
        allow_descriptors(case.connections + case.held + SPARE_FILES)
        with ExitStack() as processes:
            partners = [processes.enter_context(self._partner()) for _ in range(2 if case.forwards else 1)]
            running = self._start(case, subjects, processes)
            samples: dict[str, list[Sample]] = {name: [] for name in running}
            for number in range(min(rounds, case.rounds or rounds)):
                for name, subject in running.items():
                    if case.fresh and number:
                        with self._subject(name) as fresh:
                            samples[name].append(self._measure(case, fresh, partners))
                    else:
                        samples[name].append(self._measure(case, subject, partners))
        return {name: summary(each) for name, each in samples.items()}

    def once(
        self, case: Case, name: str, *, profile: bool = False, started: Callable[[int], None] | None = None
    ) -> Sample:
        """One round of one library in a new process. Raises `Failed` if it cannot do the work of `case`.

        `started` is called before the round with the process's number.
        """
        with ExitStack() as processes:
            partners = [processes.enter_context(self._partner()) for _ in range(2 if case.forwards else 1)]
            able = self._start(case, [name], processes)
            if not able:
                raise Failed(f"{name} cannot do {case.name}")
            if started is not None:
                started(able[name].pid)
            return self._measure(case, able[name], partners, profile=profile)

    def _partner(self) -> Child:
        return Child("partner.py", core=self._partner_core)

    def _subject(self, name: str) -> Child:
        return Child("subject.py", name, core=self._subject_core, under=self._under)

    def _start(self, case: Case, subjects: Sequence[str], processes: ExitStack) -> dict[str, Child]:
        started = {name: processes.enter_context(self._subject(name)) for name in subjects}
        able = {}
        for name, child in started.items():
            told = child.ask("can", **case.spec(0, self._files))
            if told["codec"]:
                self.codecs[name] = told["codec"]
            if (told["codec"] == "pure") < (name == PURE):
                raise Failed(f"{name} is not pure Python")
            if told["can"]:
                able[name] = child
        return able

    def _measure(self, case: Case, subject: Child, partners: list[Child], *, profile: bool = False) -> Sample:
        """One round of one library. Raises `Failed` with the names of case and library."""
        spec = case.spec(self.seconds, self._files) | {"profile": profile}
        try:
            sent, got = _counts(case, spec, subject, partners)
            _check(case, sent, got)
        except Failed as failure:
            raise Failed(f"{case.name}, {subject.name}: {failure}") from failure
        return {
            "messages": sent["bytes"] // case.size if case.work == "send_file" else sent["messages"],
            "bytes": sent["bytes"],
            "seconds": sent["seconds"],
            "cpu": got["cpu"],
            "peak": got["peak"],
            "resident": got["resident"],
            "calls": got["calls"],
        }


def _counts(case: Case, spec: dict[str, Any], subject: Child, partners: list[Child]) -> tuple[Sample, Sample]:
    _open(case, spec, subject, partners)
    sent, got = _work(case, spec, subject, partners)
    subject.tell("close")
    for each in partners:
        each.ask("close")
    subject.answer()
    return sent, got


def _open(case: Case, spec: dict[str, Any], subject: Child, partners: list[Child]) -> None:
    """Open the connections. A partner to which the subject connects is the last one."""
    if case.connects:
        spec["port"] = partners[-1].ask("listen", **spec)["port"]
        partners[-1].tell("accept", **spec)
    spec["port"] = subject.ask("open", **spec)["port"]
    if case.side == "server":
        partners[0].ask("open", **spec)
    if case.connects:
        partners[-1].answer()


def _work(case: Case, spec: dict[str, Any], subject: Child, partners: list[Child]) -> tuple[Sample, Sample]:
    """What the partner counted, and the subject."""
    partner = partners[0]
    if case.action == "blast":
        partner.ask("prepare", **spec)
    if case.action == "absorb":
        partner.tell("absorb", **spec)
        subject.ask("begin")
        return partner.answer(), subject.ask("end")
    if case.action in ("swallow", "answer"):  # its clock starts with the first byte
        partner.tell(case.action, **spec)
        subject.ask("begin")
        return partner.answer(), subject.ask("end")
    if case.forwards:
        partners[-1].tell("swallow", **spec)
    subject.ask("begin")
    sent = partner.ask(case.action, **spec)
    if case.forwards:
        forwarded = partners[-1].answer()
        return sent, {**subject.ask("end"), "messages": forwarded["messages"], "bytes": forwarded["bytes"]}
    return sent, subject.ask("end")


def _check(case: Case, sent: Sample, got: Sample) -> None:
    """Both ends must have counted the same, and something."""
    if not sent["messages"]:
        raise Failed("no message")
    if case.work == "handshakes":
        return  # the partner checked each response
    if case.work != "send_file":  # elsewhere a file may be sent as several messages
        _equal("messages", sent["messages"], got["messages"])
    if case.action in ("blast", "swallow", "answer", "absorb") and not (
        case.level and case.action == "swallow"
    ):
        _equal("bytes", sent["bytes"], got["bytes"])
    if case.action == "swallow":
        _check_content(case, bytes.fromhex(sent["start"]))
    elif case.action == "blast" and got["crc"] is not None:
        _equal("checksum of the last message", sent["crc"], got["crc"])


def _check_content(case: Case, start: bytes) -> None:
    """The first bytes of the first message are those that were to be sent."""
    expected = frames.texts(case.size)[0].encode() if case.level else frames.payload(case.size)
    found = frames.inflate(start)[: case.size] if case.level else start
    if not found or not expected.startswith(found):
        raise Failed(f"the content is not what was to be sent: {found[:64]!r}")


def _equal(what: str, partner: object, subject: object) -> None:
    if partner != subject:
        raise Failed(f"{what}: the partner says {partner}, the subject {subject}")


def summary(samples: Sequence[Sample]) -> Summary:
    """Medians of the rounds; of memory the most, as later rounds find memory that earlier ones left."""
    rates = [sample["messages"] / sample["seconds"] for sample in samples]
    return {
        "rate": median(rates),  # messages per second
        "throughput": median(sample["bytes"] / sample["seconds"] for sample in samples),  # bytes per second
        "cpu": median(sample["cpu"] / sample["messages"] for sample in samples),  # seconds per message
        "peak": max(sample["peak"] for sample in samples),  # bytes
        "held": median(sample["resident"] / sample["messages"] for sample in samples),  # bytes per connection
        "spread": (max(rates) - min(rates)) / median(rates),
        "rounds": len(samples),
    }
