"""On which event loops a test runs, and by which clock.

Every asynchronous test runs on asyncio and on Trio. Markers ask for more:

* ``virtual_time(idle=0.0)``: sleeps and timeouts take no time; see :func:`wsstream.testing.virtual_clock`.
* ``also_on_uvloop``: a third run, on uvloop.
* ``also_in_real_time``: two more runs by the real clock, which are slow.

A test with backends of its own parametrizes ``anyio_backend`` (with ``indirect=True``) by the names below.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the tests choose how it is started
import importlib.util
from collections.abc import Callable
from typing import Any

import anyio.pytest_plugin
import pytest

from wsstream.testing import virtual_clock

try:
    import sniffio
except ModuleNotFoundError:
    sniffio = None

__all__ = ["HAS_TRIO", "MARKERS", "UVLOOP", "Backend", "backend", "parametrize", "runs_on_trio", "use_loop"]

Backend = str | tuple[str, dict[str, Any]]
"""What anyio's plugin takes: a name, or a name and its options."""

HAS_TRIO = importlib.util.find_spec("trio") is not None
MARKERS = [
    "virtual_time(idle=0.0): sleeps and timeouts take no time; the clock moves after `idle` quiet seconds",
    "also_on_uvloop: runs on uvloop, too",
    "also_in_real_time: runs by the real clock, too; these runs are slow",
    "not_on_uvloop: what the test replaces, uvloop does not use",
]

_HAS_UVLOOP = importlib.util.find_spec("uvloop") is not None
UVLOOP = pytest.param(
    "uvloop",
    marks=[
        pytest.mark.skipif(not _HAS_UVLOOP, reason="uvloop is not installed"),
        pytest.mark.heavy,  # its tests are asyncio's, over again
    ],
)

_Loop = asyncio.AbstractEventLoop


def parametrize(metafunc: pytest.Metafunc) -> None:
    """Run an asynchronous test on each event loop that its markers ask for."""
    test = metafunc.definition
    chosen = any("anyio_backend" in marker.args[0] for marker in test.iter_markers("parametrize"))
    if chosen or "anyio_backend" not in metafunc.fixturenames:
        return
    names: list[Any] = ["asyncio", "trio"]
    if test.get_closest_marker("also_on_uvloop"):
        names.insert(1, UVLOOP)
    if test.get_closest_marker("also_in_real_time"):
        names += [pytest.param(f"{name}-real-time", marks=pytest.mark.slow) for name in names]
    metafunc.parametrize("anyio_backend", names, indirect=True)


def backend(name: str, test: pytest.Item | pytest.Collector) -> Backend:
    """The backend of that name, by the clock that the markers of `test` ask for.

    ``uvloop`` runs by the real clock; ``-virtual`` and ``-real-time`` behind a name overrule the markers.
    """
    name, _, time = name.partition("-")
    if name == "uvloop":
        return "asyncio", {"use_uvloop": True}
    marker = test.get_closest_marker("virtual_time")
    if time == "virtual" or (marker and time != "real-time"):
        return virtual_clock(name, **(marker.kwargs if marker else {}))
    return name


def runs_on_trio(test: pytest.Item) -> bool:
    """Whether it does itself, or has a program or a process run on Trio, by a parameter of any name."""
    parameters = test.callspec.params.values() if hasattr(test, "callspec") else ()
    names = (value[0] if isinstance(value, tuple) and value else value for value in parameters)
    return any(isinstance(name, str) and name.partition("-")[0] == "trio" for name in names)


def use_loop(how: str) -> None:
    """Have anyio's plugin start asyncio by ``asyncio.run``, ``uvloop.run`` or ``anyio.run``.

    anyio's plugin, like ``anyio.run``, tells sniffio which library runs, and everything that the event loop
    calls can then ask sniffio. A program that is started by ``asyncio.run`` has told sniffio nothing: there
    only a task can find out. So that is how most runs of the suite start.
    """
    if how == "anyio.run":
        return
    read = anyio.pytest_plugin.extract_backend_and_options

    def choose(chosen: object) -> tuple[str, dict[str, Any]]:
        name, options = read(chosen)
        return (name, options) if name != "asyncio" else (name, _start(options, how))

    anyio.pytest_plugin.extract_backend_and_options = choose


def _start(options: dict[str, Any], how: str) -> dict[str, Any]:
    """Options that make an event loop of the wanted kind, and tell sniffio nothing."""
    make: Callable[[], _Loop] = options.get("loop_factory", asyncio.new_event_loop)
    if how == "uvloop.run" or options.get("use_uvloop"):
        make = _virtual_uvloop if "loop_factory" in options else _uvloop
    return {"loop_factory": lambda: _forget_name(make())}


def _uvloop() -> _Loop:
    import uvloop

    return uvloop.new_event_loop()


def _virtual_uvloop() -> _Loop:
    from kit.virtual_uvloop import VirtualUvloop

    return VirtualUvloop()


def _forget_name(loop: _Loop) -> _Loop:
    """Undo what the plugin has told sniffio just before it makes `loop`; at its end it restores by itself."""
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)
    return loop
