"""Each text of an error that the page quotes really is in the source, and the page has one entry for each."""

from __future__ import annotations

import ast
import re
from functools import cache
from pathlib import Path

import pytest

import wsstream

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "troubleshooting.md"
ENTRIES = re.findall(r"^### `(.*)`$", PAGE.read_text(), re.MULTILINE)


@cache
def texts() -> str:
    """All texts of the source, each on a line of its own; what is computed in them is ``...``."""
    found: list[str] = []
    for path in sorted(Path(wsstream.__file__).parent.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found.append(node.value)
            elif isinstance(node, ast.JoinedStr):
                parts = [part.value if isinstance(part, ast.Constant) else "..." for part in node.values]
                found.append("".join(map(str, parts)))
    return "\n".join(text.replace("%s", "...") for text in found)


@pytest.mark.parametrize("entry", ENTRIES)
def test_the_text_of_an_entry_is_in_the_source(entry: str) -> None:
    assert entry in texts()


def test_each_entry_has_a_cure_and_is_there_once() -> None:
    parts = re.split(r"^### ", PAGE.read_text(), flags=re.MULTILINE)[1:]
    assert len(ENTRIES) == len(parts) == len(set(ENTRIES)) > 30
    assert all("**Cure:**" in part for part in parts)
