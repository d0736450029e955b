"""The suite says which copy of wsstream it tests, and tests no other than the one that is meant."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import wsstream

ROOT = Path(__file__).parents[1]


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """A folder in which another copy of wsstream seems to be installed."""
    information = tmp_path / f"wsstream-{wsstream.__version__}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: wsstream\nVersion: {wsstream.__version__}\n"
    )
    (information / "RECORD").write_text("")
    return tmp_path


def run_pytest(**environment: str) -> tuple[int, str]:
    """Exit code and output of ``python -m pytest`` in the checkout, which it searches first for modules."""
    inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST", "WSS"))}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "--co", "-q", "-p", "no:cacheprovider", "tests/test_close_codes.py"],
        cwd=ROOT,
        env=inherited | environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.heavy
def test_a_copy_that_is_not_the_installed_one_is_refused(installed: Path) -> None:
    code, output = run_pytest(PYTHONPATH=str(installed))
    assert code == pytest.ExitCode.USAGE_ERROR, output
    assert f"imported from {ROOT}, but installed in {installed.resolve()}" in output
    assert "pip install -e" in output


@pytest.mark.heavy
def test_a_copy_that_pythonpath_names_is_tested(installed: Path) -> None:
    code, output = run_pytest(PYTHONPATH=os.pathsep.join([str(installed), str(ROOT)]), PYTEST_ADDOPTS="-v")
    assert code == 0, output
    assert f"wsstream {wsstream.__version__} from {ROOT}, " in output


@pytest.mark.heavy
def test_the_header_says_that_the_pure_codec_was_asked_for() -> None:
    code, output = run_pytest(PYTHONPATH=str(ROOT), WSSTREAM_PURE="1", PYTEST_ADDOPTS="-v")
    assert code == 0, output
    assert f"wsstream {wsstream.__version__} from {ROOT}, pure codec (WSSTREAM_PURE is set)" in output
