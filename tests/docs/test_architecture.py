"""The map of modules in the documentation is complete, and names no module that does not exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import wsstream

ROOT = Path(wsstream.__file__).parent
PAGE = Path(__file__).parents[2] / "docs" / "explanation" / "architecture.md"
SECTION = re.compile(r"^### (.+?)\n\n```text\n(.*?)^```", re.MULTILINE | re.DOTALL)
FIRST_COLUMN = 24  # characters
ON_NO_MAP = {"__init__.py", "__main__.py"}
BESIDE_THE_MAP = {"testing"}  # the page has a line for it as a whole


def named_modules() -> Iterator[str]:
    for title, lines in SECTION.findall(PAGE.read_text(encoding="utf-8")):
        folder, colon, _ = title.partition(": ")
        for line in lines.splitlines():
            for name in re.findall(r"[\w/]+\.py", line[:FIRST_COLUMN]):
                yield f"{folder}/{name}" if colon else name


def test_the_map_has_each_module_once() -> None:
    modules = [path.relative_to(ROOT) for path in ROOT.rglob("*.py") if path.name not in ON_NO_MAP]
    mapped = [path.as_posix() for path in modules if path.parts[0] not in BESIDE_THE_MAP]
    assert sorted(named_modules()) == sorted(mapped)
