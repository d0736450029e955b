"""The architecture, read from the source: which module may import which, and what importing loads."""

from __future__ import annotations

import ast
import os
import pickle
import re
import subprocess
import sys
import textwrap
import tomllib
import typing
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from graphlib import TopologicalSorter
from pathlib import Path
from types import FunctionType

import pytest

import wsstream
import wsstream.errors
import wsstream.testing

ROOT = Path(wsstream.__file__).parent
TESTS = Path(__file__).parent

LAYERS = [
    {"arguments", "close_codes", "display", "heap", "log"},
    {"errors"},
    {"codec"},
    {"protocol"},
    {"opening"},
    {"transports"},
    {"driver"},
    {"streams"},
    {"upgrade"},
    {"routing"},
    {"client", "server"},
    {"asgi"},
    {"feeds", "files", "sync"},
    {"cli", "__main__"},
]
OUTSIDE = {"__init__", "public", "testing"}  # re-exports only; a product of its own, which may import all
IO_MODULES = {"socket", "ssl", "selectors", "select", "asyncio", "trio", "anyio", "threading", "time"}
BACKENDS = {"asyncio", "trio"}
SANS_IO = ["codec", "protocol", "opening"]
OPTIONAL = {"blake3", "coredis", "python_socks"}  # in an extra, imported where it is needed


@dataclass(frozen=True)
class Import:
    """One imported module: `target` is its full name. `line` is the line of the source."""

    source: str
    target: str
    line: int
    text: str
    at_start: bool  # done when the source is imported, not later in a function
    for_types: bool  # under TYPE_CHECKING

    def __str__(self) -> str:
        return f"{self.source}:{self.line} imports {self.target}"


@cache
def modules() -> dict[str, Path]:
    """All modules of the library by their full names."""
    names = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return names


def walk(
    node: ast.AST, at_start: bool = True, for_types: bool = False
) -> Iterator[tuple[ast.AST, bool, bool]]:
    for child in ast.iter_child_nodes(node):
        inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
        types = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test)
        yield child, at_start, for_types
        yield from walk(child, at_start and not inside, for_types or types)


def targets(node: ast.AST, source: str) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        base = node.module or ""
        if node.level:
            package = source if modules()[source].name == "__init__.py" else source.rpartition(".")[0]
            for _ in range(node.level - 1):
                package = package.rpartition(".")[0]
            base = f"{package}.{base}" if base else package
        for alias in node.names:
            full = f"{base}.{alias.name}"
            yield full if full in modules() else base


@cache
def imports() -> list[Import]:
    """All imports of the library, wherever they stand."""
    found = []
    for source, path in modules().items():
        text = path.read_text(encoding="utf-8")
        lines = text.splitlines()
        for node, at_start, for_types in walk(ast.parse(text)):
            for target in targets(node, source):
                line = node.lineno  # type: ignore[attr-defined]
                found.append(Import(source, target, line, lines[line - 1], at_start, for_types))
    return found


def part_of(module: str) -> str:
    """The part of the library that a module belongs to: a folder or a module at the top."""
    _, _, rest = module.partition(".")
    return rest.partition(".")[0] or "__init__"


def layer_of(module: str) -> int:
    return next(number for number, parts in enumerate(LAYERS) if part_of(module) in parts)


def is_ours(module: str) -> bool:
    return module == "wsstream" or module.startswith("wsstream.")


def top(module: str) -> str:
    return module.partition(".")[0]


def within(*parts: str) -> list[Import]:
    found = [each for each in imports() if part_of(each.source) in parts]
    assert found, f"there is nothing in {parts}"
    return found


@pytest.mark.heavy
def test_all_kinds_of_imports_are_found() -> None:
    """Or all that follows would prove nothing."""
    seen = {(each.source, each.target) for each in imports()}
    assert ("wsstream.codec.decoder", "wsstream.codec.frames") in seen
    assert ("wsstream.opening.http1", "h11") in seen
    assert ("wsstream.testing", "wsstream.testing.frames") in seen, "relative imports"
    assert ("wsstream.testing.pair", "wsstream.client.connect") in seen, "imports in functions"
    assert ("wsstream.transports.eventloop", "asyncio") in seen
    assert len(modules()) > 50


def test_every_module_belongs_to_a_layer() -> None:
    known = OUTSIDE.union(*LAYERS)
    assert {part_of(module) for module in modules()} <= known


def test_imports_point_only_downwards() -> None:
    """A layer may skip over others and never look up, not even for types or in a function."""
    upward = [
        each
        for each in imports()
        if is_ours(each.target)
        and part_of(each.source) not in OUTSIDE
        and part_of(each.target) not in OUTSIDE
        if layer_of(each.target) > layer_of(each.source)
    ]
    assert [*map(str, upward)] == []


def test_only_applications_of_the_library_use_the_public_names_of_the_whole() -> None:
    users = {part_of(each.source) for each in imports() if each.target == "wsstream"}
    assert users <= {"cli", "files", "sync", "__main__"}


def test_nothing_in_the_library_imports_its_testing() -> None:
    users = [each for each in imports() if part_of(each.target) == "testing" and is_ours(each.target)]
    assert [str(each) for each in users if part_of(each.source) != "testing"] == []


def test_errors_and_codec_share_the_close_codes_and_do_not_know_each_other() -> None:
    allowed = {"errors": {"errors", "close_codes", "display"}, "codec": {"codec", "close_codes"}}
    for part, may in allowed.items():
        assert {part_of(each.target) for each in within(part) if is_ours(each.target)} <= may


ALLOWED = {
    # part: what it may import that is neither ours nor the standard library
    "arguments": set(),
    "close_codes": set(),
    "display": set(),
    "errors": {"anyio"},
    "heap": set(),
    "log": set(),
    "codec": set(),
    "protocol": set(),
    "opening": {"h11", "idna"},
    "transports": {"anyio", "trio", *OPTIONAL},
    "driver": {"anyio"},
    "streams": {"anyio"},
    "upgrade": {"anyio"},
    "client": {"anyio"},
    "server": {"anyio"},
    "asgi": {"anyio"},
    "feeds": {"anyio", "coredis"},
    "files": {"anyio", "blake3"},
    "sync": {"anyio"},
    "cli": {"anyio", "rich", "trustme", "trio", "uvloop", "prompt_toolkit", "shtab"},
    "testing": {"anyio", "trio"},
    "__init__": set(),
    "public": set(),
    "__main__": set(),
}


@pytest.mark.parametrize("part", ALLOWED)
def test_a_part_imports_no_other_package_than_it_may(part: str) -> None:
    foreign = {top(each.target) for each in within(part) if not is_ours(each.target)}
    assert foreign - set(sys.stdlib_module_names) <= ALLOWED[part]


def test_the_packages_that_are_always_needed_are_the_declared_dependencies() -> None:
    project = tomllib.loads((TESTS.parent / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {name.partition(">")[0] for name in project["dependencies"]}
    needed = {top(each.target) for each in imports() if part_of(each.source) not in {"cli", "testing"}}
    assert needed - set(sys.stdlib_module_names) - {"wsstream"} - BACKENDS - OPTIONAL == declared


def test_the_packages_of_extras_are_not_imported_at_the_start() -> None:
    users = [each for each in imports() if top(each.target) in OPTIONAL]
    assert {top(each.target) for each in users} == OPTIONAL
    assert [str(each) for each in users if each.at_start] == []


@pytest.mark.parametrize("part", SANS_IO)
def test_the_sans_io_layers_import_no_io_module(part: str) -> None:
    assert [str(each) for each in within(part) if top(each.target) in IO_MODULES] == []


def test_the_protocol_for_files_imports_nothing_that_does_io() -> None:
    found = [each for each in imports() if each.source.startswith("wsstream.files.protocol.")]
    others = {each.target for each in found if is_ours(each.target)}
    others -= {name for name in others if name.startswith("wsstream.files.protocol")}
    assert others <= {"wsstream.errors", "wsstream.display", "wsstream.files.errors"}
    assert [str(each) for each in found if top(each.target) in IO_MODULES | {"os", "pathlib", "io"}] == []


def test_errors_take_only_exceptions_from_anyio_and_load_no_event_loop() -> None:
    """The sans-I/O layers import the errors, and so all that these load."""
    assert {top(each.target) for each in within("errors")} & IO_MODULES == {"anyio"}
    tree = ast.parse(modules()["wsstream.errors"].read_text(encoding="utf-8"))
    of_anyio = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    used = {node.attr for node in of_anyio if isinstance(node.value, ast.Name) and node.value.id == "anyio"}
    assert used == {"EndOfStream", "ClosedResourceError", "BrokenResourceError"}
    names = ", ".join(module for module in modules() if part_of(module) == "protocol")
    assert not loaded_by(f"import {names}") & BACKENDS


def test_the_backends_are_imported_where_they_must_be_and_each_time_with_a_reason() -> None:
    users = [each for each in imports() if top(each.target) in BACKENDS]
    assert {(each.source, each.target) for each in users if each.source != "wsstream.testing.clock"} == {
        ("wsstream.transports.eventloop", "asyncio"),
        ("wsstream.transports.eventloop", "trio"),
    }
    for each in users:
        assert "# noqa: TID251 - " in each.text, str(each)
        assert each.for_types or not each.at_start, f"{each} at its start"


def test_there_are_no_cycles_also_none_for_types() -> None:
    graph: dict[str, set[str]] = {module: set() for module in modules()}
    for each in imports():
        if each.at_start and each.target in graph and part_of(each.source) != "__init__":
            graph[each.source].add(each.target)
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError
    assert set(order) == set(graph)


# -- the public names ----------------------------------------------------------------------------


def homes() -> dict[str, str]:
    """Each public name, and the module it is imported from."""
    found = {}
    for node in ast.parse((ROOT / "public.py").read_text(encoding="utf-8")).body[1:]:
        assert isinstance(node, ast.ImportFrom), ast.unparse(node)
        assert node.module is not None
        for alias in node.names:
            assert alias.asname == alias.name, f"{alias.name} is not re-exported for type checkers"
            assert alias.name not in found
            found[alias.name] = node.module
    return found


def test_the_public_names_are_sorted_and_complete() -> None:
    public = list(wsstream.__all__)
    assert public == sorted(homes(), key=str.lower)
    errors = {name for name in wsstream.errors.__all__ if isinstance(getattr(wsstream.errors, name), type)}
    assert errors <= set(public)
    assert {"connect", "serve", "accept", "pipe", "proxy", "WebSocketStream", "FlowControl"} <= set(public)
    assert set(public) <= set(dir(wsstream))


@pytest.mark.parametrize("name", wsstream.__all__)
def test_a_public_name_is_at_home_in_the_package(name: str) -> None:
    value = getattr(wsstream, name)
    assert value is getattr(sys.modules[homes()[name]], name)
    assert value.__module__ == "wsstream"
    assert value.__doc__
    assert pickle.loads(pickle.dumps(value)) is value


def test_the_public_names_of_testing_are_at_home_there() -> None:
    values = [getattr(wsstream.testing, name) for name in wsstream.testing.__all__]
    classes_and_functions = [value for value in values if isinstance(value, type | FunctionType)]
    assert len(classes_and_functions) > 20
    for value in classes_and_functions:
        assert value.__module__ == "wsstream.testing"
        assert pickle.loads(pickle.dumps(value)) is value


def test_the_help_names_every_public_name_by_its_purpose() -> None:
    purposes = wsstream.__doc__.partition("The names, by purpose:")[2]
    assert sorted(re.findall(r"`(\w+)`", purposes)) == sorted(wsstream.__all__)


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_the_program_in_the_help_runs(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    program = textwrap.dedent(wsstream.__doc__.partition("::\n")[2].partition("The names,")[0])
    program = program.replace("anyio.run(main)", f"anyio.run(main, backend={backend!r})")
    assert backend in program
    exec(compile(program, "help(wsstream)", "exec"), {})
    assert capsys.readouterr().out == "hello\n"


@pytest.mark.heavy
def test_a_traceback_names_an_exception_as_users_import_it() -> None:
    command = [sys.executable, "-c", "import wsstream; raise wsstream.InvalidURL('no host')"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.stderr.splitlines()[-1] == "wsstream.InvalidURL: no host"


def test_a_star_import_takes_the_public_names() -> None:
    names: dict[str, object] = {}
    exec("from wsstream import *", names)
    assert set(names) - {"__builtins__"} == set(wsstream.__all__)


@pytest.mark.parametrize("name", wsstream.__all__)
def test_the_types_of_a_public_name_can_be_resolved(name: str) -> None:
    """Its module is the public one, where the names that its annotations use are not."""
    typing.get_type_hints(getattr(wsstream, name))


def test_a_name_that_is_not_there_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'wsstream' has no attribute 'nothing'"):
        wsstream.nothing  # noqa: B018


# -- what importing loads ------------------------------------------------------------------------


def loaded_by(statement: str) -> set[str]:
    """The packages that a fresh interpreter has loaded after `statement`."""
    script = f"import sys; {statement}; print(*{{name.partition('.')[0] for name in sys.modules}})"
    command = [sys.executable, "-W", "error", "-c", script]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=30, cwd=ROOT.parent, env=environment, check=True
    )
    return set(done.stdout.split())


def test_importing_the_package_loads_neither_anyio_nor_h11() -> None:
    loaded = loaded_by("import wsstream")
    assert "wsstream" in loaded
    assert not loaded & {"anyio", "h11", "asyncio", "trio", "ssl", "socket"}


def test_the_codec_can_be_used_without_any_other_package() -> None:
    names = ", ".join(module for module in modules() if module.startswith("wsstream.codec."))
    assert not loaded_by(f"import {names}") & {"anyio", "h11", *IO_MODULES - {"time"}}


# -- checks that are switched off ------------------------------------------------------------------


def test_a_check_that_is_switched_off_has_its_reason_on_the_line() -> None:
    for path in ROOT.rglob("*.py"):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            if "# noqa" in line or "# pragma" in line:
                assert re.search(r"# (noqa|pragma): [\w, ]+ - \S", line), f"{path}:{number}: {line}"


# -- the tests of the sans-I/O layers ------------------------------------------------------------


@pytest.mark.parametrize("part", SANS_IO)
def test_every_module_of_the_sans_io_layers_has_a_test_file(part: str) -> None:
    sources = {path.stem for path in (ROOT / part).glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (TESTS / part).glob("test_*.py")}
    assert sources <= tests  # a subject of two modules may have one of its own


def test_every_module_of_the_protocol_for_files_has_a_test_file() -> None:
    sources = {path.stem for path in (ROOT / "files" / "protocol").glob("*.py")} - {"__init__"}
    tests = {path.stem.removeprefix("test_") for path in (TESTS / "files" / "protocol").glob("test_*.py")}
    assert sources - {"events", "link", "incoming"} <= tests, "those three are parts of a session"


@pytest.mark.parametrize("part", SANS_IO)
def test_the_tests_of_the_sans_io_layers_neither_sleep_nor_mock(part: str) -> None:
    for path in (TESTS / part).glob("*.py"):
        names = set()
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            match node:
                case ast.Name(id=name) | ast.Attribute(attr=name) | ast.arg(arg=name) | ast.alias(name=name):
                    names.add(name.lower())
                case ast.ImportFrom(module=str(name)):
                    names.add(name.lower())
                case ast.AsyncFunctionDef():
                    pytest.fail(f"{path.name}:{node.lineno} is asynchronous")
        assert not [name for name in names if "mock" in name or "monkeypatch" in name or "sleep" in name], (
            path
        )
