"""The repr of every public object: useful, one line, without secrets, at any time of its life."""

from __future__ import annotations

import dataclasses
import inspect
import re
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from typing import Any

import anyio
import pytest

import wsstream
from wsstream import CloseInfo, Deflate, FlowControl, Headers, Request, Response, connect, serve
from wsstream.testing import memory_pair

pytestmark = pytest.mark.anyio

SECRET = "s3cr3t"
PUBLIC = {name: getattr(wsstream, name) for name in wsstream.__all__}
ERRORS = [name for name, value in PUBLIC.items() if inspect.isclass(value) and issubclass(value, Exception)]
COROUTINES = {"join", "pipe", "proxy", "typed"}  # functions: what they return is shown elsewhere


async def idle(ws: wsstream.WebSocketStream) -> None:
    await ws.wait_closed()


def error(name: str) -> Exception:
    """An exception of the library, with secrets where its headers or its URL are."""
    kind = PUBLIC[name]
    fields = [("set-cookie", SECRET), ("location", f"/?{SECRET}")]
    match name:
        case "HandshakeRejected":
            made = kind(401, fields)
        case "ProxyError":
            made = kind("the proxy refused", 407, fields)
        case _ if issubclass(kind, wsstream.ConnectionClosed):
            made = kind("the connection is closed", CloseInfo(1001, "going\r\naway", True))
        case _:
            made = kind("what happened")
    assert isinstance(made, Exception)
    return made


def activated() -> wsstream.ActivatedSocket:
    """A socket as `listen_fds` returns it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return wsstream.ActivatedSocket(fileno=listener.detach())


class Witness:
    """Collects the reprs of everything public, made as a user makes it, while a connection lives."""

    def __init__(self) -> None:
        self.shown: dict[str, list[str]] = {name: [] for name in PUBLIC}

    def see(self, name: str, *objects: object) -> None:
        self.shown[name] += map(repr, objects)

    def see_values(self) -> None:
        with activated() as listener:
            self.see("ActivatedSocket", listener)
        self.see("ActivatedSocket", listener)
        self.see("listen_fds", wsstream.listen_fds())
        fields = {"Authorization": f"Bearer {SECRET}", "X-Api-Key": SECRET}
        self.see("Headers", Headers(), Headers(fields))
        self.see("Request", Request(f"/?token={SECRET}", Headers(fields)))
        self.see("Response", Response(401, {"WWW-Authenticate": SECRET}, f"wrong: {SECRET}"))
        self.see("FlowControl", FlowControl())
        self.see("Deflate", Deflate())
        self.see("Backoff", wsstream.Backoff())
        self.see("Target", wsstream.Target(f"ws://u:{SECRET}@a/?{SECRET}", headers={"Cookie": SECRET}))
        self.see("ReceiveRate", wsstream.ReceiveRate(1000, messages_at_most=5))
        self.see("CloseCode", wsstream.CloseCode.NORMAL)
        self.see("CloseInfo", CloseInfo(1000, "\x1b[2J\n", True))
        self.see("Accept", wsstream.Accept(headers=fields, subprotocol=SECRET, state=SECRET))
        self.see("accept", wsstream.accept(memory_pair()[0]))
        self.see("Router", wsstream.Router())
        for name in ERRORS:
            self.see(name, error(name))

    def see_connection(self, ws: wsstream.WebSocketStream) -> None:
        self.see("WebSocketStream", ws, ws.byte_stream())
        self.see("Readable", ws.readable, ws.readable.message(), ws.readable.messages())
        self.see("Readable", ws.readable.only(str), ws.readable.only(bytes))
        self.see("Writable", ws.writable, ws.writable.message("text"))
        self.see("TypedStream", wsstream.typed(ws, bytes, bytes))
        self.see("ConnectionState", ws.state)
        self.see("Statistics", ws.statistics())
        self.see("Request", ws.request)
        self.see("Response", ws.response)
        self.see("Headers", ws.request.headers, ws.response.headers)

    async def see_messages(self, ws: wsstream.WebSocketStream, peer: wsstream.WebSocketStream) -> None:
        async with ws.writable.message("text") as writer:
            await writer.send(SECRET)
            await writer.flush()
            self.see("MessageWriter", writer)
            async with peer.readable.message() as reader:
                self.see("MessageReader", reader)
                await reader.receive(3)
                self.see("MessageReader", reader)
            self.see("MessageReader", reader)
        self.see("MessageWriter", writer)

    async def see_all(self) -> None:
        self.see_values()
        serving = serve(idle, "127.0.0.1")
        self.see("serve", serving)
        async with AsyncExitStack() as stack:
            server = await stack.enter_async_context(serving)
            self.see("serve", serving)
            self.see("Server", server)
            url = server.url.replace("://", f"://{SECRET}:{SECRET}@") + f"/feed?token={SECRET}"
            headers = {"Cookie": f"session={SECRET}"}
            connecting = connect(url, headers=headers, subprotocols=[])
            self.see("connect", connecting)
            ws = await stack.enter_async_context(connecting)
            await anyio.wait_all_tasks_blocked()
            peer = next(iter(server.connections))
            self.see("connect", connecting)
            self.see("Server", server)
            self.see_connection(ws)
            self.see_connection(peer)
            await self.see_messages(ws, peer)
            await self.see_reconnect(url)
            await ws.aclose()
            self.see_connection(ws)
            await peer.wait_closed()
            self.see_connection(peer)
        self.see("connect", connecting)
        self.see("serve", serving)
        self.see("Server", server)

    async def see_reconnect(self, url: str) -> None:
        connections: AsyncIterator[wsstream.WebSocketStream] = wsstream.reconnect(url, delays=[])
        self.see("reconnect", connections)
        async for ws in connections:
            async with ws:
                self.see("reconnect", connections)
            break
        self.see("reconnect", connections)


async def test_every_public_object_has_a_repr_of_one_line_without_secrets() -> None:
    witness = Witness()
    with anyio.fail_after(10):
        await witness.see_all()
    for name, shown in witness.shown.items():
        assert bool(shown) != (name in COROUTINES), f"{name} is public: show it here, in all its states"
        for text in shown:
            assert len(text) <= 250, text
            assert "\n" not in text
            assert "\x1b" not in text
            assert " at 0x" not in text, f"{name} has the repr of object"
            assert "_" not in text.partition(" ")[0].partition("(")[0], f"{name}: a private name in {text}"
            assert SECRET not in text


SHAPES = {
    "Server": r"<Server ws://127\.0\.0\.1:\d+, connections: 1>",
    "serve": r"<serve: not entered>",
    "connect": r"<connect: ws://127\.0\.0\.1:\d+/feed>",
    "WebSocketStream": r"<WebSocketStream [0-9a-f]+ ws://127\.0\.0\.1:\d+/feed (open|closing|closed)>",
    "Readable": r"<Readable of connection [0-9a-f]+, (open|closing|closed)>",
    "Writable": r"<Writable of connection [0-9a-f]+, (open|closing|closed)>",
    "MessageReader": r"<MessageReader of connection [0-9a-f]+: text, [03] bytes received, (open|closed)>",
    "MessageWriter": r"<MessageWriter of connection [0-9a-f]+: text, 6 bytes sent, (open|closed)>",
    "Request": r"<Request GET /feed>",
    "Response": r"<Response 101>",
    "Headers": r"<Headers Host, Upgrade, Connection, .*>",
    "CloseInfo": r"CloseInfo\(code=1000, reason='.*', clean=True\)",
}


async def test_reprs_tell_which_and_in_what_state() -> None:
    witness = Witness()
    await witness.see_all()
    for name, shape in SHAPES.items():
        assert [text for text in witness.shown[name] if re.fullmatch(shape, text)], witness.shown[name]
    states = [text.rpartition(", ")[2] for text in witness.shown["Readable"] if text.startswith("<Readable")]
    assert set(states) >= {"open>", "closed>"}
    assert witness.shown["Server"][-1].endswith("closed>")


def is_made_in_one_step(kind: type) -> bool:
    return dataclasses.is_dataclass(kind) or issubclass(kind, tuple | str | int | BaseException)


HALF_MADE: dict[str, Callable[[], Any]] = {
    name: (lambda kind=value: kind.__new__(kind))  # type: ignore[misc]
    for name, value in PUBLIC.items()
    if inspect.isclass(value) and not is_made_in_one_step(value)
}


@pytest.mark.parametrize("make", HALF_MADE.values(), ids=HALF_MADE)
def test_an_object_whose_making_failed_can_be_shown(make: Callable[[], Any]) -> None:
    """A debugger shows it, and so does whoever logs the locals of a traceback."""
    half_made = make()
    assert repr(half_made) == f"<{type(half_made).__name__}>"
