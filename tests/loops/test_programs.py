"""Whole programs, each in a process of its own, started in every way in which users start an event loop.

With sniffio installed and without: it comes with trio and many others, and then anyio asks it which library
runs, which it cannot tell in a callback of the event loop.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from kit import processes
from kit.versions import NEEDS_SNIFFIO
from websockets.sync.client import connect

_FOLDER = Path(__file__).parent / "programs"
_LIMIT = 15  # seconds; what hangs would do so for ever
_STOPPING = 5  # seconds

Start = Callable[..., subprocess.Popen[str]]


@pytest.fixture(params=["with sniffio", "without sniffio"])
def environment(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """The environment of the programs."""
    if request.param == "with sniffio":
        if importlib.util.find_spec("sniffio") is None:
            pytest.skip("sniffio is not installed")
    elif NEEDS_SNIFFIO:
        pytest.skip("anyio 4.11 does not go without sniffio")
    else:
        (tmp_path / "sniffio.py").write_text("raise ModuleNotFoundError('as if it were not installed')")
    return processes.environment(tmp_path)


def _command(program: str, *arguments: str) -> list[str]:
    return [sys.executable, "-X", "dev", str(_FOLDER / program), *arguments]


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("how", ["asyncio.run", "asyncio.Runner", "uvloop.run", "anyio.run", "cells"])
def test_a_server_and_its_client_end(how: str, environment: dict[str, str]) -> None:
    if how == "uvloop.run":
        pytest.importorskip("uvloop")
    done = subprocess.run(
        _command("echo.py", how), env=environment, text=True, capture_output=True, timeout=_LIMIT, check=False
    )
    assert done.stdout.split("\n") == ["hello", "1000", "0 connections", ""]
    complaints = [line for line in done.stderr.splitlines() if not line.startswith("Executing <")]
    assert complaints == []  # of steps that take long asyncio's debug mode tells on any busy machine


@pytest.mark.heavy
def test_fixtures_of_pytest_asyncio_are_left_in_another_task(
    environment: dict[str, str], tmp_path: Path
) -> None:
    pytest.importorskip("pytest_asyncio")
    module = tmp_path / "test_fixtures.py"
    module.write_text((_FOLDER / "fixtures.py").read_text())
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\nasyncio_default_fixture_loop_scope = function\n"
    )
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "pytest_asyncio.plugin", module.name],
        cwd=tmp_path,
        env={**environment, "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        text=True,
        capture_output=True,
        timeout=_LIMIT,
        check=False,
    )
    assert "1 passed" in done.stdout, done.stdout + done.stderr


@pytest.mark.heavy
@pytest.mark.skipif(sys.platform == "win32", reason="there a process cannot be told to stop")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_uvicorn_stops_when_it_is_told_to(loop: str, environment: dict[str, str]) -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip(loop)
    with subprocess.Popen(
        _command("lifespan.py", loop), env=environment, text=True, stdout=subprocess.PIPE
    ) as process:
        try:
            assert process.stdout is not None
            with connect(process.stdout.readline().strip()) as client:
                client.send("hello")
                assert client.recv() == "hello"
                start = time.monotonic()
                process.send_signal(signal.SIGTERM)
                rest, _ = process.communicate(timeout=_LIMIT)
            assert time.monotonic() - start < _STOPPING
            assert (rest, client.close_code) == ("the server has ended\n", 1001)
        finally:
            process.kill()
