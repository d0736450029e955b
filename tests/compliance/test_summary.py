"""The summary of a suite's reports tells what did not pass."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

SCRIPT = Path(__file__).with_name("summary.py")


def summary(*paths: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-W", "error", str(SCRIPT), *map(str, paths)]
    return subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)


def index(path: Path, agent: str, results: dict[str, tuple[str, str]]) -> Path:
    """A file as the suite writes it."""
    cases = {
        number: {
            "behavior": behavior,
            "behaviorClose": on_close,
            "duration": 2,
            "remoteCloseCode": 1000,
            "reportfile": f"{agent}_case_{number.replace('.', '_')}.json",
        }
        for number, (behavior, on_close) in results.items()
    }
    path.write_text(json.dumps({agent: cases}))
    return path


def test_all_that_passes_is_counted(tmp_path: Path) -> None:
    passed = {"1.1.1": ("OK", "OK"), "1.1.2": ("OK", "OK"), "7.13.1": ("INFORMATIONAL", "INFORMATIONAL")}
    done = summary(
        index(tmp_path / "a", "wsstream", passed), index(tmp_path / "b", "other", {"2.1": ("OK", "OK")})
    )
    assert done.stdout == (
        "wsstream: 3 cases\n"
        "  behavior: 2 OK, 1 INFORMATIONAL\n"
        "  behaviorClose: 2 OK, 1 INFORMATIONAL\n"
        "other: 1 cases\n"
        "  behavior: 1 OK\n"
        "  behaviorClose: 1 OK\n"
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_each_case_that_does_not_pass_is_named_in_the_order_of_numbers(tmp_path: Path) -> None:
    results = {
        "1.1.1": ("OK", "OK"),
        "10.1.1": ("OK", "WRONG CODE"),
        "3.2": ("NON-STRICT", "OK"),
        "2.10": ("FAILED", "OK"),
        "2.9": ("OK", "UNCLEAN"),
        "13.3.1": ("UNIMPLEMENTED", "OK"),
    }
    done = summary(index(tmp_path / "a", "wsstream", results))
    assert done.stdout.splitlines()[3:] == [
        "  2.9: OK, close UNCLEAN, see wsstream_case_2_9.json",
        "  2.10: FAILED, close OK, see wsstream_case_2_10.json",
        "  3.2: NON-STRICT, close OK, see wsstream_case_3_2.json",
        "  10.1.1: OK, close WRONG CODE, see wsstream_case_10_1_1.json",
        "  13.3.1: UNIMPLEMENTED, close OK, see wsstream_case_13_3_1.json",
    ]
    assert done.returncode == 1


def test_a_report_without_a_case_does_not_pass(tmp_path: Path) -> None:
    assert summary(index(tmp_path / "a", "wsstream", {})).returncode == 1


def test_without_a_file_it_says_how_it_is_used() -> None:
    done = summary()
    assert (done.returncode, done.stdout) == (2, "")
    assert "Usage: python summary.py INDEX_JSON..." in done.stderr
