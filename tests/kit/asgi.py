"""ASGI servers in threads, and applications and clients that follow a script."""

from __future__ import annotations

import asyncio  # noqa: TID251 - hypercorn is started by asyncio.run
import socket
import threading
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, contextmanager
from dataclasses import dataclass, field
from typing import Any

import anyio

from wsstream import HandshakeError, HandshakeRejected, WebSocketError, WebSocketStream

__all__ = ["Case", "Log", "answer", "hypercorn_server", "play", "scripted_app", "uvicorn_server"]

App = Callable[[Any, Any, Any], Awaitable[None]]
_START = 20.0  # seconds for a server to start


class _Thread(threading.Thread):
    """Keeps what the server raised."""

    error: BaseException | None = None

    def run(self) -> None:
        try:
            super().run()
        except BaseException as error:
            self.error = error


@contextmanager
def uvicorn_server(
    app: App, ws: str = "wsstream.asgi:UvicornProtocol", **options: Any
) -> Iterator[tuple[Any, str]]:
    """uvicorn in a thread: its ``Server`` and the URL."""
    import uvicorn

    options = {"port": 0, "log_level": "info", "log_config": None, "lifespan": "off", **options}
    server = uvicorn.Server(uvicorn.Config(app, ws=ws, **options))
    thread = _Thread(target=server.run, name="uvicorn")
    thread.start()
    try:
        deadline = time.monotonic() + _START
        while not server.started:
            assert thread.is_alive(), thread.error
            assert time.monotonic() < deadline
            time.sleep(0.01)
        scheme = "wss" if "ssl_certfile" in options else "ws"
        yield server, f"{scheme}://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


@contextmanager
def hypercorn_server(app: App, **options: Any) -> Iterator[str]:
    """hypercorn in a thread: the URL."""
    from hypercorn.asyncio import serve
    from hypercorn.config import Config

    listener = socket.create_server(("127.0.0.1", 0))
    config = Config()
    config.bind = [f"fd://{listener.fileno()}"]
    config.loglevel, config.errorlog = "ERROR", None
    for name, value in options.items():
        setattr(config, name, value)
    stop = threading.Event()

    async def run() -> None:
        async def stopped() -> None:
            while not stop.is_set():
                await asyncio.sleep(0.02)

        await serve(app, config, shutdown_trigger=stopped)  # type: ignore[arg-type]

    thread = _Thread(target=lambda: asyncio.run(run()), name="hypercorn")
    thread.start()
    try:
        yield f"ws://127.0.0.1:{listener.getsockname()[1]}"  # the listener's backlog waits for it
    finally:
        stop.set()
        thread.join(20)
        listener.detach()
        assert not thread.is_alive()


# -- scripts -------------------------------------------------------------------------------------

Step = str | dict[str, Any]


@dataclass(frozen=True)
class Case:
    """One rule of ASGI, as a script for the application and one for its client.

    Attributes:
        app: ``"receive"``, ``"raise"``, or a message to send.
        client: ``"receive"``, ``"drop"``, a ``str`` or ``bytes`` to send, or a pair to close with.
        app_sees: for each step what `receive` returned, ``"ok"``, or the base class of the exception.
        client_sees: the answer to the handshake, the messages, and the end.
        differs: servers of uvicorn that do otherwise: the reason, and what they change in the two.
    """

    app: Sequence[Step]
    client: Sequence[Any]
    app_sees: Sequence[Any]
    client_sees: Sequence[Any]
    subprotocols: Sequence[str] = ()
    differs: Mapping[str, tuple[str, dict[str, Any]]] = field(default_factory=dict)

    def expected(self, server: str) -> dict[str, Any]:
        """What the application and the client see under `server`."""
        usual = {"app_sees": list(self.app_sees), "client_sees": list(self.client_sees)}
        return usual | (self.differs[server][1] if server in self.differs else {})


class Log:
    """What an application saw, and whether it has ended."""

    def __init__(self) -> None:
        self.seen: list[Any] = []
        self.over = threading.Event()

    async def wait(self) -> None:
        """Wait until the application has ended, which is in another thread."""
        with anyio.fail_after(20):
            while not self.over.is_set():
                await anyio.sleep(0.005)


def scripted_app(case: Case, log: Log, *, patience: float = 1.0) -> App:
    """An application that follows the script; `patience`: seconds for one step."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        try:
            for step in case.app:
                if step == "raise":
                    raise KeyError("the application's own")
                log.seen.append(await _take(step, receive, send, patience))
        finally:
            log.over.set()

    return app


async def _take(step: Step, receive: Any, send: Any, patience: float) -> Any:
    try:
        with anyio.move_on_after(patience):
            if step == "receive":
                return _plain(await receive())
            await send(step)
            return "ok"
        return "nothing"
    except Exception as error:
        kinds = (OSError, RuntimeError, ValueError)
        return next((kind.__name__ for kind in kinds if isinstance(error, kind)), "another error")


def _plain(message: Mapping[str, Any]) -> tuple[Any, ...]:
    """A message without what servers may leave out."""
    kind = message["type"].removeprefix("websocket.")
    if kind == "receive":
        return kind, message["text"] if message.get("bytes") is None else message["bytes"]
    if kind == "disconnect":
        return _end(message["code"], message.get("reason") or "", kind)
    return (kind,)


def _end(code: int, reason: str, *kind: str) -> tuple[Any, ...]:
    """Each server has words of its own for a message that is too big."""
    return *kind, int(code), "" if code == 1009 else reason


async def play(case: Case, connecting: AbstractAsyncContextManager[WebSocketStream]) -> list[Any]:
    """Follow the client's script; returns what it saw."""
    seen: list[Any] = []
    try:
        async with connecting as ws:
            seen.append(answer(ws))
            for step in case.client:
                if step == "receive":
                    seen.append(await ws.receive())
                elif step == "drop":
                    ws.abort()
                    return seen
                elif isinstance(step, tuple):
                    await ws.aclose(*step)
                else:
                    await ws.send(step)
            with anyio.fail_after(20):
                try:
                    info = await ws.wait_closed()
                except WebSocketError:
                    assert ws.close_info is not None
                    info = ws.close_info
            seen.append(_end(info.code, info.reason))
    except HandshakeRejected as rejected:
        seen.append((rejected.status, rejected.body))
    except HandshakeError:
        seen.append("the handshake broke")
    return seen


def answer(ws: WebSocketStream) -> Any:
    """The answer to the handshake, without what no application decides."""
    own = {"date", "server", "upgrade", "connection", "sec-websocket-accept", "sec-websocket-extensions"}
    fields = {name.lower(): value for name, value in ws.response.headers.items()}
    return {name: value for name, value in fields.items() if name not in own}
