"""The page for contributors, the hooks before a commit and the script of CI agree."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs/contributing.md").read_text(encoding="utf-8")
RUN = ROOT / ".ci/run"


def refusal() -> subprocess.CompletedProcess[str]:
    return subprocess.run([RUN, "chekc"], capture_output=True, text=True, timeout=30, check=False)


def test_a_part_that_does_not_exist_is_refused_and_the_parts_are_listed() -> None:
    done = refusal()
    assert done.returncode == 2
    assert ".ci/run check " in done.stderr


def test_the_page_and_the_script_name_the_same_parts() -> None:
    listed = set(re.findall(r"^\.ci/run (\w+)", refusal().stderr, re.MULTILINE))
    table = PAGE.partition("| part |")[2].partition("\n\n")[0]
    assert set(re.findall(r"^\| `(\w+)", table, re.MULTILINE)) == listed
    assert set(re.findall(r"`\.ci/run ([a-z]+)`", PAGE)) <= listed


def test_the_checks_before_a_commit_are_those_of_the_script_and_of_the_page() -> None:
    hooks = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    check = RUN.read_text(encoding="utf-8").partition("\ncheck() {")[2].partition("}")[0]
    for command in ("ruff check", "ruff format --check", "mypy"):
        assert f"entry: {command}" in hooks
        assert command in check
        assert f"\n{command}" in PAGE
