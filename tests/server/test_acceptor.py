"""The opening handshake on the server's side: `process_request`, origins, subprotocols, and `accept`."""

from __future__ import annotations

import logging
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream

from wsstream import (
    CloseInfo,
    HandshakeError,
    HandshakeRejected,
    Request,
    Response,
    WebSocketError,
    WebSocketStream,
    accept,
    connect,
    serve,
)
from wsstream.testing import RawPeer, memory_pair

pytestmark = pytest.mark.anyio


async def _echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def _check_echo(ws: WebSocketStream) -> None:
    await ws.send("there and back")
    assert await ws.receive() == "there and back"


async def _until(condition: Callable[[], object]) -> None:
    while not condition():
        await anyio.sleep(0.1)


# -- process_request -------------------------------------------------------------------------


@pytest.fixture(params=["sync", "async"])
def as_hook(request: pytest.FixtureRequest) -> Callable[[Callable[[Request], Any]], Any]:
    """Make a `process_request` of a function, in both ways that are allowed."""

    def as_hook(function: Callable[[Request], Any]) -> Any:
        async def hook(request: Request) -> Any:
            await anyio.sleep(1)
            return function(request)

        return function if request.param == "sync" else hook

    return as_hook


async def test_process_request_answers_a_health_check(as_hook: Callable[..., Any], http: Any) -> None:
    def hook(request: Request) -> Response | None:
        return Response(200, {"X-Check": "1"}, "OK\n") if request.path == "/healthz" else None

    async with serve(_echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, head, body = await http.get(server, path="/healthz?verbose")
        assert (status, body) == (200, b"OK\n")
        for field in (b"X-Check: 1", b"Content-Length: 3", b"Connection: close"):
            assert field.lower() in head.lower()
        status, head, body = await http.get(server, path="/healthz", method="HEAD")
        assert (status, body) == (200, b"")
        assert b"content-length: 3" in head.lower()
        async with connect(server.url) as ws:
            await _check_echo(ws)


@pytest.mark.parametrize(
    ("status", "field"),
    [(401, ("WWW-Authenticate", "Basic")), (403, ("X-Why", "no")), (302, ("Location", "https://a.example/"))],
)
async def test_process_request_refuses_a_handshake(
    as_hook: Callable[..., Any], status: int, field: tuple[str, str]
) -> None:
    called: list[WebSocketStream] = []

    async def handler(ws: WebSocketStream) -> None:
        called.append(ws)

    hook = as_hook(lambda request: Response(status, [field], "no"))
    async with serve(handler, "127.0.0.1", process_request=hook) as server:
        with pytest.raises(HandshakeRejected) as caught:
            async with connect(server.url):
                pytest.fail("entered")
        assert (caught.value.status, caught.value.body) == (status, b"no")
        assert (field[0].lower(), field[1]) in caught.value.headers
    assert called == []


async def test_process_request_sees_the_request_and_hands_state_to_the_handler(
    as_hook: Callable[..., Any],
) -> None:
    seen: list[Request] = []

    def hook(request: Request) -> None:
        request.state.user = "ada"
        seen.append(request)

    async def handler(ws: WebSocketStream) -> None:
        assert ws.request is seen[0]
        await ws.send(ws.request.state.user)
        await ws.send(ws.url)

    async with serve(handler, "127.0.0.1", process_request=as_hook(hook)) as server:
        headers = {"Cookie": "a=1; b=2", "X-Extra": "yes"}
        async with connect(f"{server.url}/chat?q=1", headers=headers, subprotocols=[]) as ws:
            assert await ws.receive() == "ada"
            assert await ws.receive() == f"{server.url}/chat?q=1"
    request = seen[0]
    assert (request.method, request.path, request.query) == ("GET", "/chat", "q=1")
    assert (request.headers["x-extra"], request.cookies) == ("yes", {"a": "1", "b": "2"})
    assert isinstance(request.peer, tuple)
    assert request.peer[0] == "127.0.0.1"


@pytest.mark.parametrize("wrong", ["raises", 404, "text", b"bytes", (200, {}, b""), False])
async def test_a_process_request_that_fails_is_answered_with_500_and_logged(
    as_hook: Callable[..., Any], wrong: Any, caplog: pytest.LogCaptureFixture, http: Any
) -> None:
    def hook(request: Request) -> Any:
        if wrong == "raises":
            raise ZeroDivisionError("secret")
        return wrong

    async with serve(_echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, _, body = await http.get(server, path="/x")
        assert status == 500
        assert b"secret" not in body
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert (record.name, record.levelname) == ("wsstream.server", "ERROR")
        assert "/x" in record.getMessage()
        assert record.exc_info is not None
        assert record.exc_info[0] is (ZeroDivisionError if wrong == "raises" else TypeError)


async def test_a_process_request_that_hangs_is_cancelled_after_the_open_timeout() -> None:
    cancelled: list[float] = []

    async def hook(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(anyio.current_time() - start)

    async with serve(_echo, "127.0.0.1", process_request=hook, open_timeout=3) as server:
        start = anyio.current_time()
        with pytest.raises(HandshakeError):
            async with connect(server.url):
                pytest.fail("entered")
        assert 3 <= cancelled[0] < 4


# -- origins and subprotocols ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "admitted"),
    [
        (None, None, True),
        (None, "https://any.example", True),
        (["https://a.example"], "https://a.example", True),
        (["https://a.example"], "https://A.example", True),
        (["https://a.example"], "https://b.example", False),
        (["https://a.example"], "http://a.example", False),
        (["https://a.example"], "https://a.example:8443", False),
        (["https://a.example"], None, False),
        (["https://a.example", None], None, True),
        ([], "https://a.example", False),
    ],
)
async def test_origins_decide_who_is_let_in(
    origins: list[str | None] | None, origin: str | None, admitted: bool
) -> None:
    async with serve(_echo, "127.0.0.1", origins=origins) as server:
        if admitted:
            async with connect(server.url, origin=origin) as ws:
                await _check_echo(ws)
                assert ws.request.origin == origin
        else:
            with pytest.raises(HandshakeRejected) as caught:
                async with connect(server.url, origin=origin):
                    pytest.fail("entered")
            assert caught.value.status == 403


def test_origins_that_are_one_str_are_refused() -> None:
    with pytest.raises(TypeError):
        serve(_echo, origins="https://a.example")
    with pytest.raises(TypeError):
        accept(memory_pair()[0], origins="https://a.example")


@pytest.mark.parametrize(
    ("supported", "offered", "chosen"),
    [([], [], ""), (["a"], [], ""), (["b", "a"], ["a", "b"], "b"), (["x", "a"], ["a", "b"], "a")],
)
async def test_the_server_chooses_the_subprotocol_that_it_prefers(
    supported: list[str], offered: list[str], chosen: str
) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send(ws.subprotocol)

    async with (
        serve(handler, "127.0.0.1", subprotocols=supported) as server,
        connect(server.url, subprotocols=offered) as ws,
    ):
        assert (await ws.receive(), ws.subprotocol) == (chosen, chosen)


# -- accept ----------------------------------------------------------------------------------


async def _accepted(stream: ByteStream, **options: Any) -> None:
    async with accept(stream, **options) as ws:
        await _echo(ws)


async def test_accept_serves_over_a_memory_pair() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_accepted, theirs)
        async with connect("ws://a/", transport=ours) as ws:
            await _check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)
    for stream in (ours, theirs):
        with pytest.raises(anyio.ClosedResourceError):
            await stream.send(b"x")


async def test_accept_serves_over_a_tls_stream(tls: SimpleNamespace) -> None:
    ours, theirs = memory_pair()

    async def server() -> None:
        stream = await TLSStream.wrap(
            theirs, server_side=True, ssl_context=tls.server, standard_compatible=False
        )
        async with accept(stream) as ws:
            assert ws.url == "wss://localhost/chat"
            await _echo(ws)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server)
        async with connect("wss://localhost/chat", ssl=tls.client, transport=ours) as ws:
            await _check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)


async def test_accept_raises_what_it_refused_after_it_has_answered(http: Any) -> None:
    ours, theirs = memory_pair()

    async def client() -> None:
        async with ours:
            await ours.send(http.request("Upgrade: websocket", "Connection: Upgrade"))
            assert (await http.answer(ours))[0] == 426

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client)
        with pytest.raises(HandshakeError):
            async with accept(theirs):
                pytest.fail("entered")
    with pytest.raises(anyio.ClosedResourceError):
        await theirs.send(b"x")


@pytest.mark.parametrize("hold", ["silent", "gone", "reset"])
async def test_accept_gives_up_a_client_that_does_not_ask(hold: str) -> None:
    ours, theirs = memory_pair()
    if hold == "gone":
        await ours.aclose()
    elif hold == "reset":
        ours.reset()
    start = anyio.current_time()
    with pytest.raises(TimeoutError if hold == "silent" else HandshakeError):
        async with accept(theirs, open_timeout=4):
            pytest.fail("entered")
    assert anyio.current_time() - start == pytest.approx(4 if hold == "silent" else 0, abs=0.2)
    with pytest.raises(anyio.ClosedResourceError):
        await theirs.send(b"x")


async def test_accept_leaves_like_connect() -> None:
    ours, theirs = memory_pair()
    error = WebSocketError(code=3333)
    infos: list[CloseInfo | None] = []

    async def client() -> None:
        async with connect("ws://a/", transport=ours) as ws:
            assert [message async for message in ws] == []
            infos.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(client)
        with pytest.raises(WebSocketError) as caught:
            async with accept(theirs):
                raise error
    assert caught.value is error
    assert infos == [CloseInfo(3333, "", True)]


async def test_accept_takes_frames_that_came_with_the_request(http: Any) -> None:
    ours, theirs = memory_pair()
    peer = RawPeer(ours, "client")
    await ours.send(http.opening)
    await peer.text("early")
    async with accept(theirs, close_timeout=0) as ws:
        assert await ws.receive() == "early"
