"""`connect(max_redirects=...)`: real servers that send a client elsewhere."""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from kit.endpoints import check_echo, echo
from kit.leaks import no_new_tcp_sockets
from kit.tls import server_context

from wsstream import (
    HandshakeRejected,
    InvalidURL,
    ProxyError,
    Request,
    Response,
    Server,
    connect,
    serve,
)
from wsstream.testing import FrameReader, memory_pair
from wsstream.transports.tls import default_client_context

pytestmark = pytest.mark.anyio


class Site:
    """A server that sends requests for the paths in `locations` elsewhere, and echoes on all others."""

    def __init__(self, server: Server) -> None:
        self.url, self.port = server.url, server.port
        self.locations: dict[str, str | Response] = {}
        self.requests: list[Request] = []

    def answer(self, request: Request) -> Response | None:
        self.requests.append(request)
        location = self.locations.get(request.target)
        return Response(302, {"Location": location}) if isinstance(location, str) else location


@asynccontextmanager
async def site(tls: ssl.SSLContext | None = None) -> AsyncIterator[Site]:
    sites: list[Site] = []

    def process_request(request: Request) -> Response | None:
        return sites[0].answer(request)

    async with serve(echo, "127.0.0.1", ssl=tls, process_request=process_request, origins=None) as server:
        sites.append(Site(server))
        yield sites[0]


async def _rejected(url: str, **options: Any) -> HandshakeRejected:
    with pytest.raises(HandshakeRejected) as caught:
        async with connect(url, **options):
            pytest.fail("entered")
    return caught.value


# -- arguments -------------------------------------------------------------------------------


def test_the_number_of_redirects_is_checked_by_the_call_itself() -> None:
    with pytest.raises(ValueError, match="max_redirects"):
        connect("ws://127.0.0.1/", max_redirects=-1)
    for wrong in (None, True, "1", 1.0):
        with pytest.raises(TypeError, match="max_redirects"):
            connect("ws://127.0.0.1/", max_redirects=wrong)  # type: ignore[arg-type]


def test_over_a_given_transport_there_are_no_redirects() -> None:
    with pytest.raises(ValueError, match="transport"):
        connect("ws://127.0.0.1/", max_redirects=1, transport=memory_pair()[0])
    connect("ws://127.0.0.1/", max_redirects=0, transport=memory_pair()[0])


# -- what is followed ------------------------------------------------------------------------


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
async def test_a_redirect_is_followed_with_a_get_and_a_new_key(status: int) -> None:
    with no_new_tcp_sockets():
        async with site() as here:
            here.locations["/old?q=1"] = Response(status, {"Location": "/new?q=2"}, "moved")
            url = f"{here.url}/old?q=1"
            async with connect(url, max_redirects=1, origin="https://page.example") as ws:
                await check_echo(ws)
                assert ws.url == f"{here.url}/new?q=2"
                assert (ws.request.target, ws.response.status) == ("/new?q=2", 101)
            first, second = here.requests
            assert (first.method, second.method) == ("GET", "GET")
            assert first.headers["sec-websocket-key"] != second.headers["sec-websocket-key"]
            assert ws.request.headers["sec-websocket-key"] == second.headers["sec-websocket-key"]
            assert second.origin == "https://page.example"


async def test_by_default_no_redirect_is_followed() -> None:
    async with site() as here:
        here.locations["/"] = Response(302, {"Location": "/new"}, b"x" * 5000)
        rejection = await _rejected(here.url)
        assert (rejection.status, rejection.body) == (302, b"x" * 1024)
        assert ("location", "/new") in rejection.headers
        assert len(here.requests) == 1


async def test_redirects_are_followed_one_after_the_other_up_to_their_number() -> None:
    async with site() as here:
        here.locations |= {"/": "a", "/a": "b", "/b": "../c/d", "/c/d": "?e", "/c/d?e": "/f"}
        async with connect(here.url, max_redirects=5) as ws:
            await check_echo(ws)
            assert ws.url == f"{here.url}/f"
        assert [request.target for request in here.requests] == ["/", "/a", "/b", "/c/d", "/c/d?e", "/f"]
        here.requests.clear()
        rejection = await _rejected(here.url, max_redirects=4)
        assert ("location", "/f") in rejection.headers
        assert len(here.requests) == 5


@pytest.mark.parametrize("location", ["/", "", "{url}/#again", "//127.0.0.1:{port}"])
async def test_a_loop_ends_with_the_number_of_redirects(location: str) -> None:
    with no_new_tcp_sockets():
        async with site() as here:
            here.locations["/"] = location.format(url=here.url, port=here.port)
            rejection = await _rejected(here.url, max_redirects=7)
            assert rejection.status == 302
            assert str(rejection).endswith("; this redirect was not followed, as max_redirects is 7")
            assert len(here.requests) == 8


async def test_only_a_redirect_has_the_hint_that_none_are_followed() -> None:
    async with site() as here:
        here.locations |= {"/": "/a", "/a": Response(403)}
        assert "max_redirects is 0" in str(await _rejected(here.url))
        assert "max_redirects" not in str(await _rejected(here.url, max_redirects=1))


@pytest.mark.parametrize(
    "answer",
    [
        Response(302),
        Response(302, [("Location", "/a"), ("Location", "/b")]),
        Response(304, {"Location": "/a"}),
        Response(300, {"Location": "/a"}),
        Response(200, {"Location": "/a"}),
        Response(401, {"Location": "/a"}),
    ],
    ids=lambda response: f"{response.status}-{len(response.headers.get_all('location'))}",
)
async def test_any_other_answer_is_a_rejection(answer: Response) -> None:
    async with site() as here:
        here.locations["/"] = answer
        assert (await _rejected(here.url, max_redirects=3)).status == answer.status
        assert len(here.requests) == 1


@pytest.mark.parametrize("location", ["ftp://h/", "https://", "wss://[::1/", "mailto:a@b", "//h:0/", "/%"])
async def test_a_location_that_is_not_followed_is_a_rejection_that_says_why(location: str) -> None:
    async with site() as here:
        here.locations["/"] = location
        rejection = await _rejected(here.url, max_redirects=3)
        assert (rejection.status, isinstance(rejection.__cause__, InvalidURL)) == (302, True)


async def test_a_rejection_after_a_redirect_is_that_of_the_last_server() -> None:
    async with site() as here:
        here.locations |= {"/": "/a", "/a": Response(403, body="not you")}
        rejection = await _rejected(here.url, max_redirects=3)
        assert (rejection.status, rejection.body) == (403, b"not you")


# -- between ws and wss ----------------------------------------------------------------------


@pytest.mark.parametrize("scheme", ["ws", "http"])
async def test_from_wss_to_ws_no_redirect_is_followed(
    scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with site(server_tls) as here, site() as plain:
        here.locations |= {"/": "/a", "/a": f"{scheme}://127.0.0.1:{plain.port}/"}
        rejection = await _rejected(here.url, ssl=client_tls, max_redirects=9)
        assert rejection.status == 302
        assert "from wss to ws" in str(rejection.__cause__)
        assert plain.requests == []


@pytest.fixture
def trusted_by_the_system(
    authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    default_client_context.cache_clear()
    yield
    default_client_context.cache_clear()


@pytest.mark.usefixtures("trusted_by_the_system")
async def test_from_ws_to_wss_a_redirect_is_followed(server_tls: ssl.SSLContext) -> None:
    async with site() as here, site(server_tls) as secure:
        here.locations["/"] = f"https://127.0.0.1:{secure.port}/x"
        async with connect(here.url, max_redirects=1, headers={"Cookie": "a=b"}) as ws:
            await check_echo(ws)
            assert ws.url == f"{secure.url}/x"
        assert "cookie" not in secure.requests[0].headers  # another scheme, another origin


async def test_the_server_hostname_is_only_for_the_first_host(
    authority: trustme.CA, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    inner = server_context(authority, "inner.example")
    async with site(inner) as here, site(inner) as neighbour, site(server_tls) as other:
        options: dict[str, Any] = {
            "ssl": client_tls,
            "server_hostname": "inner.example",
            "max_redirects": 1,
        }
        here.locations["/path"] = "/"
        here.locations["/port"] = f"wss://127.0.0.1:{neighbour.port}/"
        here.locations["/host"] = f"wss://localhost:{other.port}/"
        here.locations["/false"] = f"wss://localhost:{neighbour.port}/"
        for path in ("/path", "/port", "/host"):
            async with connect(here.url + path, **options) as ws:
                await check_echo(ws)
        with pytest.raises(ssl.SSLCertVerificationError):
            async with connect(here.url + "/false", **options):
                pytest.fail("entered")


# -- across origins --------------------------------------------------------------------------

CREDENTIALS = [
    ("Authorization", "Bearer token"),
    ("Cookie", "session=secret"),
    ("Proxy-Authorization", "Basic x"),
    ("Host", "virtual.example"),
    ("X-A", "1"),
]


@pytest.mark.parametrize(
    ("where", "kept"),
    [
        (lambda here, _: "/x", True),
        (lambda here, _: f"ws://127.0.0.1:{here.port}/x", True),
        (lambda here, _: f"http://other:credentials@127.0.0.1:{here.port}/x", True),
        (lambda _, there: f"ws://127.0.0.1:{there.port}/x", False),
        (lambda here, _: f"ws://localhost:{here.port}/x", False),
        (lambda _, there: f"//user:secret@127.0.0.1:{there.port}/x", False),
    ],
    ids=["path", "origin", "origin-with-userinfo", "port", "host", "port-with-userinfo"],
)
async def test_credentials_stay_with_their_origin(where: Callable[[Site, Site], str], kept: bool) -> None:
    async with site() as here, site() as there:
        here.locations["/"] = where(here, there)
        origin = "https://page.example"
        options: dict[str, Any] = {"max_redirects": 1, "origin": origin}
        async with connect(here.url, headers=CREDENTIALS, **options) as ws:
            await check_echo(ws)
        headers = (*here.requests, *there.requests)[-1].headers
        assert (headers["x-a"], headers["origin"]) == ("1", origin)
        for name, value in CREDENTIALS[:3]:
            assert headers.get(name) == (value if kept else None)
        port = (there.requests and there.port) or here.port
        host = "localhost" if "localhost" in ws.url else "127.0.0.1"
        assert headers["host"] == ("virtual.example" if kept else f"{host}:{port}")
        assert here.requests[0].headers["cookie"] == "session=secret"


async def test_the_user_of_the_url_stays_with_its_origin_and_does_not_come_back() -> None:
    async with site() as here, site() as there:
        here.locations |= {"/": "/a", "/a": f"{there.url}/b"}
        there.locations["/b"] = f"{here.url}/c"
        url = here.url.replace("ws://", "ws://user:secret@")
        async with connect(url, max_redirects=3, headers={"Cookie": "a=b"}) as ws:
            await check_echo(ws)
            assert ws.url == f"{here.url}/c"
        sent = ["authorization" in request.headers for request in (*here.requests, *there.requests)]
        assert sent == [True, True, False, False]
        assert ["cookie" in request.headers for request in here.requests] == [True, True, False]


# -- with proxies, in time -------------------------------------------------------------------


async def test_with_the_environment_each_address_decides_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    async with site() as here, site() as there:
        for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
            monkeypatch.delenv(name, raising=False)
            monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.setenv("ALL_PROXY", f"http://127.0.0.1:{there.port}")  # is no proxy and says so
        monkeypatch.setenv("NO_PROXY", "127.0.0.1")
        here.locations["/"] = f"ws://localhost:{there.port}/"
        with pytest.raises(ProxyError) as caught:
            async with connect(here.url, proxy="env", max_redirects=1):
                pytest.fail("entered")
        assert caught.value.status == 405
        monkeypatch.setenv("NO_PROXY", "127.0.0.1,localhost")
        async with connect(here.url, proxy="env", max_redirects=1) as ws:
            await check_echo(ws)


async def test_a_redirect_of_a_proxy_is_not_followed() -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await FrameReader(stream).read_head()
            await stream.send(b"HTTP/1.1 302 x\r\nLocation: /x\r\nContent-Length: 0\r\n\r\n")

    listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
    async with listener, anyio.create_task_group() as tasks:
        tasks.start_soon(listener.serve, peer)
        proxy = f"http://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
        with pytest.raises(ProxyError) as caught:
            async with connect("ws://server.example/", proxy=proxy, max_redirects=5):
                pytest.fail("entered")
        assert caught.value.status == 302
        tasks.cancel_scope.cancel()


@pytest.mark.virtual_time(idle=0.01)
async def test_the_open_timeout_is_for_all_redirects_together() -> None:
    async def process_request(request: Request) -> Response:
        await anyio.sleep(4)
        return Response(302, {"Location": "/again"})

    with no_new_tcp_sockets():
        async with serve(echo, "127.0.0.1", process_request=process_request) as server:
            start = anyio.current_time()
            with pytest.raises(TimeoutError):
                async with connect(server.url, max_redirects=100, open_timeout=10):
                    pytest.fail("entered")
            assert 10 <= anyio.current_time() - start < 11


@pytest.mark.virtual_time(idle=0.01)
async def test_cancellation_after_a_redirect_leaves_nothing_behind() -> None:
    async def process_request(request: Request) -> Response:
        if request.path == "/slow":
            await anyio.sleep_forever()
        return Response(302, {"Location": "/slow"})

    with no_new_tcp_sockets():
        async with serve(
            echo, "127.0.0.1", process_request=process_request, open_timeout=None, shutdown_timeout=0
        ) as server:
            with anyio.move_on_after(5) as scope:
                async with connect(server.url, max_redirects=1):
                    pytest.fail("entered")
            assert scope.cancelled_caught
