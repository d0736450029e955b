"""The public types, as mypy and pyright see them: errors in the lines that say so, and nowhere else."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
MODULES = sorted(path for path in HERE.glob("*.py") if not path.name.startswith("test_"))
CHECKERS = {
    "mypy": ["mypy", "--strict", "--no-error-summary", "--cache-dir", "/dev/null"],
    "pyright": ["pyright", "--pythonpath", sys.executable],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
@pytest.mark.parametrize("module", MODULES, ids=lambda path: path.stem)
def test_a_type_checker_finds_the_marked_errors_and_no_others(
    module: Path, checker: str, tmp_path: Path
) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed")
    source = module.read_text()
    (tmp_path / module.name).write_text(source)  # outside of this project and its configuration
    command = [sys.executable, "-m", *CHECKERS[checker], str(tmp_path / module.name)]
    output = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False).stdout
    found = {int(line) for line in re.findall(rf"{module.name}:(\d+):.*\berror\b", output)}
    marked = {number for number, line in enumerate(source.splitlines(), 1) if line.endswith("# error")}
    assert found == marked, output
