"""`Router`: which handler or answer a request gets, and with which options."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

import wsstream
from wsstream import Accept, HandshakeRejected, Request, Response, Router, WebSocketStream
from wsstream.testing import memory_pair, serving

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

UPGRADE = ["Upgrade: websocket", "Connection: Upgrade"]


async def say_where(ws: WebSocketStream) -> None:
    """Send the parameters of the path."""
    await ws.send(repr(dict(ws.path_params)))


async def where(router: Router, path: str, **options: Any) -> str:
    """What `say_where` sends at `path`."""
    async with serving(router) as server, server.connect(path, **options) as ws:
        message = await ws.receive()
        assert isinstance(message, str)
        return message


async def request(router: Router, path: str, *lines: str, method: str = "GET", **options: Any) -> Any:
    """Status, header fields and body of the answer to a plain request."""
    ours, servers = memory_pair()
    head = "\r\n".join([f"{method} {path} HTTP/1.1", "Host: a", *lines, "", ""])
    async with ours:
        await ours.send(head.encode())
        with pytest.raises(wsstream.HandshakeError):
            async with wsstream.accept(servers, process_request=router.process_request, **options):
                pass
        data = b"".join([chunk async for chunk in ours])
    head, _, body = data.decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return int(status.split()[1]), dict(field.split(": ", 1) for field in fields), body


@pytest.fixture
def router() -> Router:
    router = Router()
    router.route("/")(say_where)
    router.route("/chat/{room}")(say_where)
    router.route("/rooms/{number:int}")(say_where)
    router.get("/healthz", lambda request: Response(200, body="ok"))
    router.get("/chat/{room}", lambda request: Response(200, body=f"page of {request.path_params['room']}"))
    return router


@pytest.mark.parametrize(
    ("path", "parameters"),
    [
        ("/", {}),
        ("/?x=1", {}),
        ("/chat/blue", {"room": "blue"}),
        ("/chat/a%2Fb", {"room": "a/b"}),
        ("/rooms/7", {"number": 7}),
    ],
)
async def test_the_path_chooses_the_handler(router: Router, path: str, parameters: dict[str, Any]) -> None:
    assert await where(router, path) == repr(parameters)


@pytest.mark.parametrize("path", ["/nothing", "/chat", "/chat/a/b", "/rooms/x", "/healthz/"])
async def test_no_route_is_404(router: Router, path: str) -> None:
    with pytest.raises(HandshakeRejected) as caught:
        await where(router, path)
    assert (caught.value.status, caught.value.body) == (404, b"There is nothing at this path.\n")


@pytest.mark.parametrize(
    ("path", "lines", "method", "status", "body"),
    [
        ("/healthz", [], "GET", 200, "ok"),
        ("/healthz", [], "HEAD", 200, ""),
        ("/healthz", UPGRADE, "GET", 200, "ok"),
        ("/healthz", [], "DELETE", 405, "This path takes GET and HEAD requests only.\n"),
        ("/chat/red", [], "GET", 200, "page of red"),
        ("/rooms/7", [], "GET", 426, None),
        ("/rooms/7", [], "DELETE", 405, None),
        ("/none", [], "GET", 404, "There is nothing at this path.\n"),
        ("/none", [], "HEAD", 404, ""),
        ("/%ff", [], "GET", 400, "The path of the request is not UTF-8.\n"),
    ],
)
async def test_other_requests_are_answered(
    router: Router, path: str, lines: list[str], method: str, status: int, body: str | None
) -> None:
    answered, fields, text = await request(router, path, *lines, method=method)
    assert answered == status
    assert text == body if body is not None else text
    assert status != 405 or "GET" in fields["Allow"]
    assert status != 426 or fields["Upgrade"] == "websocket"


async def test_an_async_function_may_answer(router: Router) -> None:
    async def slow(request: Request) -> Response:
        await anyio.sleep(1)
        return Response(200, body=request.query_params["q"])

    router.get("/search", slow)
    assert (await request(router, "/search?q=a%20b&q=c+d"))[2] == "c d"


async def test_the_first_of_two_routes_counts(router: Router) -> None:
    async def never(ws: WebSocketStream) -> None:
        await ws.send("never")

    router.route("/chat/{other}")(never)
    assert await where(router, "/chat/a") == "{'room': 'a'}"


async def test_a_route_has_options_of_its_own() -> None:
    router = Router()
    router.route("/v2", subprotocols=["v2"], origins=["https://a.example"], max_message_size=10)(echo)
    router.route("/v1")(echo)
    options = {"subprotocols": ["v1"], "max_message_size": 100}
    async with serving(router, **options) as server:
        async with server.connect("/v1", subprotocols=["v2", "v1"]) as ws:
            assert ws.subprotocol == "v1"
            await ws.send("x" * 100)
            assert await ws.receive() == "x" * 100
        offered: Any = {"subprotocols": ["v2", "v1"], "origin": "https://a.example"}
        async with server.connect("/v2", **offered) as ws:
            assert ws.subprotocol == "v2"
            await ws.send("x" * 11)
            with pytest.raises(wsstream.ConnectionClosed) as caught:
                await ws.receive()
            assert caught.value.info.code == 1009
        with pytest.raises(HandshakeRejected, match="403"):
            async with server.connect("/v2", origin="https://b.example"):
                pass


async def test_a_handler_says_what_it_speaks() -> None:
    class Chat:
        subprotocols = ("chat.v1",)

        async def __call__(self, ws: WebSocketStream) -> None:
            await ws.send(ws.subprotocol)

    router = Router()
    router.route("/chat")(Chat())
    router.route("/other", subprotocols=["x"])(Chat())
    for handler in (router, Chat()):
        async with serving(handler) as server, server.connect("/chat", subprotocols=["chat.v1"]) as ws:
            assert await ws.receive() == "chat.v1"
    async with serving(router) as server, server.connect("/other", subprotocols=["x", "chat.v1"]) as ws:
        assert await ws.receive() == "x"


async def echo(ws: WebSocketStream) -> None:
    async for message in ws:
        await ws.send(message)


async def test_a_mounted_handler_finds_the_rest() -> None:
    router = Router()
    router.mount("/files/", say_where)
    assert await where(router, "/files") == "{'path': ''}"
    assert await where(router, "/files/") == "{'path': ''}"
    assert await where(router, "/files/a/b%20c") == "{'path': 'a/b c'}"
    with pytest.raises(HandshakeRejected, match="404"):
        await where(router, "/filesystem")


async def test_a_mounted_router_matches_the_rest() -> None:
    inner, outer = Router(), Router()
    inner.route("/")(say_where)
    inner.route("/{item}", subprotocols=["inner"])(say_where)
    inner.get("/about", lambda request: Response(200, body=str(dict(request.path_params))))
    outer.mount("/shop/{name}", inner, subprotocols=["outer"])
    for path in ("/shop/a", "/shop/a/"):
        async with serving(outer) as server, server.connect(path, subprotocols=["inner", "outer"]) as ws:
            assert (await ws.receive(), ws.subprotocol) == ("{'name': 'a'}", "outer")
    async with serving(outer) as server, server.connect("/shop/a/b", subprotocols=["inner", "outer"]) as ws:
        assert (await ws.receive(), ws.subprotocol) == ("{'name': 'a', 'item': 'b'}", "inner")
    assert (await request(outer, "/shop/a/about"))[2] == "{'name': 'a'}"
    with pytest.raises(HandshakeRejected, match="404"):
        await where(outer, "/shop/a/b/c")


async def test_process_request_comes_first_and_sees_the_parameters(router: Router) -> None:
    seen = []

    async def check(request: Request) -> Response | Accept:
        seen.append((request.path, dict(request.path_params)))
        return Response(401) if "denied" in request.path else Accept(headers={"X-Seen": "1"})

    async with serving(router, process_request=check) as server:
        async with server.connect("/chat/blue") as ws:
            assert ws.response.headers["x-seen"] == "1"
        for path, status in (("/chat/denied", "401"), ("/denied", "401"), ("/none", "404")):
            with pytest.raises(HandshakeRejected, match=status):
                async with server.connect(path):
                    pass
    assert seen[:2] == [("/chat/blue", {"room": "blue"}), ("/chat/denied", {"room": "denied"})]
    assert seen[2:] == [("/denied", {}), ("/none", {})]


async def test_with_accept(router: Router) -> None:
    ours, servers = memory_pair()

    async def serve_one() -> None:
        async with wsstream.accept(servers, process_request=router.process_request) as ws:
            await router(ws)

    async with anyio.create_task_group() as group:
        group.start_soon(serve_one)
        async with wsstream.connect("ws://a/chat/x", transport=ours) as ws:
            assert await ws.receive() == "{'room': 'x'}"


async def test_a_connection_without_the_routers_process_request(router: Router) -> None:
    ours, servers = memory_pair()

    async def serve_one() -> None:
        async with wsstream.accept(servers) as ws:
            with pytest.raises(RuntimeError, match="without the router's process_request"):
                await router(ws)

    async with anyio.create_task_group() as group:
        group.start_soon(serve_one)
        async with wsstream.connect("ws://a/chat/x", transport=ours) as ws:
            await ws.wait_closed()


def test_wrong_arguments() -> None:
    router = Router()
    with pytest.raises(TypeError, match="a route has no option 'compression'"):
        router.route("/", compression=None)  # type: ignore[call-arg]  # what a caller may try
    with pytest.raises(TypeError, match="subprotocols must be a sequence of str, got a str"):
        router.route("/", subprotocols="chat")
    with pytest.raises(ValueError, match="max_message_size must not be negative"):
        router.route("/", max_message_size=-1)
    with pytest.raises(TypeError, match="handler must be an async function, got int"):
        router.route("/")(5)  # type: ignore[type-var]  # what a caller may try
    with pytest.raises(TypeError, match="respond must be a function, got str"):
        router.get("/", "ok")  # type: ignore[arg-type]  # what a caller may try
    with pytest.raises(TypeError, match="process_request must be a function or None, got int"):
        wsstream.serve(router, process_request=5)  # type: ignore[arg-type]  # what a caller may try


def test_routers_do_not_contain_each_other() -> None:
    one, two = Router(), Router()
    one.mount("/two", two)
    for router, mounted in ((one, one), (two, one)):
        with pytest.raises(ValueError, match="must not be mounted in itself"):
            router.mount("/x", mounted)
