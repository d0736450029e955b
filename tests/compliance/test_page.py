"""The compliance page names files, tests and rows that exist, and leaves out no row."""

from __future__ import annotations

import re
import runpy
from fnmatch import fnmatchcase
from functools import cache
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "reference" / "compliance.md"
TABLES = ROOT / "tests" / "compliance" / "rfc6455"
ROW = re.compile(r"\d+(\.\d+)*-")
SECTION = re.compile(r"(?:^|, )(\d+(?:\.\d+)*) ")


class Section(NamedTuple):
    """A heading, the files that have its rows, and the lines of its table."""

    title: str
    files: list[str]
    lines: list[list[str]]

    @property
    def tested_by(self) -> list[str]:
        return list(chain.from_iterable(re.findall(r"`([^`]+)`", line[-1]) for line in self.lines))

    @property
    def patterns(self) -> list[str]:
        return [name for name in self.tested_by if ROW.match(name)]


def sections() -> list[Section]:
    text = PAGE.read_text(encoding="utf-8").partition("\n## RFC 7692\n")[0].partition("\n## RFC 6455\n")[2]
    found = []
    for part in text.split("\n### ")[1:]:
        title, _, body = part.partition("\n")
        lines = [line.strip("|").split("|") for line in body.splitlines() if line.startswith("| ")][1:]
        files = re.findall(r"`(tests/[^`]+)`", body.partition("\n|")[0])
        found.append(Section(title, files, [[cell.strip() for cell in line] for line in lines]))
    return found


WITH_RULES = [section for section in sections() if section.title != "Left out on purpose"]


@cache
def rows_of(file: str) -> frozenset[str]:
    """The names of the rows in a file: the keys of its tables."""
    values = runpy.run_path(str(ROOT / file)).values()
    tables = [value for value in values if isinstance(value, dict) and value]
    return frozenset(
        key
        for table in tables
        if all(isinstance(key, str) and ROW.match(key) for key in table)
        for key in table
    )


def in_sections(name: str, title: str) -> bool:
    number = name.partition("-")[0]
    return any(number == s or number.startswith(f"{s}.") for s in SECTION.findall(title))


@pytest.mark.parametrize("section", WITH_RULES, ids=lambda section: section.title)
def test_files_and_tests_of_the_page_exist(section: Section) -> None:
    assert section.lines
    for rule, implemented_in, _ in section.lines:
        files = re.findall(r"`([^`]+)`", implemented_in)
        assert files, rule
        assert [file for file in files if not (ROOT / "wsstream" / file).is_file()] == [], rule
    for test in section.tested_by:
        if not ROW.match(test):
            file, _, function = test.partition("::")
            source = (ROOT / file).read_text(encoding="utf-8")
            assert not function or f"def {function}(" in source, test


@pytest.mark.parametrize("section", WITH_RULES, ids=lambda section: section.title)
def test_rows_that_the_page_names_exist(section: Section) -> None:
    rows = set().union(*map(rows_of, section.files))
    for pattern in section.patterns:
        assert any(fnmatchcase(row, pattern) for row in rows), f"no row {pattern} in {section.files}"
    for rule, _, tested_by in section.lines:
        assert "`" in tested_by, f"no test is named: {rule}"


@pytest.mark.parametrize("file", sorted(path.name for path in TABLES.glob("test_rfc6455_*.py")))
def test_every_row_is_on_the_page_under_its_section(file: str) -> None:
    name = f"tests/compliance/rfc6455/{file}"
    rows = rows_of(name)
    assert len(rows) >= 7, "there are tables in it"
    candidates = [section for section in WITH_RULES if name in section.files]
    missing = [
        row
        for row in sorted(rows)
        if not any(
            in_sections(row, section.title) and fnmatchcase(row, pattern)
            for section in candidates
            for pattern in section.patterns
        )
    ]
    assert missing == []


def test_every_section_of_the_rules_is_on_the_page() -> None:
    titles = [section.title for section in WITH_RULES]
    for number in ("3", "4.1", "4.2", "4.3", "4.4", *(f"5.{n}" for n in range(1, 9)), "6.1", "6.2"):
        assert any(number in SECTION.findall(title) for title in titles), number
    for number in ("7.1", "7.2", "7.3", "7.4", "8.1", "9.1", "10"):
        assert any(number in SECTION.findall(title) for title in titles), number


# -- RFC 7692: its tables name the places in words of their own --------------------------------------

COMPRESSION = PAGE.read_text(encoding="utf-8").partition("\n## RFC 7692\n")[2]


def compression_rows() -> set[str]:
    """The names of all rows in the tables of permessage-deflate."""
    found: set[str] = set()
    for path in sorted((ROOT / "tests" / "compliance" / "rfc7692").glob("test_rfc7692_*.py")):
        tables = [value for value in runpy.run_path(str(path)).values() if isinstance(value, list)]
        found |= {row.id for table in tables for row in table if ROW.match(str(getattr(row, "id", "")))}
    return found


def test_rows_and_tests_that_the_page_names_for_compression_exist() -> None:
    rows = compression_rows()
    assert len(rows) > 200
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    functions = re.findall(r"def (test_\w+)\(", sources)
    named = set(re.findall(r"`([^`]+)`", COMPRESSION))
    patterns = {name for name in named if ROW.match(name)}
    assert len(patterns) > 80
    assert [p for p in sorted(patterns) if not any(fnmatchcase(row, p) for row in rows)] == []
    tests = {name.partition("[")[0] for name in named if re.match(r"test_.*(?<!\.py)$", name)}
    assert [t for t in sorted(tests) if not any(fnmatchcase(function, t) for function in functions)] == []


def test_every_row_of_compression_is_on_the_page() -> None:
    patterns = [name for name in re.findall(r"`([^`]+)`", COMPRESSION) if ROW.match(name)]
    missing = (row for row in compression_rows() if not any(fnmatchcase(row, p) for p in patterns))
    assert sorted(missing) == []


def test_the_places_that_the_page_names_for_compression_exist() -> None:
    lines = [line.strip("|").split("|") for line in COMPRESSION.splitlines() if line.startswith("| ")]
    sources = {path: path.read_text(encoding="utf-8") for path in (ROOT / "wsstream").rglob("*.py")}
    checked = 0
    for rule, implemented_in, tested_by in lines:
        assert "`" in tested_by or tested_by.strip() == "tested by", f"no test is named: {rule}"
        for name in re.findall(r"`([^`]+)`", implemented_in):
            checked += 1
            if name.endswith(".py"):
                assert ROOT / "wsstream" / name in sources, rule
            else:  # a class, a function, or a method of a class
                first, _, method = name.partition(".")
                defined = rf"^ *(?:async )?(?:def|class) {first}\b" + (
                    rf"(?:.*\n)*?    def {method}\b" if method else ""
                )
                assert any(re.search(defined, text, re.MULTILINE) for text in sources.values()), name
    assert checked > 40
