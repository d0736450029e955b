from __future__ import annotations

import argparse
import io
import json
import re
from typing import Any

import pytest
from rich.console import Console

from wsstream.cli.exits import Exit
from wsstream.cli.failures import failure_of
from wsstream.cli.transfer.display import _bar, describe, gauge, share, showing, time_left
from wsstream.cli.transfer.run import delays_of, report
from wsstream.files.errors import TransferError
from wsstream.files.progress import Progress, Totals
from wsstream.files.result import TransferResult

MIB = 1 << 20
EVIL = "a\x1b[2J\r\u202eb"


def options(**changes: Any) -> argparse.Namespace:
    defaults = {"command": "send", "json": False, "quiet": False, "verbose": 0, "retry": 2}
    return argparse.Namespace(**{**defaults, **changes})


def progress(**changes: Any) -> Progress:
    values = {"name": "a.bin", "phase": "sending", "acknowledged": MIB, "size": 4 * MIB, "rate": float(MIB)}
    return Progress(**{**values, "credit_used": MIB // 2, "window": MIB, **changes})


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, (" 25 %", "0:00:03", "####....")),
        ({"acknowledged": 4 * MIB, "credit_used": 0}, ("100 %", "0:00:00", "........")),
        ({"size": None, "window": 0}, ("1.0 MiB", "-:--:--", "........")),
        ({"size": 0, "acknowledged": 0}, ("100 %", "0:00:00", "####....")),
        ({"rate": 0.001}, (" 25 %", "-:--:--", "####....")),
        ({"rate": 400.0, "credit_used": 2 * MIB}, (" 25 %", "2:11:04", "########")),
    ],
)
def test_the_parts_of_the_line(changes: dict[str, Any], shown: tuple[str, str, str]) -> None:
    now = progress(**changes)
    assert (share(now), time_left(now), gauge(now)) == shown


def test_a_line_has_all_of_it() -> None:
    line = "a.bin: sending, 25 %, 1.0 MiB/s, 0:00:03 left, 512.0 KiB of 1.0 MiB on the way"
    assert describe(progress()) == line
    assert describe(progress(phase="waiting", acknowledged=0, rate=0.0, window=0)) == "a.bin: waiting, 0 %"


def totals(**changes: Any) -> Totals:
    values = {"files": 12, "files_done": 3, "size": 8 * MIB, "acknowledged": 2 * MIB, "rate": float(MIB)}
    return Totals(**{**values, **changes})


def test_of_several_files_the_line_has_all(capsys: pytest.CaptureFixture[str]) -> None:
    line = describe(progress(totals=totals()))
    assert line.endswith("; 3 of 12 files, 2.0 MiB of 8.0 MiB, 0:00:06 left")
    assert describe(progress(totals=totals(size=None, rate=0.0))).endswith("; 3 of 12 files, 2.0 MiB")
    with showing(options(json=True)) as show:
        show(progress(totals=totals()))
    assert json.loads(capsys.readouterr().err)["totals"] == {
        "files": 12,
        "files_done": 3,
        "acknowledged": 2 * MIB,
        "size": 8 * MIB,
        "rate": MIB,
        "seconds_left": 6.0,
    }


def test_on_a_terminal_the_bar_is_that_of_all_files() -> None:
    output = io.StringIO()
    console = Console(file=output, force_terminal=True, width=120)
    with _bar(console) as show:
        show(progress(totals=totals()))
    shown = re.sub("\x1b\\[[0-9;?]*[a-zA-Z]", "", output.getvalue())
    assert "3 of 12 files: a.bin" in shown
    assert " 25 %" in shown
    assert "0:00:06" in shown


def test_without_a_terminal_there_is_a_line_every_five_seconds(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr("wsstream.cli.transfer.display.monotonic", lambda: now)
    with showing(options()) as show:
        for _ in range(24):
            show(progress())
            now += 0.5
    assert capsys.readouterr().err.splitlines() == [describe(progress())] * 2


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(options(quiet=True)) as show:
        show(progress())
    report(options(quiet=True), [], 1.0)
    assert capsys.readouterr() == ("", "")


def test_json_has_an_event_for_each_phase(capsys: pytest.CaptureFixture[str]) -> None:
    with showing(options(json=True)) as show:
        for phase in ("waiting", "sending", "sending", "done"):
            show(progress(phase=phase))
    events = [json.loads(line) for line in capsys.readouterr().err.splitlines()]
    assert [event["phase"] for event in events] == ["waiting", "sending", "done"]
    assert events[1] == {
        "event": "progress",
        "name": "a.bin",
        "phase": "sending",
        "acknowledged": MIB,
        "durable": 0,
        "size": 4 * MIB,
        "resumed_at": 0,
        "rate": MIB,
        "seconds_left": 3.0,
        "credit_used": MIB // 2,
        "window": MIB,
    }


def test_the_report_names_what_had_arrived_before(capsys: pytest.CaptureFixture[str]) -> None:
    report(options(), [TransferResult("a.bin", 4 * MIB, "f0", "sha256", MIB)], 2.0)
    assert capsys.readouterr().err.splitlines() == [
        "a.bin: 4.0 MiB, sha256 f0",
        "1 file, 4.0 MiB, in 2.0 s, 0.5 MiB/s; 3.0 MiB had arrived before",
    ]


def test_each_new_attempt_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    delays = delays_of(options())
    for _ in range(2):
        assert len(list(delays)) == 2
    lines = capsys.readouterr().err.splitlines()
    assert lines[:2] == lines[2:]
    assert lines[1] == "the connection was lost; connecting again, attempt 2 of 2"


def test_nothing_of_the_peer_is_printed_raw(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    report(options(), [TransferResult(EVIL, 1, "f0", "sha256", 1)], 1.0)
    report(options(json=True), [TransferResult(EVIL, 1, "f0", "sha256", 1)], 1.0)
    shown = capsys.readouterr().err + describe(progress(name=EVIL))
    shown += str(failure_of(TransferError.from_peer("exists", EVIL)))
    assert shown.count("a\\x1b[2J") + shown.count("a\\u001b[2J") == 4
    assert shown.replace("\n", "").isprintable()


@pytest.mark.parametrize(
    ("error", "status"),
    [
        *((name, Exit.POLICY) for name in ("exists", "denied", "unauthorized", "invalid-name", "too-large")),
        *((name, Exit.POLICY) for name in ("quota", "no-space", "not-found")),
        *((name, Exit.MISMATCH) for name in ("digest-mismatch", "short", "changed")),
        *((name, Exit.CLOSED) for name in ("protocol", "unsupported", "busy", "io", "shutdown")),
        ("timeout", Exit.LOST),
    ],
)
def test_each_transfer_error_has_its_exit_status(error: str, status: Exit) -> None:
    failure = failure_of(TransferError(error))
    assert getattr(failure, "status", None) == status


@pytest.mark.parametrize("error", ["io", "no-space", "denied", "not-found"])
def test_what_the_system_of_this_side_says_is_local(error: str) -> None:
    raised = TransferError(error)
    raised.__cause__ = OSError("disk")
    assert getattr(failure_of(raised), "status", None) == Exit.LOCAL_IO
