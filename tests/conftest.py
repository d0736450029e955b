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
from typing import Any

import anyio
import anyio.pytest_plugin
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from hypothesis import settings

Peer = Callable[[Any], Awaitable[object]]
Listen = Callable[..., AbstractAsyncContextManager[int]]

settings.register_profile("wsstream", deadline=None)  # a loaded machine is not a slow test
settings.load_profile("wsstream")

_Loop = asyncio.AbstractEventLoop
_Backend = tuple[str, dict[str, Any]]


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio.run", "uvloop.run", "anyio.run"],
        default="asyncio.run",
        help="how asyncio is started; uvloop knows no virtual time, so sleeps and timeouts take theirs",
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have anyio's plugin make the event loop in the way that was chosen."""
    read, loop = anyio.pytest_plugin.extract_backend_and_options, config.getoption("--loop")

    def choose(backend: object) -> _Backend:
        name, options = read(backend)
        return (name, options) if name != "asyncio" else (name, _start(options, loop))

    if loop != "anyio.run":
        anyio.pytest_plugin.extract_backend_and_options = choose


def _start(options: dict[str, Any], loop: str) -> dict[str, Any]:
    """The options of an event loop of this kind that is nobody's but asyncio's."""
    make: Callable[[], _Loop] = options.get("loop_factory", asyncio.new_event_loop)
    if loop == "uvloop.run" or options.get("use_uvloop"):
        import uvloop

        make = uvloop.new_event_loop
    return {"loop_factory": lambda: _forget_name(make())}


def _forget_name(loop: _Loop) -> _Loop:
    """Undo what the plugin has told sniffio just before it makes `loop`; at its end it restores by itself."""
    if importlib.util.find_spec("sniffio") is not None:
        import sniffio

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
