"""What proxies answer, and what becomes of the connection to them: scripted proxies on loopback."""

from __future__ import annotations

import ssl
import struct
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager
from pathlib import Path
from socket import SO_LINGER, SOL_SOCKET
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSListener
from kit.versions import TELLS_CAUSES

from wsstream.errors import HandshakeRejected, ProxyError
from wsstream.opening.proxy_url import Proxy
from wsstream.transports.base import receive_some, send_all
from wsstream.transports.proxy import open_tunnel, require_socks
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport, default_client_context

pytestmark = pytest.mark.anyio

Peer = Callable[[Any], Awaitable[object]]
Listen = Callable[..., AbstractAsyncContextManager[int]]
NoNewFiles = Callable[[], AbstractContextManager[None]]

ESTABLISHED = b"HTTP/1.1 200 Connection established\r\n\r\n"
BOUND = b"\x01\x7f\x00\x00\x01\x00\x50"  # what a SOCKS proxy says of its side: an address and a port


@pytest.fixture
def listen() -> Listen:
    """Listen on loopback and call the peer with each byte stream; gives the port.

    At the end every connection has to have been closed by the client.
    """

    @asynccontextmanager
    async def listen(peer: Peer, context: ssl.SSLContext | None = None) -> AsyncIterator[int]:
        async def handle(stream: ByteStream) -> None:
            async with stream:
                await peer(stream)
                try:
                    while True:
                        await stream.receive()
                except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
                    pass

        listener: Any = await anyio.create_tcp_listener(local_host="127.0.0.1")
        port = listener.extra(SocketAttribute.local_port)
        if context is not None:
            listener = _QuietTLSListener(listener, context, standard_compatible=False)
        async with (
            listener,
            anyio.create_task_group() as connections,
            anyio.create_task_group() as tasks,
        ):
            tasks.start_soon(listener.serve, handle, connections)
            yield port
            tasks.cancel_scope.cancel()

    return listen


async def _turns(count: int) -> None:
    for _ in range(count):
        await anyio.lowlevel.checkpoint()


class _QuietTLSListener(TLSListener):
    """A client that does not trust us is what some tests want."""

    @staticmethod
    async def handle_handshake_error(exc: BaseException, stream: Any) -> None:
        await anyio.aclose_forcefully(stream)


async def _reset(stream: ByteStream) -> None:
    stream.extra(SocketAttribute.raw_socket).setsockopt(SOL_SOCKET, SO_LINGER, struct.pack("ii", 1, 0))
    await anyio.aclose_forcefully(stream)


class Script:
    """A proxy that reads as many bytes as each step says, and then answers with its bytes."""

    def __init__(self, *steps: tuple[int | bytes, bytes], end: Peer | None = None) -> None:
        self.steps, self.end = steps, end
        self.received = b""

    async def __call__(self, stream: ByteStream) -> None:
        for until, answer in self.steps:
            await self._read(stream, until)
            if answer:
                await stream.send(answer)
        if self.end is not None:
            await self.end(stream)

    async def _read(self, stream: ByteStream, until: int | bytes) -> None:
        begin = len(self.received)
        while until not in self.received if isinstance(until, bytes) else len(self.received) < begin + until:
            self.received += await stream.receive()


def _answers(answer: bytes, end: Peer | None = None) -> Script:
    return Script((b"\r\n\r\n", answer), end=end)


def _close(stream: ByteStream) -> Awaitable[None]:
    return stream.aclose()


async def _refused(proxy: Proxy, host: str = "server.example", port: int = 443) -> ProxyError:
    with pytest.raises(ProxyError) as caught:
        await open_tunnel(proxy, host, port)
    assert not isinstance(caught.value, HandshakeRejected)
    return caught.value


async def _check_both_ways(transport: SocketTransport | TLSTransport) -> None:
    """That the peer, which sends back what it gets, is at the other end."""
    await send_all(transport, b"there and back")
    received = b""
    while len(received) < 14:
        received += await receive_some(transport, 100)
    assert received == b"there and back"


async def _echo_once(stream: ByteStream) -> None:
    await stream.send(await stream.receive())


# --- HTTP ---


async def test_an_http_proxy_gives_the_socket_as_if_it_were_direct(
    listen: Listen, no_new_files: NoNewFiles
) -> None:
    script = _answers(ESTABLISHED, end=_echo_once)
    with no_new_files():
        async with listen(script) as port:
            proxy = Proxy("http", "127.0.0.1", port, ("user", "pass"))
            transport = await open_tunnel(proxy, "server.example", 443)
            assert type(transport) is SocketTransport
            assert transport.extra("peername") == ("127.0.0.1", port)
            await _check_both_ways(transport)
            await transport.aclose()
        assert script.received == (
            b"CONNECT server.example:443 HTTP/1.1\r\nHost: server.example:443\r\n"
            b"Proxy-Authorization: Basic dXNlcjpwYXNz\r\n\r\n"
        )


async def test_an_https_proxy_is_asked_over_tls(
    listen: Listen,
    authority: trustme.CA,
    server_context: ssl.SSLContext,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    no_new_files: NoNewFiles,
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    default_client_context.cache_clear()
    try:
        with no_new_files():
            async with listen(_answers(ESTABLISHED, end=_echo_once), server_context) as port:
                transport = await open_tunnel(Proxy("https", "localhost", port), "server.example", 443)
                assert type(transport) is TLSTransport
                await _check_both_ways(transport)
                await transport.aclose()
                with pytest.raises(ssl.SSLCertVerificationError) as caught:
                    await open_tunnel(Proxy("https", "127.0.0.1", port), "server.example", 443)
                assert caught.value.__notes__ == [
                    f"This was the connection to the proxy https://127.0.0.1:{port}."
                ]
    finally:
        default_client_context.cache_clear()


async def test_an_https_proxy_that_is_not_trusted_is_told_nothing(
    listen: Listen, server_context: ssl.SSLContext, no_new_files: NoNewFiles
) -> None:
    script = Script()
    with no_new_files():
        async with listen(script, server_context) as port:
            with pytest.raises(ssl.SSLCertVerificationError):
                await open_tunnel(Proxy("https", "localhost", port, ("user", "pass")), "server.example", 443)
    assert script.received == b""


async def test_a_proxy_that_is_not_there_is_an_os_error_that_names_it_without_its_password() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    for scheme in ("http", "https", "socks5h"):
        with pytest.raises(ConnectionRefusedError) as caught:
            await open_tunnel(Proxy(scheme, "127.0.0.1", port, ("user", "secret")), "server.example", 443)
        assert caught.value.__notes__ == [
            f"This was the connection to the proxy {scheme}://127.0.0.1:{port}."
        ]


async def test_an_answer_that_drips_opens_the_tunnel_with_its_last_byte(listen: Listen) -> None:
    async def drip(stream: ByteStream) -> None:
        for position in range(len(ESTABLISHED)):
            await stream.send(ESTABLISHED[position : position + 1])
            await _turns(3)
        await _echo_once(stream)

    async with listen(Script((b"\r\n\r\n", b""), end=drip)) as port:
        transport = await open_tunnel(Proxy("http", "127.0.0.1", port), "server.example", 443)
        await _check_both_ways(transport)
        await transport.aclose()


REFUSALS = [
    pytest.param(b"HTTP/1.1 403 Forbidden\r\nContent-Length: 2\r\n\r\nno", None, 403, b"no", id="403"),
    pytest.param(
        b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", None, 407, b"", id="407"
    ),
    pytest.param(b"HTTP/1.1 502 x\r\n\r\n" + b"x" * 5000, None, 502, b"x" * 1024, id="endless-body"),
    pytest.param(b"HTTP/1.1 502 x\r\n\r\ngone", _close, 502, b"gone", id="until-the-end"),
    pytest.param(b"HTTP/1.1 403 x\r\nContent-Length: 9\r\n\r\nno", _close, 403, b"no", id="cut-short"),
    pytest.param(b"garbage\r\n\r\n", None, None, b"", id="garbage"),
    pytest.param(b"HTTP/1.1 200 x\r\n" + b"A: b\r\n" * 20_000, None, None, b"", id="endless-head"),
    pytest.param(b"HTTP/1.1 100 x\r\n\r\n" * 100, None, None, b"", id="only-informational"),
    pytest.param(ESTABLISHED + b"\x00", None, None, b"", id="bytes-behind-it"),
    pytest.param(b"", _close, None, b"", id="nothing"),
    pytest.param(b"HTTP/1.1 200 Connec", _close, None, b"", id="half-a-head"),
    pytest.param(b"", _reset, None, b"", id="reset"),
    pytest.param(b"HTTP/1.1 200 Connec", _reset, None, b"", id="reset-in-the-head"),
]


@pytest.mark.parametrize(("answer", "end", "status", "body"), REFUSALS)
async def test_an_http_proxy_that_does_not_connect_is_a_proxy_error(
    listen: Listen,
    answer: bytes,
    end: Peer | None,
    status: int | None,
    body: bytes,
    no_new_files: NoNewFiles,
) -> None:
    with no_new_files():
        async with listen(_answers(answer, end)) as port:
            error = await _refused(Proxy("http", "127.0.0.1", port, ("user", "secret")))
    assert (error.status, error.body) == (status, body)
    assert ("proxy-authenticate" in dict(error.headers)) is (status == 407)
    assert "secret" not in repr(error)


# --- SOCKS ---

SOCKS_TARGETS = [
    # scheme, host, what is sent as address
    ("socks5h", "server.example", b"\x03\x0eserver.example"),
    ("socks5h", "a" * 63 + ".example.", b"\x03\x48" + b"a" * 63 + b".example."),
    ("socks5h", "xn--bcher-kva.example", b"\x03\x15xn--bcher-kva.example"),
    ("socks5h", "10.1.2.3", b"\x01\x0a\x01\x02\x03"),
    ("socks5h", "2001:db8::1", b"\x04\x20\x01\x0d\xb8" + bytes(11) + b"\x01"),
    ("socks5", "10.1.2.3", b"\x01\x0a\x01\x02\x03"),
    ("socks5", "::1", b"\x04" + bytes(15) + b"\x01"),
    ("socks5", "localhost", b"\x01\x7f\x00\x00\x01"),
]


@pytest.mark.parametrize(("scheme", "host", "address"), SOCKS_TARGETS)
async def test_a_socks_proxy_is_asked_for_a_name_or_for_an_address(
    listen: Listen, scheme: str, host: str, address: bytes, no_new_files: NoNewFiles
) -> None:
    require_socks()
    request = b"\x05\x01\x00" + address + b"\x01\xbb"
    script = Script((3, b"\x05\x00"), (len(request), b"\x05\x00\x00" + BOUND), end=_echo_once)
    with no_new_files():
        async with listen(script) as port:
            transport = await open_tunnel(Proxy(scheme, "127.0.0.1", port), host, 443)
            assert type(transport) is SocketTransport
            assert script.received == b"\x05\x01\x00" + request
            await _check_both_ways(transport)
            await transport.aclose()


async def test_credentials_for_a_socks_proxy_are_sent_when_it_asks_for_them(listen: Listen) -> None:
    user, password = "u" * 255, "p@ss:w/rd%"
    login = b"\x01\xff" + user.encode() + b"\x0a" + password.encode()
    for granted in (b"\x05\x02", b"\x05\x00"):
        steps = [(4, granted), (len(login), b"\x01\x00"), (7 + 14, b"\x05\x00\x00" + BOUND)]
        script = Script(*(steps if granted == b"\x05\x02" else [steps[0], steps[2]]))
        async with listen(script) as port:
            proxy = Proxy("socks5h", "127.0.0.1", port, (user, password))
            await (await open_tunnel(proxy, "server.example", 443)).aclose()
        assert script.received[:4] == b"\x05\x02\x00\x02"
        assert (script.received[4 : 4 + len(login)] == login) is (granted == b"\x05\x02")


@pytest.mark.parametrize(
    "bound", [BOUND, b"\x04" + bytes(18), b"\x03\x05local\x00\x50", b"\x03\x00\x00\x50"], ids=repr
)
async def test_no_byte_behind_the_answer_of_a_socks_proxy_is_lost(listen: Listen, bound: bytes) -> None:
    script = Script((3, b"\x05\x00"), (7 + 14, b"\x05\x00\x00" + bound + b"early"))
    async with listen(script) as port:
        transport = await open_tunnel(Proxy("socks5h", "127.0.0.1", port), "server.example", 443)
        received = b""
        while len(received) < 5:
            received += await receive_some(transport, 100)
        assert received == b"early"
        await transport.aclose()


# Older ones say "from None" of a reset on asyncio, and the package for SOCKS uses their streams.

SOCKS_REFUSALS = [
    pytest.param([(4, b"\x05\xff")], None, "acceptable", id="no-method"),
    pytest.param([(4, b"\x05\x01")], None, "Unexpected", id="another-method"),
    pytest.param([(4, b"\x05\x77")], None, "Invalid", id="unknown-method"),
    pytest.param([(4, b"\x04\x5b")], None, "version", id="socks4"),
    pytest.param([(4, b"HTTP/1.1 400 Bad Request\r\n\r\n")], None, "version", id="http"),
    pytest.param([(4, b"\x05\x02"), (13, b"\x01\x01")], None, "authentication failure", id="wrong-password"),
    pytest.param([(4, b"\x05\x02"), (13, b"\x05\x00")], None, "Invalid", id="malformed-login"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x01\x00" + BOUND)], None, "General", id="general"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x02\x00" + BOUND)], None, "ruleset", id="ruleset"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x04\x00" + BOUND)], None, "unreachable", id="unreachable"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x05\x00" + BOUND)], None, "refused", id="refused"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x99\x00" + BOUND)], None, "Invalid", id="unknown-reply"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x00\x07" + BOUND)], None, "reserved", id="reserved"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x00\x00\x07")], None, "address type", id="address-type"),
    pytest.param(
        [(4, b"\x05\x00"), (21, b"\x05\x00\x00\x03\x02\xff\xff\x00\x50")], None, "malformed", id="not-utf-8"
    ),
    pytest.param([(4, b"")], _close, "closed", id="nothing"),
    pytest.param([(4, b"\x05")], _close, "closed", id="half-a-method"),
    pytest.param([(4, b"\x05\x02"), (13, b"")], _close, "closed", id="closed-at-login"),
    pytest.param([(4, b"\x05\x00"), (21, b"\x05\x00\x00\x01\x7f")], _close, "closed", id="half-a-reply"),
    pytest.param([(4, b"")], _reset, "broke", id="reset"),
    pytest.param([(4, b"\x05\x00"), (21, b"")], _reset, "broke", id="reset-later"),
]


@pytest.mark.parametrize(("steps", "end", "complaint"), SOCKS_REFUSALS)
async def test_a_socks_proxy_that_does_not_connect_is_a_proxy_error(
    listen: Listen,
    steps: list[tuple[int | bytes, bytes]],
    end: Peer | None,
    complaint: str,
    no_new_files: NoNewFiles,
) -> None:
    require_socks()
    with no_new_files():
        async with listen(Script(*steps, end=end)) as port:
            error = await _refused(Proxy("socks5h", "127.0.0.1", port, ("user", "secret")))
    assert type(error) is ProxyError
    if complaint != "broke" or TELLS_CAUSES:
        assert complaint in str(error)
    assert (error.status, error.headers, error.body) == (None, [], b"")
    assert "secret" not in repr(error)
    if complaint == "broke" and TELLS_CAUSES:
        assert isinstance(error.__cause__, OSError)


async def test_a_name_that_socks5_cannot_resolve_is_an_os_error_and_the_proxy_is_left_alone(
    listen: Listen,
) -> None:
    script = Script()
    async with listen(script) as port:
        with pytest.raises(OSError, match=r"not a host name|cannot resolve"):
            await open_tunnel(Proxy("socks5", "127.0.0.1", port), "a" * 64, 443)
    assert script.received == b""


def test_without_the_extra_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ("python_socks", "python_socks.async_.anyio"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)  # type: ignore[arg-type]
            with pytest.raises(ImportError, match=r'pip install "wsstream\[socks\]"'):
                require_socks()


# --- Cancellation ---

HANGING = [
    pytest.param("http", [(b"\r\n\r\n", b"")], id="http"),
    pytest.param("http", [(b"\r\n\r\n", b"HTTP/1.1 200 Connec")], id="http-in-the-head"),
    pytest.param(
        "http", [(b"\r\n\r\n", b"HTTP/1.1 403 x\r\nContent-Length: 9\r\n\r\nno")], id="http-in-the-body"
    ),
    pytest.param("https", [(1, b"")], id="https-in-the-tls-handshake"),
    pytest.param("socks5h", [(4, b"")], id="socks"),
    pytest.param("socks5h", [(4, b"\x05\x02"), (13, b"\x01")], id="socks-at-login"),
    pytest.param("socks5h", [(4, b"\x05\x00"), (21, b"\x05\x00\x00\x01")], id="socks-in-the-reply"),
]


@pytest.mark.heavy_after_first
@pytest.mark.parametrize(("scheme", "steps"), HANGING)
async def test_a_proxy_that_hangs_is_left_when_cancelled(
    listen: Listen, scheme: str, steps: list[tuple[int | bytes, bytes]], no_new_files: NoNewFiles
) -> None:
    require_socks()
    scope = anyio.CancelScope()

    async def end(_: ByteStream) -> None:
        await anyio.wait_all_tasks_blocked()
        scope.cancel()

    with no_new_files():
        # The proxy waits for the end of the connection, so this would not end without it.
        async with listen(Script(*steps, end=end)) as port:
            with scope:
                proxy = Proxy(scheme, "127.0.0.1", port, ("user", "secret"))
                await open_tunnel(proxy, "server.example", 443)
                pytest.fail("opened")
    assert scope.cancelled_caught
