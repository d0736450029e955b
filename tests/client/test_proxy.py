"""`connect(proxy=...)`: real connections through proxies that forward, refuse and hang."""

from __future__ import annotations

import base64
import socket
import ssl
import sys
import traceback
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, suppress
from functools import partial
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.lowlevel import checkpoint
from anyio.streams.buffered import BufferedByteReceiveStream
from anyio.streams.tls import TLSAttribute
from kit.endpoints import echo, fail_to_connect
from kit.leaks import no_new_tcp_sockets
from kit.peers import listen
from kit.tls import server_context

from wsstream import (
    CloseInfo,
    ConnectionBroken,
    HandshakeError,
    HandshakeRejected,
    InvalidURL,
    ProxyError,
    Request,
    Response,
    WebSocketStream,
    connect,
    reconnect,
    serve,
)
from wsstream.opening.proxy_url import Proxy
from wsstream.testing import memory_pair
from wsstream.transports.proxy import open_tunnel
from wsstream.transports.tls import default_client_context

pytestmark = pytest.mark.anyio

SCHEMES = ["http", "https", "socks5", "socks5h"]
USER, PASSWORD = "us er", "p@ss:w/rd%?#&"
ENCODED = "us%20er:p%40ss%3Aw%2Frd%25%3F%23%26"


# -- proxies ---------------------------------------------------------------------------------


class ForwardingProxy:
    """Both kinds of proxy in small: asks for credentials if there are any, connects, passes bytes on.

    `asked` are the hosts and ports that clients asked for, with what `fields` (of HTTP); `hosts` is where
    names lead.
    """

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        self.credentials: tuple[str, str] | None = None
        self.authorization: str | None = None
        self.hosts: dict[str, str] = {}
        self.fields: list[list[str]] = []
        self.asked: list[tuple[str, int]] = []
        self.port = 0
        self.connections: list[ByteStream] = []

    def url(self, userinfo: str = "") -> str:
        return f"{self.scheme}://{userinfo and f'{userinfo}@'}localhost:{self.port}"

    async def __call__(self, stream: ByteStream) -> None:
        self.connections.append(stream)
        speak = self._socks if self.scheme.startswith("socks") else self._http
        try:
            async with stream:
                asked = await speak(stream)
                if asked is not None:
                    await self._forward(stream, *asked)
        except (
            anyio.EndOfStream,
            anyio.IncompleteRead,
            anyio.BrokenResourceError,
            anyio.ClosedResourceError,
        ):
            pass  # the client left

    async def _http(self, stream: ByteStream) -> tuple[str, int, bytes] | None:
        head = await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", 65536)
        line, *fields = head.decode().split("\r\n")
        method, target, _ = line.split(" ")
        assert (method, f"Host: {target}") == ("CONNECT", fields[0])
        self.fields.append(fields)
        wanted = self.authorization
        if self.credentials is not None:
            wanted = f"Basic {base64.b64encode(':'.join(self.credentials).encode()).decode()}"
        if wanted is not None and f"Proxy-Authorization: {wanted}" not in fields:
            await stream.send(
                b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 6\r\n\r\nwho?\r\n"
            )
            return None
        host, _, port = target.rpartition(":")
        return host.strip("[]"), int(port), b"HTTP/1.1 200 Connection established\r\nProxy-Agent: x\r\n\r\n"

    async def _socks(self, stream: ByteStream) -> tuple[str, int, bytes] | None:
        reader = BufferedByteReceiveStream(stream)
        _, count = await reader.receive_exactly(2)
        methods = await reader.receive_exactly(count)
        method = 2 if self.credentials is not None else 0
        await stream.send(bytes([5, method if method in methods else 0xFF]))
        if self.credentials is not None:
            given = []
            await reader.receive_exactly(1)
            for _ in range(2):
                (length,) = await reader.receive_exactly(1)
                given.append((await reader.receive_exactly(length)).decode())
            await stream.send(b"\x01\x00" if tuple(given) == self.credentials else b"\x01\x01")
        _, _, _, kind = await reader.receive_exactly(4)
        if kind == 3:
            (length,) = await reader.receive_exactly(1)
            host = (await reader.receive_exactly(length)).decode()
        else:
            host = await _address(reader, kind)
        port = int.from_bytes(await reader.receive_exactly(2), "big")
        return host, port, b"\x05\x00\x00\x01\x7f\x00\x00\x01\x00\x50"

    async def _forward(self, stream: ByteStream, host: str, port: int, granted: bytes) -> None:
        self.asked.append((host, port))
        async with await anyio.connect_tcp(self.hosts.get(host, host), port) as upstream:
            await stream.send(granted)
            async with anyio.create_task_group() as ways:
                ways.start_soon(_pass_on, stream, upstream, ways.cancel_scope)
                ways.start_soon(_pass_on, upstream, stream, ways.cancel_scope)


async def _address(reader: BufferedByteReceiveStream, kind: int) -> str:
    return str(ip_address(await reader.receive_exactly({1: 4, 4: 16}[kind])))


async def _pass_on(source: ByteStream, sink: ByteStream, scope: anyio.CancelScope) -> None:
    gone = (anyio.BrokenResourceError, anyio.ClosedResourceError)
    try:
        async for data in source:
            try:
                await sink.send(data)
            except gone:
                return  # what it said before is passed on all the same
    except gone:
        pass
    scope.cancel()  # a WebSocket does not use half-closed connections


# -- fixtures --------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def proxy_authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def proxy_tls(proxy_authority: trustme.CA) -> ssl.SSLContext:
    return server_context(proxy_authority)


@pytest.fixture
def trusted_proxies(
    proxy_authority: trustme.CA, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """The system trusts the certificates of the proxies, and not those of the servers."""
    proxy_authority.cert_pem.write_to_path(tmp_path / "proxies.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "proxies.pem"))
    default_client_context.cache_clear()
    yield
    default_client_context.cache_clear()


@pytest.fixture(
    params=[
        "http",
        pytest.param("https", marks=pytest.mark.slow),
        pytest.param("socks5", marks=pytest.mark.slow),
        "socks5h",
    ]
)
async def proxy(
    request: pytest.FixtureRequest, proxy_tls: ssl.SSLContext, trusted_proxies: None
) -> AsyncIterator[ForwardingProxy]:
    """A proxy of each kind that forwards. At the end every connection to it was closed."""
    forwarding = ForwardingProxy(request.param)
    with no_new_tcp_sockets():
        async with listen(forwarding, proxy_tls if request.param == "https" else None) as forwarding.port:
            yield forwarding


@pytest.fixture
def clean_environment(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """No variable of this machine names a proxy."""
    for name in ("http_proxy", "https_proxy", "all_proxy", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    return monkeypatch


async def check_echo(ws: WebSocketStream, size: int = 1 << 18) -> None:
    message = bytes(range(256)) * (size // 256)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(ws.send, message)
        assert await ws.receive() == message


# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "proxy",
    ["", "ENV", "proxy.example:80", "ftp://h", "socks4://h", "http://", "http://h:x", "http://h/path"],
)
def test_a_bad_url_of_a_proxy_is_refused_by_the_call_itself(proxy: str) -> None:
    with pytest.raises(InvalidURL):
        connect("ws://127.0.0.1/", proxy=proxy)


def test_a_proxy_that_is_not_a_str_is_rejected_by_the_call_itself() -> None:
    for proxy in (b"http://h", 5, True):
        with pytest.raises(TypeError):
            connect("ws://127.0.0.1/", proxy=proxy)  # type: ignore[arg-type]


def test_a_bad_url_in_the_environment_is_refused_by_the_call_itself(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    clean_environment.setenv("ALL_PROXY", "gopher://user:secret@h")
    with pytest.raises(InvalidURL, match="ALL_PROXY") as caught:
        connect("ws://127.0.0.1/", proxy="env")
    assert "secret" not in str(caught.value)
    clean_environment.setenv("NO_PROXY", "127.0.0.0/8")
    connect("ws://127.0.0.1/", proxy="env")


@pytest.mark.parametrize("proxy", ["http://h", "env"])
def test_a_proxy_and_a_transport_exclude_each_other(proxy: str) -> None:
    with pytest.raises(ValueError, match="transport"):
        connect("ws://127.0.0.1/", proxy=proxy, transport=memory_pair()[0])


def test_socks_without_its_extra_is_refused_by_the_call_itself(clean_environment: pytest.MonkeyPatch) -> None:
    clean_environment.setitem(sys.modules, "python_socks", None)  # type: ignore[arg-type]
    for proxy in ("socks5://h", "socks5h://h"):
        with pytest.raises(ImportError, match=r'pip install "wsstream\[socks\]"'):
            connect("ws://127.0.0.1/", proxy=proxy)
        clean_environment.setenv("ALL_PROXY", proxy)
        with pytest.raises(ImportError, match=r'pip install "wsstream\[socks\]"'):
            connect("ws://127.0.0.1/", proxy="env")
    connect("ws://127.0.0.1/", proxy="http://h")


def test_header_fields_for_a_proxy_that_takes_none_are_refused_by_the_call_itself(
    clean_environment: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match="proxy_headers was given without proxy"):
        connect("ws://127.0.0.1/", proxy_headers={})
    with pytest.raises(ValueError, match="proxy_headers are for HTTP proxies"):
        connect("ws://127.0.0.1/", proxy="socks5h://h", proxy_headers={"User-Agent": "x"})
    with pytest.raises(ValueError, match="proxy_headers must not have host"):
        connect("ws://127.0.0.1/", proxy="http://h", proxy_headers={"Host": "x"})
    for value in ("", "http://h", "socks5h://h"):  # what the environment says is not the caller's choice
        clean_environment.setenv("ALL_PROXY", value)
        connect("wss://127.0.0.1/", proxy="env", proxy_headers={"User-Agent": "x"})


# -- through a proxy -------------------------------------------------------------------------


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("proxy", SCHEMES, indirect=True)
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_messages_pass_through_a_proxy(
    proxy: ForwardingProxy, secure: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with serve(echo, "127.0.0.1", ssl=server_tls if secure else None) as server:
        tls = client_tls if secure else None
        async with connect(server.url, proxy=proxy.url(), ssl=tls) as ws:
            assert ws.url == f"{server.url}/"
            await check_echo(ws)
            host, port = ws.extra(SocketAttribute.remote_address)[:2]
            assert (host, port) == ("127.0.0.1", proxy.port)
            tls_object = ws.extra(TLSAttribute.ssl_object, None)
            assert (tls_object is not None) is (secure or proxy.scheme == "https")
        assert ws.close_info == CloseInfo(1000, "", True)
        assert proxy.asked == [("127.0.0.1", server.port)]


async def test_an_ipv6_address_is_reached_through_a_proxy(
    proxy: ForwardingProxy, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with serve(echo, "::1", ssl=server_tls) as server:
        assert "[::1]" in server.url
        async with connect(server.url, proxy=proxy.url(), ssl=client_tls) as ws:
            await check_echo(ws, 256)
        assert proxy.asked == [("::1", server.port)]


async def test_the_proxy_resolves_the_name_except_with_socks5(
    proxy: ForwardingProxy, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    name, asked = ("localhost", "127.0.0.1") if proxy.scheme == "socks5" else ("feed.example",) * 2
    proxy.hosts["feed.example"] = "127.0.0.1"
    async with serve(echo, "127.0.0.1", ssl=server_tls) as server:
        url = f"wss://{name}:{server.port}/"
        async with connect(url, proxy=proxy.url(), ssl=client_tls) as ws:
            await check_echo(ws, 256)
            assert ws.request.headers["host"] == f"{name}:{server.port}"
        assert proxy.asked == [(asked, server.port)]


async def test_the_credentials_are_decoded_and_sent_only_to_the_proxy(proxy: ForwardingProxy) -> None:
    proxy.credentials = USER, PASSWORD
    seen: list[Request] = []

    async def handler(ws: WebSocketStream) -> None:
        seen.append(ws.request)
        await echo(ws)

    async with serve(handler, "127.0.0.1") as server:
        async with connect(server.url, proxy=proxy.url(ENCODED)) as ws:
            await check_echo(ws, 256)
            told = f"{ws!r}{ws.url}{ws.request!r}{ws.request.headers!r}"
        assert "proxy-authorization" not in seen[0].headers
        assert PASSWORD not in told
        assert ENCODED not in told


@pytest.mark.parametrize("proxy", ["http", "https"], indirect=True)
async def test_further_header_fields_go_to_the_proxy_and_not_to_the_server(
    proxy: ForwardingProxy, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    proxy.authorization = "Bearer of-the-proxy"
    seen: list[Request] = []

    async def handler(ws: WebSocketStream) -> None:
        seen.append(ws.request)
        await echo(ws)

    fields = {"User-Agent": "feeder/1", "Proxy-Authorization": "Bearer of-the-proxy"}
    options: Any = {"ssl": client_tls, "proxy": proxy.url("user:secret"), "proxy_headers": fields}
    async with serve(handler, "127.0.0.1", ssl=server_tls) as server:
        connection = connect(server.url, headers={"X-A": "b"}, **options)
        async with connection as ws:
            await check_echo(ws, 256)
            assert "of-the-proxy" not in f"{connection!r}{ws!r}{ws.request.headers!r}{ws.response!r}"
        async for ws in reconnect(server.url, **options):
            async with ws:
                await check_echo(ws, 256)
            break
    for fields_of_proxy in proxy.fields:
        assert "User-Agent: feeder/1" in fields_of_proxy
        assert not any("X-A" in field or "Basic" in field for field in fields_of_proxy)
    assert len(proxy.fields) == len(seen) == 2
    for request in seen:
        assert "proxy-authorization" not in request.headers
        assert "user-agent" not in request.headers


@pytest.mark.parametrize("proxy", ["http", "https"], indirect=True)
async def test_a_token_that_the_proxy_refuses_is_shown_nowhere(proxy: ForwardingProxy) -> None:
    proxy.authorization = "Bearer another"
    with pytest.raises(ProxyError) as caught:
        await fail_to_connect(
            "ws://server.example/",
            proxy=proxy.url(),
            proxy_headers=[("Proxy-Authorization", "Bearer secret-of-mine")],
        )
    assert caught.value.status == 407
    frames = traceback.TracebackException.from_exception(caught.value)
    assert "secret-of-mine" not in "".join(frames.format_exception_only()) + repr(caught.value)


async def test_wrong_credentials_are_a_proxy_error_that_does_not_show_them(proxy: ForwardingProxy) -> None:
    proxy.credentials = USER, PASSWORD
    async with serve(echo, "127.0.0.1") as server:
        for userinfo in ("", "us%20er:secret-of-mine"):
            with pytest.raises(ProxyError) as caught:
                await fail_to_connect(server.url, proxy=proxy.url(userinfo))
            error = caught.value
            if proxy.scheme.startswith("http"):
                assert (error.status, error.body) == (407, b"who?\r\n")
                assert ("proxy-authenticate", "Basic") in error.headers
            else:
                assert (error.status, error.headers, error.body) == (None, [], b"")
            frames = traceback.TracebackException.from_exception(error)
            assert "secret-of-mine" not in "".join(frames.format_exception_only()) + repr(error)
    assert proxy.asked == []


async def test_a_rejection_by_the_server_differs_from_a_refusal_by_the_proxy(proxy: ForwardingProxy) -> None:
    def process_request(request: Request) -> Response:
        return Response(407, {"X-A": "b"}, "from the server")

    async with serve(echo, "127.0.0.1", process_request=process_request) as server:
        with pytest.raises(HandshakeRejected) as caught:
            await fail_to_connect(server.url, proxy=proxy.url())
        assert (caught.value.status, caught.value.body) == (407, b"from the server")
        assert not isinstance(caught.value, ProxyError)


async def test_the_tls_context_is_only_for_the_server(
    proxy: ForwardingProxy, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """What the system trusts are the proxies, what the context trusts are the servers."""
    async with serve(echo, "127.0.0.1", ssl=server_tls) as server:
        with pytest.raises(ssl.SSLCertVerificationError):
            await fail_to_connect(server.url, proxy=proxy.url())
        assert proxy.asked, "the proxy was not trusted"
        with pytest.raises(ssl.SSLCertVerificationError):
            await fail_to_connect(
                server.url, proxy=proxy.url(), ssl=client_tls, server_hostname="other.example"
            )
        name = "feed.example"
        async with connect(server.url, proxy=proxy.url(), ssl=client_tls, server_hostname=name) as ws:
            await check_echo(ws, 256)


async def test_a_proxy_that_vanishes_later_breaks_the_connection(
    proxy: ForwardingProxy, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    async with (
        serve(echo, "127.0.0.1", ssl=server_tls) as server,
        connect(server.url, proxy=proxy.url(), ssl=client_tls) as ws,
    ):
        await check_echo(ws, 256)
        await anyio.aclose_forcefully(proxy.connections[0])
        with pytest.raises(ConnectionBroken):
            await ws.receive()


async def test_a_server_that_is_cut_off_in_the_tls_handshake_is_an_os_error(
    proxy: ForwardingProxy, client_tls: ssl.SSLContext
) -> None:
    async def hang_up(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()

    async with listen(hang_up) as port:
        with pytest.raises(OSError) as caught:
            await fail_to_connect(f"wss://127.0.0.1:{port}/", proxy=proxy.url(), ssl=client_tls)
        assert not isinstance(caught.value, TimeoutError)


# -- the environment -------------------------------------------------------------------------


async def test_the_environment_names_the_proxy_or_says_that_none_is_needed(
    proxy: ForwardingProxy, clean_environment: pytest.MonkeyPatch
) -> None:
    async with serve(echo, "127.0.0.1") as server:

        async def check() -> bool:
            proxy.asked.clear()
            async with connect(server.url, proxy="env") as ws:
                await check_echo(ws, 256)
            return proxy.asked != []

        assert not await check()
        clean_environment.setenv("HTTP_PROXY", "http://127.0.0.1:1")  # not read, see the reference
        assert not await check()
        clean_environment.setenv("ALL_PROXY", proxy.url())
        assert await check()
        clean_environment.setenv("HTTPS_PROXY", "http://127.0.0.1:1")
        with pytest.raises(ConnectionRefusedError):
            await check()
        clean_environment.setenv("https_proxy", proxy.url())
        assert await check()
        clean_environment.setenv("NO_PROXY", f"127.0.0.0/8:{server.port}")
        assert not await check()
        clean_environment.setenv("no_proxy", "127.0.0.1:1")
        assert await check()


# -- proxies that do not behave --------------------------------------------------------------

MISBEHAVIOUR = {
    "refusing": (b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", False, 403),
    "gateway": (b"HTTP/1.0 502 Bad Gateway\r\n\r\n<html>" + b"x" * 3000, False, 502),
    "garbage": (b"\x00\x01\x02" * 1000, False, None),
    "endless-head": (b"HTTP/1.1 200 x\r\n" + b"X: y\r\n" * 50_000, False, None),
    "closing-at-once": (b"", True, None),
    "closing-mid-way": (b"HTTP/1.1 200 Conn", True, None),
    "speaking-first": (b"HTTP/1.1 200 x\r\n\r\nHTTP/1.1 101 x\r\n\r\n", False, None),
}


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(("answer", "close", "status"), MISBEHAVIOUR.values(), ids=MISBEHAVIOUR)
async def test_a_proxy_that_does_not_behave_is_a_proxy_error(
    answer: bytes, close: bool, status: int | None
) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await BufferedByteReceiveStream(stream).receive_until(b"\r\n\r\n", 1000)
            try:
                if answer:
                    await stream.send(answer)
                if not close:
                    await stream.receive()
            except (anyio.EndOfStream, anyio.BrokenResourceError):
                pass

    with no_new_tcp_sockets():
        async with listen(peer) as port:
            with pytest.raises(ProxyError) as caught:
                await fail_to_connect("wss://server.example/", proxy=f"http://user:secret@127.0.0.1:{port}")
    assert caught.value.status == status
    assert len(caught.value.body) <= 1024
    assert isinstance(caught.value, HandshakeError)
    assert "secret" not in repr(caught.value)


HANGING = {
    # what the proxy sends before it hangs, each piece after something was received
    "silent": ("http", "ws", []),
    "silent-tls": ("https", "ws", []),
    "half-a-head": ("http", "wss", [b"HTTP/1.1 200 Conn"]),
    "no-server": ("http", "ws", [b"HTTP/1.1 200 x\r\n\r\n"]),
    "no-tls-server": ("http", "wss", [b"HTTP/1.1 200 x\r\n\r\n"]),
    "silent-socks": ("socks5h", "ws", []),
    "half-a-reply": ("socks5h", "ws", [b"\x05\x00", b"\x05\x00\x00\x01"]),
}


@pytest.mark.heavy_after_first
@pytest.mark.virtual_time(idle=0.01)
@pytest.mark.parametrize(("kind", "scheme", "answers"), HANGING.values(), ids=HANGING)
async def test_a_proxy_that_hangs_is_given_up_after_the_open_timeout(
    kind: str, scheme: str, answers: list[bytes]
) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            try:
                for answer in answers:
                    await stream.receive()
                    await stream.send(answer)
                async for _ in stream:
                    pass
            except anyio.BrokenResourceError:
                pass

    with no_new_tcp_sockets():
        async with listen(peer) as port:
            start = anyio.current_time()
            with pytest.raises(TimeoutError):
                await fail_to_connect(
                    f"{scheme}://server.example/", proxy=f"{kind}://127.0.0.1:{port}", open_timeout=7
                )
            assert 7 <= anyio.current_time() - start < 9


@pytest.mark.virtual_time(idle=0.01)
async def test_the_status_of_a_proxy_is_enough_if_the_body_does_not_end() -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\n\r\nwho?")
            with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
                await stream.receive()

    with no_new_tcp_sockets():
        async with listen(peer) as port:
            start = anyio.current_time()
            with pytest.raises(ProxyError) as caught:
                await fail_to_connect("ws://server.example/", proxy=f"http://127.0.0.1:{port}")
            assert (caught.value.status, caught.value.body) == (407, b"who?")
            assert ("proxy-authenticate", "Basic") in caught.value.headers
            assert anyio.current_time() - start <= 0.7


@pytest.mark.virtual_time(idle=0.01)
async def test_a_head_that_drips_is_given_up_after_the_open_timeout() -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            try:
                await stream.send(b"HTTP/1.1 200 x\r\nX: ")
                while True:
                    await anyio.sleep(0.5)
                    await stream.send(b"y")
            except (anyio.BrokenResourceError, anyio.ClosedResourceError):
                pass

    with no_new_tcp_sockets():
        async with listen(peer) as port:
            start = anyio.current_time()
            with pytest.raises(TimeoutError):
                await fail_to_connect("ws://server.example/", proxy=f"http://127.0.0.1:{port}")
            assert 10 <= anyio.current_time() - start < 11


# -- client certificates ---------------------------------------------------------------------


@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_an_https_proxy_that_wants_a_client_certificate_is_a_tls_error_that_says_so(
    proxy_authority: trustme.CA, trusted_proxies: None, client_tls: ssl.SSLContext, secure: bool
) -> None:
    """TLS 1.3: the client hears of it when it waits for the answer to CONNECT."""
    strict = server_context(proxy_authority)
    strict.verify_mode = ssl.CERT_REQUIRED
    proxy_authority.configure_trust(strict)
    attempts: list[Exception] = []
    with no_new_tcp_sockets():
        async with serve(echo, "127.0.0.1", ssl=strict) as server:  # it gets no further than TLS
            port = server.port
            url = f"{'wss' if secure else 'ws'}://server.example/"
            options: Any = {"proxy": f"https://localhost:{port}", "ssl": client_tls if secure else None}
            with pytest.raises(ssl.SSLError) as caught:
                await fail_to_connect(url, **options)
            with pytest.raises(ssl.SSLError):
                await anext(reconnect(url, retry=attempts.append, delays=[0] * 9, **options))
    assert (caught.value.reason or "").endswith("CERTIFICATE_REQUIRED")
    notes = "\n".join(caught.value.__notes__)
    assert f"This was the connection to the proxy https://localhost:{port}." in notes
    assert "wants a client certificate" in notes
    assert url in notes
    assert len(attempts) == 1


@pytest.mark.parametrize("proxy", ["http", "https", "socks5h"], indirect=True)
async def test_a_server_behind_a_proxy_that_wants_a_client_certificate_is_a_tls_error_that_says_so(
    proxy: ForwardingProxy, authority: trustme.CA, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    strict = server_context(authority)
    strict.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(strict)
    async with listen(partial(_refuse_in_tls, strict)) as port:
        with pytest.raises(ssl.SSLError) as caught:
            await fail_to_connect(f"wss://127.0.0.1:{port}/", proxy=proxy.url(), ssl=client_tls)
    assert (caught.value.reason or "").endswith("CERTIFICATE_REQUIRED")
    notes = "\n".join(caught.value.__notes__)
    assert f"wss://127.0.0.1:{port}/" in notes
    assert "proxy" not in notes


async def _refuse_in_tls(context: ssl.SSLContext, stream: ByteStream) -> None:
    """Shake hands until TLS refuses, send the alert and wait for the client to leave: to leave first could
    reset the connection in the proxy, and the alert be lost there."""
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls, refused = context.wrap_bio(incoming, outgoing, server_side=True), False
    async with stream:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                try:
                    if not refused:
                        tls.do_handshake()
                except ssl.SSLWantReadError:
                    pass
                except ssl.SSLError:
                    refused = True
                await stream.send(outgoing.read())
                incoming.write(await stream.receive())


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_the_wrong_scheme_of_a_proxy_has_a_hint(
    scheme: str, proxy_tls: ssl.SSLContext, trusted_proxies: None
) -> None:
    async def peer(stream: ByteStream) -> None:
        async with stream:
            await stream.receive()
            await stream.send(b"HTTP/1.1 400 x\r\n\r\n")

    async with listen(peer, proxy_tls if scheme == "http" else None) as port:
        with pytest.raises((ProxyError, ssl.SSLError)) as caught:
            await fail_to_connect("ws://server.example/", proxy=f"{scheme}://localhost:{port}")
    if scheme == "http":
        assert "if the proxy speaks TLS, use https:// in its URL" in str(caught.value)
    else:
        assert "Does that port speak TLS? If it does not, use http://." in caught.value.__notes__


async def test_a_link_local_address_is_not_sent_to_a_socks_proxy() -> None:
    with pytest.raises(OSError, match="link-local addresses, which mean nothing to a proxy"):
        await open_tunnel(Proxy("socks5", "127.0.0.1", 1), f"fe80::1%{socket.if_nameindex()[0][1]}", 443)


# -- cancellation ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("secure", [False, True], ids=["ws", "wss"])
async def test_cancellation_at_any_moment_leaves_nothing_behind(
    proxy: ForwardingProxy, secure: bool, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    """After every number of turns of the event loop, until the connection is open before it."""
    proxy.credentials = USER, PASSWORD
    tls = client_tls if secure else None
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(serve(echo, "127.0.0.1", ssl=server_tls if secure else None))
        entered, turns = 0, 0
        while entered < 3:
            scope = anyio.CancelScope()
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(_cancel_later, scope, turns)
                with scope:
                    async with connect(server.url, proxy=proxy.url(ENCODED), ssl=tls) as ws:
                        entered += 1
                        await check_echo(ws, 256)
            turns += 1
        assert turns > 10
        assert [task for task in anyio.get_running_tasks() if "wsstream.client" in (task.name or "")] == []


async def _cancel_later(scope: anyio.CancelScope, turns: int) -> None:
    for _ in range(turns):
        await checkpoint()
    scope.cancel()
