"""For the whole suite: every asynchronous test runs on asyncio and on trio, and on asyncio as users start it.

anyio's plugin, like ``anyio.run``, tells sniffio which library runs, and everything that the event loop calls
can then ask. A program that is started by ``asyncio.run`` has told nobody: there only a task can find out. So
that is how these tests run, and ``--loop`` chooses another way.
"""

from __future__ import annotations

import asyncio  # noqa: TID251 - the tests choose how it is started
import importlib.util
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import Any, NamedTuple

import anyio
import anyio.pytest_plugin
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from hypothesis import settings

from wsstream import CloseInfo, ConnectionBroken, ConnectionClosed, WebSocketError

try:
    import sniffio
except ModuleNotFoundError:
    sniffio = None

Peer = Callable[[Any], Awaitable[object]]
Listen = Callable[..., AbstractAsyncContextManager[int]]

settings.register_profile("wsstream", deadline=None)  # a loaded machine is not a slow test
settings.load_profile("wsstream")

_Loop = asyncio.AbstractEventLoop
_HAS_TRIO = importlib.util.find_spec("trio") is not None
_Backend = tuple[str, dict[str, Any]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio.run", "uvloop.run", "anyio.run"],
        default="asyncio.run",
        help="how asyncio is started",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have anyio's plugin make the event loop in the way that was chosen."""
    read, loop = anyio.pytest_plugin.extract_backend_and_options, config.getoption("--loop")

    def choose(backend: object) -> _Backend:
        name, options = read(backend)
        return (name, options) if name != "asyncio" else (name, _start(options, loop))

    if loop != "anyio.run":
        anyio.pytest_plugin.extract_backend_and_options = choose


def pytest_report_header() -> list[str]:
    return [] if _HAS_TRIO else ["trio is not installed: nothing runs on trio"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what runs on trio where there is none."""
    if not _HAS_TRIO:
        for item in items:
            chosen = item.callspec.params.values() if hasattr(item, "callspec") else ()
            if any(value == "trio" or (isinstance(value, tuple) and "trio" in value[:1]) for value in chosen):
                item.add_marker(pytest.mark.skip(reason="trio is not installed"))


def _start(options: dict[str, Any], loop: str) -> dict[str, Any]:
    """The options of an event loop of this kind that is nobody's but asyncio's."""
    make: Callable[[], _Loop] = options.get("loop_factory", asyncio.new_event_loop)
    if loop == "uvloop.run" or options.get("use_uvloop"):
        import uvloop

        make = _virtual_uvloop if "loop_factory" in options else uvloop.new_event_loop
    return {"loop_factory": lambda: _forget_name(make())}


def _virtual_uvloop() -> _Loop:
    """The class is in a module of its own, though the tests import nothing from each other."""
    path = Path(__file__).parent / "loops" / "virtual_uvloop.py"
    spec = importlib.util.spec_from_file_location("virtual_uvloop", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loop: _Loop = module.VirtualUvloop()
    return loop


def _forget_name(loop: _Loop) -> _Loop:
    """Undo what the plugin has told sniffio just before it makes `loop`; at its end it restores by itself."""
    if sniffio is not None:
        sniffio.current_async_library_cvar.set(None)
    return loop


@pytest.fixture(params=["asyncio", "trio"])
def anyio_backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


# -- servers on loopback that are not ours -------------------------------------------------------


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture
def listen() -> Listen:
    """Listen on loopback and call the peer with each byte stream; gives the port."""

    @asynccontextmanager
    async def listen(peer: Peer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        sockets: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = sockets.extra(SocketAttribute.local_port)
        listener = sockets
        if context is not None:
            listener = _QuietTLSListener(sockets, context, standard_compatible=False)

        async def handle(stream: ByteStream) -> None:
            async with stream:
                await peer(stream)

        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handle)
            yield port
            tasks.cancel_scope.cancel()

    return listen


class _QuietTLSListener(TLSListener):
    """A client that does not trust us is what some tests want."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: Any) -> None:
        await anyio.aclose_forcefully(stream)


# -- what an application may raise -------------------------------------------------------------


class Hostile(NamedTuple):
    """An exception that is hard to judge, and what a connection whose block it leaves has to make of it."""

    make: Callable[[], BaseException]
    code: int
    """Of the Close frame."""
    failed: bool
    """Whether it is worth an ERROR in the log, not an INFO."""


class _NoInit(WebSocketError):
    def __init__(self, user: str) -> None:
        self.user = user


class _ClosedNoInit(ConnectionClosed):
    def __init__(self) -> None: ...


class _AttributesRaise(WebSocketError):
    @property
    def code(self) -> int:  # type: ignore[override]
        raise RuntimeError("code")

    reason = code  # type: ignore[assignment]

    def __init__(self) -> None: ...


class _NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("__str__")

    __repr__ = __str__


class _CodeWithoutText(WebSocketError):
    __str__ = __repr__ = _NoText.__str__


class _NoBase(BaseException):
    pass


class _GroupThatHidesItsParts(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:  # type: ignore[override]
        raise RuntimeError("exceptions")


class _UnlikeANumber(int):
    def __le__(self, other: object) -> bool:
        raise RuntimeError("<=")

    __ge__ = __lt__ = __gt__ = __le__


class _ClassRaises(Exception):
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("__class__")


def _with(**attributes: object) -> WebSocketError:
    error = WebSocketError("odd", code=4000)
    vars(error).update(attributes)
    return error


def _broken() -> ConnectionBroken:
    return ConnectionBroken("the connection broke", CloseInfo(1006, "", False))


def _nested(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", errors)])


HOSTILE = {
    "init-not-called": Hostile(lambda: _NoInit("eve"), 1011, True),
    "closed-init-not-called": Hostile(_ClosedNoInit, 1011, False),
    "attributes-raise": Hostile(_AttributesRaise, 1011, True),
    "class-raises": Hostile(_ClassRaises, 1011, True),
    "code-of-str": Hostile(lambda: _with(code="4000"), 1011, True),
    "code-of-bool": Hostile(lambda: _with(code=True), 1011, True),
    "code-that-must-not-be-sent": Hostile(lambda: _with(code=1006), 1011, True),
    "code-that-does-not-compare": Hostile(lambda: _with(code=_UnlikeANumber(4000)), 1011, True),
    "reason-of-bytes": Hostile(lambda: _with(reason=b"bytes"), 1011, True),
    "reason-too-long": Hostile(lambda: _with(reason="x" * 124), 1011, True),
    "reason-with-a-surrogate": Hostile(lambda: _with(reason="\ud800"), 1011, True),
    "no-code": Hostile(lambda: WebSocketError("no code"), 1011, True),
    "no-text": Hostile(_NoText, 1011, True),
    "code-without-text": Hostile(lambda: _CodeWithoutText(code=4001), 4001, False),
    "group-closed": Hostile(lambda: _nested(_broken(), _broken()), 1011, False),
    "group-closed-and-code": Hostile(
        lambda: _nested(_broken(), WebSocketError(code=4002, reason="why")), 4002, False
    ),
    "group-of-two-codes": Hostile(
        lambda: _nested(WebSocketError(code=4003), WebSocketError(code=4004)), 4003, False
    ),
    "group-code-and-failure": Hostile(
        lambda: _nested(WebSocketError(code=4005), ZeroDivisionError()), 1011, True
    ),
    "group-of-the-above": Hostile(lambda: _nested(_NoInit("eve"), _AttributesRaise(), _NoText()), 1011, True),
    "group-that-hides-its-parts": Hostile(
        lambda: _GroupThatHidesItsParts("hides", [WebSocketError(code=4006)]), 4006, False
    ),
    "generator-exit": Hostile(GeneratorExit, 1001, True),
    "base-exception": Hostile(_NoBase, 1001, True),
    "group-of-base-exceptions": Hostile(
        lambda: _nested(_NoBase(), GeneratorExit(), ValueError()), 1001, True
    ),
}


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> Hostile:
    """One exception after the other."""
    return HOSTILE[request.param]
