from __future__ import annotations

import json
from dataclasses import replace

import pytest

from wsstream.cli.demo_report import Account, Report

_GOOD = Account(1 << 20, "a" * 64)
_REPORT = Report(
    source="data",
    way="one message each way",
    hash="sha256",
    sent=_GOOD,
    passed=_GOOD,
    received=_GOOD,
    seconds=2.0,
    up_seconds=0.5,
    down_seconds=2.0,
    client_peak=30 << 20,
    server_peak=None,
    backend="trio",
    tls="TLSv1.3",
)


def test_three_equal_accounts_are_no_mismatch() -> None:
    assert _REPORT.mismatch() is None


@pytest.mark.parametrize("wrong", [Account(1 << 20, "b" * 64), Account((1 << 20) - 1, "a" * 64)])
def test_one_account_that_differs_in_digest_or_length_is_a_mismatch(wrong: Account) -> None:
    for report in (
        replace(_REPORT, sent=wrong),
        replace(_REPORT, passed=wrong),
        replace(_REPORT, received=wrong),
    ):
        problem = report.mismatch()
        assert problem is not None
        assert f"{wrong.bytes} bytes {wrong.digest}" in problem
        assert problem in report.as_table()
        assert json.loads(report.as_json())["ok"] is False


def test_the_table_has_a_line_for_each_result() -> None:
    rows = dict(line.split(maxsplit=1) for line in _REPORT.as_table().replace("peak ", "peak-").splitlines())
    assert rows == {
        "source": "data",
        "size": "1048576 bytes (1.0 MiB), one message each way",
        "time": "2.00 s",
        "up": "2.0 MiB/s",
        "down": "0.5 MiB/s",
        "peak-memory": "client 30.0 MiB, server unknown",
        "backend": "trio",
        "TLS": "TLSv1.3",
        "SHA-256": "a" * 64,
        "verdict": "ok: sent, passed on and received are the same",
    }


def test_json_is_one_line_with_the_same_results() -> None:
    text = _REPORT.as_json()
    assert "\n" not in text
    assert json.loads(text) == {
        "ok": True,
        "source": "data",
        "bytes": {"sent": 1 << 20, "passed": 1 << 20, "received": 1 << 20},
        "hash": "sha256",
        "digests": {"sent": "a" * 64, "passed": "a" * 64, "received": "a" * 64},
        "seconds": {"all": 2.0, "up": 0.5, "down": 2.0},
        "mib_per_second": {"up": 2.0, "down": 0.5},
        "peak_memory": {"client": 30 << 20, "server": None},
        "backend": "trio",
        "tls": "TLSv1.3",
    }


def test_no_time_gives_no_rate_rather_than_an_error() -> None:
    assert "0.0 MiB/s" in replace(_REPORT, up_seconds=0.0).as_table()
