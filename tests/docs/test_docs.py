"""The programs of the documentation print what it says, on both backends, and the reference is complete.

A block of ``python`` that calls ``anyio.run(main)``, ``asyncio.run(main())`` or ``main()`` is a program, and
so is a cell of a notebook, which awaits outside of a function. A block of ``text`` right behind it is its
output, with ``...`` for what differs from run to run. A program that serves for ever runs in a process of its
own, and the programs that follow on the page talk to it instead of to port 8080; on a page without one they
talk to ``examples/echo_server.py``. Blocks with ``pytestmark`` are test modules. Others have to compile.
"""

from __future__ import annotations

import ast
import asyncio  # noqa: TID251 - the cells of a notebook run in asyncio's loop
import importlib.util
import re
import runpy
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import NamedTuple

import pytest
import trustme
from kit.processes import run_pytest, server

import wsstream
import wsstream.sync
import wsstream.testing

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
BACKENDS = ["asyncio", "trio"]
ADDRESS = "ws://127.0.0.1:8080"
STARTS = ("anyio.run(main)", "\nasyncio.run(main())", "\nmain()\n")
FENCE = re.compile(r"^```(\w+)\n(.*?)^```\n(?:\n```text\n(.*?)^```\n)?", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    code: str
    line: int
    output: str | None

    @property
    def is_program(self) -> bool:
        return self.is_cell or any(line in self.code for line in STARTS)

    @property
    def is_cell(self) -> bool:
        """A cell of a notebook: it awaits outside of a function, and shows what it prints."""
        if self.output is None:
            return False
        try:
            compile(self.code, "", "exec")
        except SyntaxError:
            return True
        return False

    @property
    def serves(self) -> bool:
        return "wait_closed()" in self.code and '"127.0.0.1", 8080' in self.code

    @property
    def is_test_module(self) -> bool:
        return "pytestmark" in self.code or self.code.startswith("# conftest.py")

    def on(self, backend: str) -> str:
        return self.code.replace("anyio.run(main)", f"anyio.run(main, backend={backend!r})")


def blocks_of(page: Path) -> list[Block]:
    text = page.read_text()
    found = FENCE.finditer(text)
    return [Block(m[2], text[: m.start()].count("\n") + 2, m[3]) for m in found if m[1] == "python"]


PAGES = sorted(DOCS.rglob("*.md"))
WITH_PROGRAMS = [page for page in PAGES if any(block.is_program for block in blocks_of(page))]


def name_of(page: Path) -> str:
    return page.relative_to(DOCS).as_posix()


def run(code: str, place: str, capsys: pytest.CaptureFixture[str]) -> str:
    exec(compile(code, place, "exec"), {"__name__": "__main__"})
    return capsys.readouterr().out


class Notebook:
    """Runs the cells of a page in one event loop, with the same variables."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self._runner = runner
        self._variables: dict[str, object] = {"__name__": "__main__"}

    def run(self, code: str, place: str, capsys: pytest.CaptureFixture[str]) -> str:
        cell = compile(code, place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        self._runner.run(eval(cell, self._variables))
        return capsys.readouterr().out


@pytest.mark.heavy_after_first(each="page")
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("page", WITH_PROGRAMS, ids=name_of)
def test_programs_print_what_the_page_says(
    page: Path,
    backend: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    make_certificates(tmp_path)
    url = ""
    with ExitStack() as servers:
        notebook = Notebook(servers.enter_context(asyncio.Runner()))
        for block in filter(lambda block: block.is_program, blocks_of(page)):
            code, place = block.on(backend), f"{page}:{block.line}"
            if block.serves:
                url = servers.enter_context(server("-c", code.replace("8080", "0")))
                continue
            if ADDRESS in code and not url:
                echo = str(ROOT / "examples" / "echo_server.py")
                url = servers.enter_context(server(echo, "0", backend))
            run_block = notebook.run if block.is_cell else run
            output = run_block(code.replace(ADDRESS, url), place, capsys)
            assert block.output is not None, f"{place}: a program without its output"
            expected = re.escape(block.output).replace(re.escape("..."), ".+")
            assert re.fullmatch(expected, output), f"{place}: it printed\n{output}"


def make_certificates(folder: Path) -> None:
    """What ``python -m trustme`` writes."""
    authority = trustme.CA()
    certificate = authority.issue_cert("localhost", "127.0.0.1", "::1")
    certificate.private_key_pem.write_to_path(folder / "server.key")
    certificate.cert_chain_pems[0].write_to_path(folder / "server.pem")
    authority.cert_pem.write_to_path(folder / "client.pem")


@pytest.mark.heavy
def test_test_modules_pass(tmp_path: Path) -> None:
    modules = [block.code for block in blocks_of(DOCS / "how-to/test-your-app.md") if block.is_test_module]
    (tmp_path / "conftest.py").write_text(modules[0])
    for number, code in enumerate(modules[1:]):
        (tmp_path / f"test_{number}.py").write_text(code)
    output = run_pytest(tmp_path, str(tmp_path))
    tests = sum(code.count("async def test_") * 2 + code.count("\ndef test_") for code in modules)
    assert f"{tests} passed" in output


@pytest.mark.heavy
def test_fixtures_in_an_existing_program_work(tmp_path: Path) -> None:
    page = blocks_of(DOCS / "how-to/existing-programs.md")
    (module,) = [block.code for block in page if block.is_test_module]
    (tmp_path / "test_page.py").write_text(module)
    assert "1 passed" in run_pytest(tmp_path, str(tmp_path))


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("mypy") is None, reason="mypy is not installed")
def test_programs_and_examples_pass_a_strict_type_check(tmp_path: Path) -> None:
    for page in WITH_PROGRAMS:
        for block in filter(lambda block: block.is_program and not block.is_cell, blocks_of(page)):
            (tmp_path / f"{page.stem.replace('-', '_')}_{block.line}.py").write_text(block.code)
    command = [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache")]
    places = [str(tmp_path), str(ROOT / "examples")]
    done = subprocess.run([*command, *places], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_of_python_compiles(page: Path) -> None:
    for block in blocks_of(page):
        compile(block.code, f"{page}:{block.line}", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)


@pytest.mark.parametrize("page", [*PAGES, ROOT / "README.md"], ids=lambda page: page.stem)
def test_links_to_pages_and_files_lead_somewhere(page: Path) -> None:
    text = page.read_text()
    targets = re.findall(r"\]\(([^)#:]+)(?:#[^)]*)?\)", text) + re.findall(r"\{literalinclude\} (\S+)", text)
    for target in targets:
        assert (page.parent / target).exists(), target


def test_the_readme_and_the_index_lead_to_each_package_that_the_reference_has() -> None:
    titles = [page.read_text().partition("\n")[0] for page in (DOCS / "reference").glob("*.md")]
    packages = {found[1] for title in titles if (found := re.fullmatch(r"# (wsstream\.\w+)", title))}
    assert len(packages) >= 5
    for page in (ROOT / "README.md", DOCS / "index.md"):
        assert packages <= set(re.findall(r"\[`(wsstream\.\w+)`\]\(", page.read_text())), page


@pytest.mark.parametrize(
    "module", [wsstream, wsstream.sync, wsstream.testing], ids=lambda module: module.__name__
)
def test_every_public_name_is_in_the_reference(module: object) -> None:
    reference = "".join(page.read_text() for page in (DOCS / "reference").glob("*.md"))
    name = module.__name__  # type: ignore[attr-defined]
    automatic = rf"^\.\. auto(?:function|class|exception):: {re.escape(name)}\.(\w+)(?:\(\))?$"
    documented = set(re.findall(automatic, reference, re.MULTILINE))
    documented |= set(re.findall(rf":: (\w+)\n   :module: {re.escape(name)}$", reference, re.MULTILINE))
    assert documented == set(module.__all__)  # type: ignore[attr-defined]


def test_only_known_internal_members_are_left_out_of_the_reference() -> None:
    """The reference names the members of each class: some are for other modules of the library."""
    reference = (DOCS / "reference" / "api.md").read_text()
    internal = {
        "Readable": {"check_free", "next_reader", "pause", "release", "wait"},
        "Writable": {"new_writer", "release", "send_payload"},
        "MessageReader": {"close", "kind", "bytes_received", "complete"},
        "MessageWriter": {"kind", "bytes_sent", "send_range"},
        "Request": {"forwarded", "route", "tls"},
        "Headers": {"of_lines", "to_lines", "well_formed"},
        "Response": {"received", "status", "headers", "body"},
    }
    for name, members in re.findall(
        r"autoclass:: wsstream\.(\w+)(?:\(\))?\n   :members: ((?:.+\n)(?: {6}.+\n)*)", reference
    ):
        public = {member for member in vars(getattr(wsstream, name)) if not member.startswith("_")}
        documented = set(re.split(r"[,\s]+", members.strip()))
        assert public - documented <= internal.get(name, set()), name


def test_the_pages_of_the_command_line_are_made_from_its_parser() -> None:
    pages = runpy.run_path(str(DOCS / "cli_pages.py"))
    written = "written by: python docs/cli_pages.py"
    assert pages["PAGE"].read_text(encoding="utf-8") == pages["page"](), written
    assert pages["MANUAL"].read_text(encoding="utf-8") == pages["manual"](), written


def test_the_page_of_the_command_line_has_every_command_option_and_exit_status() -> None:
    page = runpy.run_path(str(DOCS / "cli_pages.py"))["page"]()
    for command in ("demo", "send", "receive", "serve files", "connect", "echo", "bridge"):
        arguments = [sys.executable, "-m", "wsstream", *command.split(), "--help"]
        text = subprocess.run(arguments, capture_output=True, text=True, check=True).stdout
        options, _, statuses = text.partition("exit status:")
        section = page.partition(f"## wsstream {command}\n")[2].partition("\n## ")[0]
        for option in re.findall(r"(?<![\w-])--[a-z][a-z-]+", options):
            assert option == "--help" or f"`{option}" in section or f"{option}," in section, option
        for status in re.findall(r"\b(\d+|128\+n) ", statuses):
            assert f"\n| {status.replace('+', ' + ')} |" in page, status


def test_the_tables_of_the_benchmark_are_made_of_its_results() -> None:
    folder = DOCS / "explanation" / "performance"
    program = "import json, report, sys; sys.stdout.write(report.fragment(json.load(sys.stdin)))"
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=ROOT / "tests" / "bench",
        input=(folder / "results.json").read_text(),
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == (folder / "table.inc").read_text()
    for plot in re.findall(r"performance/([a-z-]+\.svg)", done.stdout):
        assert (folder / plot).is_file(), plot
