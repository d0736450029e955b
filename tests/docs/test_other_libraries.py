"""The tables of "Coming from websockets, aiohttp or picows" name what the installed libraries have.

The first two columns hold expressions, or heads of ``async with`` and ``async for``, over live objects of the
library. Attributes are looked up, calls have to fit the signatures, and the value of a keyword that is not
``...`` is its default.
"""

from __future__ import annotations

import ast
import asyncio  # noqa: TID251 - the other libraries run in asyncio's loop
import builtins
import inspect
import re
import typing
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, NamedTuple

import aiohttp
import anyio
import picows
import pytest
import websockets.asyncio.client
import websockets.asyncio.router
import websockets.asyncio.server
import websockets.exceptions
import websockets.sync.client
from aiohttp import web

import wsstream
import wsstream.feeds
import wsstream.sync
from wsstream.client.attempts import ConnectOptions

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "coming-from-other-libraries.md"
LIBRARIES = ["websockets", "aiohttp", "picows"]
ROW = re.compile(r"^\| (.*?) *\| (.*?) *\| .*\|$", re.MULTILINE)
ELSEWHERE = {  # keywords that a function hands on to another one
    websockets.asyncio.client.connect: asyncio.BaseEventLoop.create_connection,
}


class Code(NamedTuple):
    library: str
    text: str


def codes(library: str) -> list[Code]:
    section = PAGE.read_text().partition(f"## From {library}\n")[2].partition("\n## ")[0]
    found: list[Code] = []
    for theirs, ours in ROW.findall(section):
        if theirs == library or theirs.startswith("---"):
            continue
        assert theirs.startswith("`"), theirs
        found += [Code(library, text) for text in re.findall(r"`([^`]+)`", theirs)]
        found += [Code("wsstream", text) for text in re.findall(r"`([^`]+)`", ours)]
    return found


class Names:
    """The names that code of one library may use: live objects first, then what its modules have."""

    def __init__(self, objects: dict[str, object], *modules: object) -> None:
        self._objects = objects
        self._modules = modules

    def __getitem__(self, name: str) -> Any:
        if name in self._objects:
            return self._objects[name]
        for module in self._modules:
            if hasattr(module, name):
                return getattr(module, name)
        raise AssertionError(f"there is no {name}")


def parse(text: str) -> list[ast.expr]:
    """The expressions of a piece of code: for the head of a block, that after ``async with`` or ``in``."""
    source = f"{text}: ..." if text.startswith("async ") else text
    function = ast.parse(f"async def _():\n    {source}").body[0]
    assert isinstance(function, ast.AsyncFunctionDef)
    statement = function.body[0]
    if isinstance(statement, ast.AsyncWith):
        return [item.context_expr for item in statement.items]
    if isinstance(statement, ast.AsyncFor):
        return [statement.iter]
    assert isinstance(statement, ast.Expr)
    return [statement.value]


def check(text: str, names: Names) -> None:
    for expression in parse(text):
        value = look_up(expression, names)
        wanted = {"async with": "__aenter__", "async for ": "__aiter__"}.get(text[:10])
        assert wanted is None or hasattr(value, wanted), (text, value)


def look_up(node: ast.expr, names: Names) -> Any:
    """What a name or attribute is; of a call, the type of its result; of ``await``, what is awaited."""
    match node:
        case ast.Await(value=value):
            return look_up(value, names)
        case ast.Name(id=name):
            return names[name]
        case ast.Attribute(value=value, attr=name):
            return getattr(look_up(value, names), name)
        case ast.Call():
            function = look_up(node.func, names)
            check_call(function, node)
            return result_of(function)
    raise AssertionError(ast.unparse(node))


def check_call(function: Any, call: ast.Call) -> None:
    signature = inspect.signature(function)
    signature.bind_partial(*call.args, **{str(keyword.arg): ... for keyword in call.keywords})
    for keyword in call.keywords:
        parameters = signature.parameters
        if keyword.arg not in parameters and function in ELSEWHERE:
            parameters = inspect.signature(ELSEWHERE[function]).parameters
        elif keyword.arg not in parameters and function is wsstream.reconnect:
            parameters = inspect.signature(wsstream.connect).parameters
            assert keyword.arg in typing.get_type_hints(ConnectOptions)
        assert keyword.arg in parameters, f"{ast.unparse(call)}: no {keyword.arg}"
        if ast.unparse(keyword.value) != "...":
            value = eval(ast.unparse(keyword.value), {})
            assert default_of(function, parameters[keyword.arg]) == value, ast.unparse(call)


def default_of(function: Any, parameter: inspect.Parameter) -> object:
    if function is wsstream.FlowControl:  # its water marks
        return getattr(function(), parameter.name)
    return parameter.default


def result_of(function: Any) -> Any:
    if inspect.isclass(function):
        return function
    try:
        hint = typing.get_type_hints(function).get("return")
    except (NameError, TypeError):  # written in C, or of names that are there for type checkers alone
        return None
    return typing.get_origin(hint) or hint


async def open_websockets(stack: AsyncExitStack) -> Names:
    async def handler(ws: websockets.asyncio.server.ServerConnection) -> None:
        await ws.wait_closed()

    server = await stack.enter_async_context(websockets.asyncio.server.serve(handler, "127.0.0.1", 0))
    url = f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}"
    client = await stack.enter_async_context(websockets.asyncio.client.connect(url))
    (ours,) = server.connections
    return Names(
        {"ws": client, "connection": ours, "server": server, "websockets": websockets},
        websockets.asyncio.client,
        websockets.asyncio.server,
        websockets.asyncio.router,
        websockets.exceptions,
    )


async def open_aiohttp(stack: AsyncExitStack) -> Names:
    requests: list[web.Request] = []

    async def handler(request: web.Request) -> web.WebSocketResponse:
        requests.append(request)
        response = web.WebSocketResponse()
        await response.prepare(request)
        await response.receive()
        return response

    app = web.Application()
    app.router.add_get("/", handler)
    runner = web.AppRunner(app)
    await runner.setup()
    stack.push_async_callback(runner.cleanup)
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    session = await stack.enter_async_context(aiohttp.ClientSession())
    ws = await stack.enter_async_context(session.ws_connect("http://{}:{}/".format(*runner.addresses[0])))
    objects = {"session": session, "ws": ws, "app": app, "request": requests[0], "web": web}
    return Names({**objects, "response": web.WebSocketResponse()}, aiohttp)


class Paused(picows.WSListener):
    """Reads no more after its second frame."""

    def __init__(self) -> None:
        self.frames: list[tuple[int, bool]] = []

    def on_ws_connected(self, transport: picows.WSTransport) -> None:
        self.transport = transport

    def on_ws_frame(self, transport: picows.WSTransport, frame: picows.WSFrame) -> None:
        self.frames.append((frame.payload_size, bool(frame.fin)))
        if len(self.frames) == 2:
            transport.underlying_transport.pause_reading()


async def open_picows(stack: AsyncExitStack, peer: Paused | None = None) -> Names:
    ours = Paused() if peer is None else peer
    server = await picows.ws_create_server(lambda _: ours, "127.0.0.1", 0)
    stack.callback(server.close)
    port = server.sockets[0].getsockname()[1]
    transport, listener = await picows.ws_connect(picows.WSListener, f"ws://127.0.0.1:{port}/")
    for each in (transport, ours.transport):
        stack.push_async_callback(each.wait_disconnected)
        stack.callback(each.disconnect, graceful=False)
    return Names({"transport": transport, "listener": listener, "frame": picows.WSFrame}, picows)


async def open_wsstream(stack: AsyncExitStack) -> Names:
    async def handler(ws: wsstream.WebSocketStream) -> None:
        await ws.receive()

    server = await stack.enter_async_context(wsstream.serve(handler, "127.0.0.1"))
    ws = await stack.enter_async_context(wsstream.connect(server.url))
    feed = await stack.enter_async_context(wsstream.feeds.Feed("feed"))
    objects = {"server": server, "ws": ws, "feed": feed, "router": wsstream.Router()}
    return Names({**objects, "anyio": anyio, "wsstream": wsstream}, wsstream, builtins)


OPEN = {
    "websockets": open_websockets,
    "aiohttp": open_aiohttp,
    "picows": open_picows,
    "wsstream": open_wsstream,
}


@pytest.mark.parametrize("library", LIBRARIES)
def test_the_names_and_defaults_of_the_tables_are_those_of_both_libraries(library: str) -> None:
    found = codes(library)
    assert len(found) > 70

    async def main() -> None:
        async with AsyncExitStack() as stack:
            names = {name: await OPEN[name](stack) for name in (library, "wsstream")}
            for code in found:
                try:
                    check(code.text, names[code.library])
                except (AssertionError, AttributeError, SyntaxError, TypeError) as error:
                    raise AssertionError(f"{code.library}: {code.text}: {error!r}") from error

    asyncio.run(main())


@pytest.mark.parametrize(
    "wrong",
    [
        "ws.recv()",
        "connect(url, max_size=2**20)",
        "connect(url, max_message_size=2**21)",
        "connect(url, host, port)",
        "async with reconnect(url) as ws",
        "async for ws in connect(url)",
        "ConnectionClosedOK",
        "FlowControl(receive_high_water=1)",
    ],
)
def test_what_is_not_there_is_found(wrong: str) -> None:
    async def main() -> None:
        async with AsyncExitStack() as stack:
            names = await open_wsstream(stack)
            with pytest.raises((AssertionError, AttributeError, TypeError)):
                check(wrong, names)

    asyncio.run(main())


# -- what the pages say of how the others behave --------------------------------------------------------


def test_picows_calls_for_each_frame_and_keeps_all_that_is_sent() -> None:
    peer = Paused()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            transport = (await open_picows(stack, peer))["transport"]
            transport.send(picows.WSMsgType.TEXT, b"\xff", fin=False)
            transport.send(picows.WSMsgType.CONTINUATION, b"ab")
            while len(peer.frames) < 2:
                await asyncio.sleep(0.001)
            for _ in range(32):
                transport.send(picows.WSMsgType.BINARY, bytes(2**20))
            assert transport.underlying_transport.get_write_buffer_size() > 16 * 2**20

    asyncio.run(main())
    assert peer.frames == [(1, False), (2, True)]


def test_one_receiver_at_a_time_everywhere() -> None:
    async def second(receive: Any) -> BaseException | None:
        tasks = [asyncio.ensure_future(receive()) for _ in range(2)]
        done, waiting = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        return done.pop().exception()

    async def main() -> None:
        async with AsyncExitStack() as stack:
            for library, call, expected in (
                ("websockets", "recv", websockets.exceptions.ConcurrencyError),
                ("aiohttp", "receive", RuntimeError),
                ("wsstream", "receive", anyio.BusyResourceError),
            ):
                names = await OPEN[library](stack)
                assert isinstance(await second(getattr(names["ws"], call)), expected)

    asyncio.run(main())
