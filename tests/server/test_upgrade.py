"""The opening handshake on the server's side: `process_request`, origins, subprotocols, and `accept`."""

from __future__ import annotations

import asyncio  # noqa: TID251 - a timeout of its own
import logging
import ssl
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSAttribute, TLSStream
from kit.endpoints import check_echo, echo
from kit.tls import client_context

from wsstream import (
    Accept,
    CloseInfo,
    Deflate,
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

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


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

    async with serve(echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, head, body = await http.get(server, path="/healthz?verbose")
        assert (status, body) == (200, b"OK\n")
        for field in (b"X-Check: 1", b"Content-Length: 3", b"Connection: close"):
            assert field.lower() in head.lower()
        status, head, body = await http.get(server, path="/healthz", method="HEAD")
        assert (status, body) == (200, b"")
        assert b"content-length: 3" in head.lower()
        async with connect(server.url) as ws:
            await check_echo(ws)


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

    async with serve(echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        status, _, body = await http.get(server, path="/feed?token=s3cr3t")
        assert status == 500
        assert b"secret" not in body
        (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
        assert (record.name, record.levelname) == ("wsstream.server", "ERROR")
        assert record.getMessage().endswith(" GET /feed: process_request failed")
        assert "s3cr3t" not in caplog.text
        assert record.exc_info is not None
        assert record.exc_info[0] is (ZeroDivisionError if wrong == "raises" else TypeError)


async def test_a_process_request_that_hangs_is_cancelled_after_the_open_timeout() -> None:
    cancelled: list[float] = []

    async def hook(request: Request) -> None:
        try:
            await anyio.sleep_forever()
        finally:
            cancelled.append(anyio.current_time() - start)

    async with serve(echo, "127.0.0.1", process_request=hook, open_timeout=3) as server:
        start = anyio.current_time()
        with pytest.raises(HandshakeError):
            async with connect(server.url):
                pytest.fail("entered")
        assert 3 <= cancelled[0] < 4


# -- origins and subprotocols ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("origins", "origin", "admitted"),
    [
        (None, "https://any.example", True),
        (["https://a.example"], "https://A.example", True),
        (["https://a.example"], "https://b.example", False),
        (["https://a.example", None], None, True),
    ],
)
async def test_origins_decide_who_is_admitted(
    origins: list[str | None] | None, origin: str | None, admitted: bool
) -> None:
    async with serve(echo, "127.0.0.1", origins=origins) as server:
        if admitted:
            async with connect(server.url, origin=origin) as ws:
                await check_echo(ws)
                assert ws.request.origin == origin
        else:
            with pytest.raises(HandshakeRejected) as caught:
                async with connect(server.url, origin=origin):
                    pytest.fail("entered")
            assert caught.value.status == 403


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"origins": "https://a.example"}, TypeError),
        ({"origins": ["a.example"]}, ValueError),
        ({"subprotocols": "chat"}, TypeError),
        ({"subprotocols": ["no token"]}, ValueError),
        ({"process_request": True}, TypeError),
    ],
    ids=str,
)
def test_a_wrong_argument_is_rejected_by_both_calls_at_once(
    options: dict[str, Any], error: type[Exception]
) -> None:
    (name,) = options
    with pytest.raises(error, match=name.removesuffix("s")):
        serve(echo, **options)
    with pytest.raises(error, match=name.removesuffix("s")):
        accept(memory_pair()[0], **options)


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


# -- taking part in the answer ---------------------------------------------------------------


async def test_accept_adds_header_fields_to_the_answer(as_hook: Callable[..., Any]) -> None:
    fields = [("Set-Cookie", "a=1"), ("X-Extra", "yes"), ("Set-Cookie", "b=2")]

    async def handler(ws: WebSocketStream) -> None:
        await ws.send(",".join(ws.response.headers.get_all("set-cookie")))

    hook = as_hook(lambda request: Accept(headers=fields))
    async with (
        serve(handler, "127.0.0.1", process_request=hook) as server,
        connect(server.url, compression=Deflate()) as ws,
    ):
        assert await ws.receive() == "a=1,b=2"
        assert ws.response.headers.get_all("Set-Cookie") == ("a=1", "b=2")
        assert ws.response.headers["x-extra"] == "yes"


@pytest.mark.parametrize(
    ("supported", "offered", "chosen", "agreed"),
    [
        ([], ["token.abc"], "token.abc", "token.abc"),
        (["b", "a"], ["a", "b"], "a", "a"),
        (["b", "a"], ["a", "b"], None, "b"),
        (["a"], [], "", ""),
    ],
)
async def test_accept_chooses_the_subprotocol(
    supported: list[str], offered: list[str], chosen: str | None, agreed: str
) -> None:
    hook = lambda request: Accept(subprotocol=chosen)  # noqa: E731
    async with (
        serve(echo, "127.0.0.1", subprotocols=supported, process_request=hook) as server,
        connect(server.url, subprotocols=offered) as ws,
    ):
        (other,) = server.connections
        assert ws.subprotocol == other.subprotocol == agreed


async def test_accept_with_an_empty_subprotocol_chooses_none() -> None:
    hook = lambda request: Accept(subprotocol="")  # noqa: E731
    async with serve(echo, "127.0.0.1", subprotocols=["a"], process_request=hook) as server:
        with pytest.raises(HandshakeError, match="none of the subprotocols"):
            async with connect(server.url, subprotocols=["a"]):
                pytest.fail("entered")


async def test_choosing_a_subprotocol_that_was_not_offered_is_a_failure_of_the_application(
    http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    hook = lambda request: Accept(subprotocol="other")  # noqa: E731
    async with serve(echo, "127.0.0.1", process_request=hook) as server:
        with pytest.raises(HandshakeRejected) as caught:
            async with connect(server.url, subprotocols=["offered"]):
                pytest.fail("entered")
        assert caught.value.status == 500
        assert (await http.get(server))[0] == 426  # a request that opens nothing is rejected as ever
    (record,) = [r for r in caplog.records if r.levelno >= logging.WARNING]
    assert record.levelname == "ERROR"
    assert record.exc_info is not None
    assert "the subprotocol of Accept must be one of those" in str(record.exc_info[1])


async def test_accept_gives_the_handler_its_state(as_hook: Callable[..., Any]) -> None:
    state = object()
    states: list[Any] = []

    async def handler(ws: WebSocketStream) -> None:
        states.append(ws.request.state)

    hook = as_hook(lambda request: Accept(state=state))
    async with serve(handler, "127.0.0.1", process_request=hook) as server, connect(server.url) as ws:
        assert [message async for message in ws] == []
    assert states == [state]


# -- what the transport knows ----------------------------------------------------------------


async def test_process_request_sees_the_attributes_of_the_transport(as_hook: Callable[..., Any]) -> None:
    seen: list[Any] = []

    def hook(request: Request) -> None:
        seen.append(request.extra(SocketAttribute.remote_address))
        assert request.extra(TLSAttribute.ssl_object, None) is None
        with pytest.raises(LookupError):
            request.extra(TLSAttribute.ssl_object)

    async def handler(ws: WebSocketStream) -> None:
        seen.append(ws.request.extra(SocketAttribute.remote_address))
        seen.append(ws.extra(SocketAttribute.remote_address))

    async with (
        serve(handler, "127.0.0.1", process_request=as_hook(hook)) as server,
        connect(server.url) as ws,
    ):
        seen.append(ws.extra(SocketAttribute.local_address))
        assert [message async for message in ws] == []
        with pytest.raises(LookupError):
            ws.request.extra(SocketAttribute.remote_address)  # a request that this side made
        assert ws.request.extra(SocketAttribute.remote_address, "nothing") == "nothing"
    assert len(seen) == 4
    assert len(set(seen)) == 1


@pytest.mark.heavy_after_first
async def test_a_client_without_the_right_certificate_gets_403(
    as_hook: Callable[..., Any], authority: trustme.CA
) -> None:
    def hook(request: Request) -> Response | Accept:
        certificate = request.extra(TLSAttribute.peer_certificate)
        names = [value for kind, value in (certificate or {}).get("subjectAltName", ()) if kind == "DNS"]
        return Accept(state=names[0]) if names == ["ada.example"] else Response(403)

    async def handler(ws: WebSocketStream) -> None:
        await ws.send(ws.request.state)

    def context_of(name: str | None) -> ssl.SSLContext:
        context = client_context(authority)
        if name is not None:
            authority.issue_cert(name).configure_cert(context)
        return context

    for_server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(for_server)
    authority.configure_trust(for_server)
    for_server.verify_mode = ssl.CERT_OPTIONAL
    async with serve(handler, "127.0.0.1", ssl=for_server, process_request=as_hook(hook)) as server:
        async with connect(server.url, ssl=context_of("ada.example")) as ws:
            assert await ws.receive() == "ada.example"
        for name in ("eve.example", None):
            with pytest.raises(HandshakeRejected) as caught:
                async with connect(server.url, ssl=context_of(name)):
                    pytest.fail("entered")
            assert caught.value.status == 403


# -- what is logged of an answer -------------------------------------------------------------


@pytest.mark.parametrize("body", ["ok\n", "", "<p>secret of this visitor</p>" * 1000])
async def test_a_response_of_the_application_is_logged_by_its_status_and_is_not_a_failure(
    body: str, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1", process_request=lambda request: Response(200, body=body)) as server:
        assert (await http.get(server, path="/healthz?token=s3cr3t"))[0] == 200
    (line,) = caplog.messages
    assert line.startswith("127.0.0.1:")
    assert line.endswith(" GET /healthz: answered with status 200")


async def test_a_rejected_request_is_logged_with_its_fault(
    http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    async with serve(echo, "127.0.0.1") as server:
        assert (await http.get(server, path="/a?token=s3cr3t", method="POST"))[0] == 405
        await http.get(server, path="/" + "x" * 1000)
    first, second = caplog.messages
    assert first.endswith(" POST /a: rejected with status 405: A WebSocket is opened with GET.")
    assert len(second) < 700


@pytest.mark.parametrize("waiting_for", ["TLS", "the client's request", "process_request"])
async def test_an_opening_handshake_that_takes_too_long_is_logged_with_the_step_it_waited_for(
    waiting_for: str, tls: SimpleNamespace, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    async def hook(request: Request) -> None:
        await anyio.sleep_forever()

    options = {"ssl": tls.server if waiting_for == "TLS" else None, "process_request": hook}
    async with (
        serve(echo, "127.0.0.1", open_timeout=3, **options) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        if waiting_for == "process_request":
            await stream.send(http.request(path="/a?token=s3cr3t"))
        await anyio.sleep(4)
    (line,) = caplog.messages
    name = " GET /a" if waiting_for == "process_request" else ""
    assert line.endswith(f"{name}: dropped after open_timeout, 3 s, still waiting for {waiting_for}")
    assert line.startswith("127.0.0.1:")


@pytest.mark.heavy_after_first(each=("hostile",))
async def test_any_exception_of_process_request_is_answered_with_500(
    as_hook: Callable[..., Any], hostile: Any, http: Any, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)

    def hook(request: Request) -> None:
        if request.path == "/bad":
            raise hostile.make()

    async with serve(echo, "127.0.0.1", process_request=as_hook(hook)) as server:
        if hostile.make is GeneratorExit:  # nothing may be awaited after it
            with pytest.raises(HandshakeError):
                async with connect(f"{server.url}/bad"):
                    pytest.fail("entered")
        else:
            assert (await http.get(server, path="/bad"))[0] == 500
        levels = [record.levelname for record in caplog.records if "failed" in record.getMessage()]
        assert levels[0] == ("ERROR" if hostile.failed else "INFO")
        async with connect(server.url) as ws:
            await check_echo(ws)


# -- accept ----------------------------------------------------------------------------------


async def _await(awaitable: Any) -> None:
    await awaitable


async def _accepted(stream: ByteStream, **options: Any) -> None:
    async with accept(stream, **options) as ws:
        await echo(ws)


async def test_accept_serves_over_a_memory_pair() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_accepted, theirs)
        async with connect("ws://a/", transport=ours) as ws:
            await check_echo(ws)
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
            await echo(ws)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(server)
        async with connect("wss://localhost/chat", ssl=tls.client, transport=ours) as ws:
            await check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)


async def test_accept_answers_a_rejected_request_and_raises(http: Any) -> None:
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


async def _sends_nothing(stream: ByteStream, http: Any) -> None: ...


async def _sends_half_a_request(stream: ByteStream, http: Any) -> None:
    await stream.send(http.opening[:50])


async def _requests(stream: ByteStream, http: Any) -> None:
    await stream.send(http.opening)


@pytest.mark.parametrize(
    ("client", "waiting_for"),
    [
        (_sends_nothing, "the client's request"),
        (_sends_half_a_request, "the client's request"),
        (_requests, "process_request"),
    ],
)
async def test_the_timeout_of_accept_says_what_it_was_waiting_for(
    client: Callable[..., Any], waiting_for: str, http: Any
) -> None:
    async def hook(request: Request) -> None:
        await anyio.sleep_forever()

    ours, theirs = memory_pair()
    await client(ours, http)
    with pytest.raises(TimeoutError) as caught:
        async with accept(theirs, open_timeout=4, process_request=hook):
            pytest.fail("entered")
    assert str(caught.value) == (
        f"the opening handshake did not end within open_timeout, 4 s: still waiting for {waiting_for}"
    )


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_cancellation_in_process_request_of_accept_is_not_its_failure(http: Any) -> None:
    """Here, unlike in `serve`, the task is the application's, and so is its cancellation."""

    async def hook(request: Request) -> None:
        await anyio.sleep_forever()

    ours, theirs = memory_pair()
    await ours.send(http.opening)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(1):
            async with accept(theirs, process_request=hook):
                pytest.fail("entered")
    with pytest.raises(anyio.EndOfStream):
        await ours.receive()


async def test_a_coroutine_that_is_closed_while_it_accepts_does_not_wait() -> None:
    ours, theirs = memory_pair()

    class Closed:
        def __await__(self) -> Any:
            coroutine, value = _accepted(theirs), None
            for _ in range(3):
                value = yield coroutine.send(value)
            coroutine.close()  # which raises if it awaits once more

    async with ours, anyio.create_task_group() as tasks:
        tasks.start_soon(_await, Closed())
        for part in (b"GET", b" / ", b"HTTP"):
            await anyio.sleep(0.1)
            await ours.send(part)


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
