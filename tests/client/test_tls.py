"""TLS that does not come about, and what `connect` and `reconnect` make of it."""

from __future__ import annotations

import logging
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream
from anyio.streams.tls import TLSStream
from kit.endpoints import fail_to_connect, stay_open
from kit.peers import Listen
from kit.tls import client_context

from wsstream import HandshakeError, Response, accept, connect, reconnect, serve
from wsstream.testing import memory_pair, reset_stream

pytestmark = pytest.mark.anyio

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


def _chain(error: BaseException) -> list[BaseException]:
    """An error, its cause or context, that one's, and so on: a loop would be endless here."""
    chain: list[BaseException] = []
    link: BaseException | None = error
    while link is not None:
        assert link not in chain
        chain.append(link)
        link = link.__cause__ or link.__context__
    return chain


# -- a client certificate that is not accepted -----------------------------------------------


@pytest.fixture(params=VERSIONS, ids=lambda version: version.name)
def strict_tls(request: pytest.FixtureRequest, authority: trustme.CA) -> ssl.SSLContext:
    """The context of a server that wants a certificate of our authority."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.maximum_version = request.param
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    authority.configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


@pytest.fixture
def client_with(authority: trustme.CA) -> Callable[[str], ssl.SSLContext]:
    """The context of a client whose certificate is of ``"ours"``, of ``"another"`` authority, ``"none"``."""

    def make(certificate: str) -> ssl.SSLContext:
        context = client_context(authority)
        if certificate != "none":
            issuer = authority if certificate == "ours" else trustme.CA()
            issuer.issue_cert("client@feed.example").configure_cert(context)
        return context

    return make


# By certificate and version: what the alert is called, and the words of the note.
REFUSALS = {
    ("none", ssl.TLSVersion.TLSv1_2): ("HANDSHAKE_FAILURE", ""),
    ("none", ssl.TLSVersion.TLSv1_3): ("CERTIFICATE_REQUIRED", "wants a client certificate"),
    ("another", ssl.TLSVersion.TLSv1_2): ("UNKNOWN_CA", "does not accept the client certificate"),
    ("another", ssl.TLSVersion.TLSv1_3): ("UNKNOWN_CA", "does not accept the client certificate"),
}


def _check_refusal(error: BaseException, certificate: str, context: ssl.SSLContext, url: str) -> None:
    assert isinstance(error, ssl.SSLError)
    reason, note = REFUSALS[certificate, context.maximum_version]
    assert (error.reason or "").endswith(reason)
    notes = "\n".join(error.__notes__)
    assert note in notes
    assert url in notes
    assert not any(isinstance(link, EOFError) for link in _chain(error))


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("certificate", ["none", "another"])
async def test_a_refused_client_certificate_is_a_tls_error_that_says_so(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext], certificate: str
) -> None:
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as server:
        with pytest.raises(ssl.SSLError) as caught:
            await fail_to_connect(server.url, ssl=client_with(certificate))
        _check_refusal(caught.value, certificate, strict_tls, f"{server.url}/")
        async with connect(server.url, ssl=client_with("ours")) as ws:
            assert ws.state == "open"


@pytest.mark.parametrize("certificate", ["none", "another"])
async def test_reconnect_gives_up_where_the_client_certificate_is_refused(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext], certificate: str
) -> None:
    attempts: list[Exception] = []
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as server:
        options: Any = {"ssl": client_with(certificate), "retry": attempts.append, "delays": [0] * 9}
        with pytest.raises(ssl.SSLError):
            await anext(reconnect(server.url, **options))
    assert len(attempts) == 1


@pytest.mark.parametrize("certificate", ["none", "another"])
async def test_tls_over_a_given_stream_is_refused_in_the_same_way(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext], certificate: str
) -> None:
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as server:
        stream = await anyio.connect_tcp("127.0.0.1", server.port)
        with pytest.raises(ssl.SSLError) as caught:
            await fail_to_connect("wss://localhost/x", ssl=client_with(certificate), transport=stream)
        _check_refusal(caught.value, certificate, strict_tls, "wss://localhost/x")


@pytest.mark.parametrize("certificate", ["none", "another"])
async def test_so_is_a_stream_that_speaks_tls_itself(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext], certificate: str
) -> None:
    """TLS 1.3 finds its handshake done before the server has looked at the certificate."""
    if strict_tls.maximum_version != ssl.TLSVersion.TLSv1_3:
        strict_tls.maximum_version = ssl.TLSVersion.TLSv1_3
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as server:
        stream = await TLSStream.wrap(
            await anyio.connect_tcp("127.0.0.1", server.port),
            hostname="localhost",
            ssl_context=client_with(certificate),
        )
        with pytest.raises(ssl.SSLError) as caught:
            await fail_to_connect("ws://localhost/x", transport=stream)
        _check_refusal(caught.value, certificate, strict_tls, "ws://localhost/x")


async def test_so_is_a_server_that_a_redirect_leads_to(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext], server_tls: ssl.SSLContext
) -> None:
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as strict:

        def process_request(_: object) -> Response:
            return Response(307, {"Location": f"{strict.url}/there"})

        async with serve(stay_open, "127.0.0.1", process_request=process_request, ssl=server_tls) as server:
            with pytest.raises(ssl.SSLError) as caught:
                await fail_to_connect(server.url, ssl=client_with("none"), max_redirects=1)
        _check_refusal(caught.value, "none", strict_tls, f"{strict.url}/there")


@pytest.mark.heavy_after_first
async def test_what_the_server_said_is_told_though_the_request_could_not_be_sent(
    strict_tls: ssl.SSLContext, client_with: Callable[[str], ssl.SSLContext]
) -> None:
    async with serve(stay_open, "127.0.0.1", ssl=strict_tls) as server:
        with pytest.raises(ssl.SSLError) as caught:
            # more than the buffers of two sockets hold
            await fail_to_connect(server.url, ssl=client_with("none"), headers={"X": "y" * (4 << 20)})
        _check_refusal(caught.value, "none", strict_tls, f"{server.url}/")


# -- a connection that breaks in the opening handshake ---------------------------------------


async def test_what_broke_is_the_cause_also_of_a_stream_over_a_stream() -> None:
    class Layer(ByteStream):
        """Wraps what fails below, as TLS over TLS does."""

        async def receive(self, max_bytes: int = 65536) -> bytes:
            try:
                raise anyio.BrokenResourceError from ConnectionResetError(104, "reset by peer")
            except anyio.BrokenResourceError as error:
                raise anyio.BrokenResourceError from error

        async def send(self, item: bytes) -> None: ...

        async def send_eof(self) -> None: ...

        async def aclose(self) -> None: ...

    with pytest.raises(HandshakeError, match=r"broke before the server answered: .*reset by peer") as caught:
        await fail_to_connect("ws://a/", transport=Layer())
    assert isinstance(caught.value.__cause__, ConnectionResetError)
    with pytest.raises(ConnectionResetError, match="reset by peer"):
        await fail_to_connect("wss://a/", transport=Layer())


async def test_a_server_sees_what_its_client_broke_off_with(caplog: pytest.LogCaptureFixture) -> None:
    ours, theirs = memory_pair()
    await ours.send(b"GET / HTTP/1.1\r\n")
    await reset_stream(ours)
    with pytest.raises(HandshakeError, match=r"the client broke the connection in the opening handshake: ."):
        async with accept(theirs):
            pytest.fail("entered")


async def test_a_server_logs_what_its_client_refused(
    authority: trustme.CA, server_tls: ssl.SSLContext, caplog: pytest.LogCaptureFixture
) -> None:
    ended = anyio.Event()
    with caplog.at_level(logging.INFO, "wsstream.server"):
        async with serve(stay_open, "127.0.0.1", ssl=server_tls) as server:
            with pytest.raises(ssl.SSLCertVerificationError):
                await fail_to_connect(server.url)
            with anyio.move_on_after(5):
                while "alert" not in caplog.text:
                    await anyio.sleep(0.01)
                ended.set()
    assert ended.is_set(), caplog.text


# -- the wrong scheme ------------------------------------------------------------------------


def _says(data: bytes) -> Callable[[Any], Awaitable[None]]:
    """A server of another language: it answers whatever comes with `data`, and leaves."""

    async def peer(stream: ByteStream) -> None:
        await stream.receive()
        if data:
            await stream.send(data)

    return peer


@asynccontextmanager
async def _our_server(context: ssl.SSLContext | None) -> AsyncIterator[int]:
    async with serve(stay_open, "127.0.0.1", ssl=context) as server:
        yield server.port


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"SSH-2.0-OpenSSH_9.6\r\n", b""])
@pytest.mark.parametrize("over", ["socket", "stream"])
async def test_tls_with_a_port_that_speaks_none_asks_whether_it_does(
    listen: Listen, client_tls: ssl.SSLContext, data: bytes, over: str
) -> None:
    async with listen(_says(data)) as port:
        stream = None if over == "socket" else await anyio.connect_tcp("127.0.0.1", port)
        with pytest.raises(OSError) as caught:
            await fail_to_connect(f"wss://127.0.0.1:{port}/", ssl=client_tls, transport=stream)
    if isinstance(caught.value, ssl.SSLError):  # what leaves at once may have reset the connection
        assert "Does that port speak TLS? If it does not, use ws://." in caught.value.__notes__
    assert data == b"" or isinstance(caught.value, ssl.SSLError)


async def test_our_own_plain_server_is_asked_the_same(client_tls: ssl.SSLContext) -> None:
    async with _our_server(None) as port:
        with pytest.raises(ssl.SSLError) as caught:
            await fail_to_connect(f"wss://127.0.0.1:{port}/", ssl=client_tls)
    assert "Does that port speak TLS? If it does not, use ws://." in caught.value.__notes__


async def test_a_certificate_that_does_not_hold_gets_no_such_note(server_tls: ssl.SSLContext) -> None:
    async with _our_server(server_tls) as port:
        with pytest.raises(ssl.SSLCertVerificationError) as caught:
            await fail_to_connect(f"wss://127.0.0.1:{port}/")
    assert caught.value.__notes__ == [f"This was on the way to wss://127.0.0.1:{port}/."]


async def test_no_tls_with_a_port_that_speaks_it_names_the_other_scheme(server_tls: ssl.SSLContext) -> None:
    async with _our_server(server_tls) as port:
        with pytest.raises(HandshakeError, match=r"; if the port speaks TLS, use wss://$"):
            await fail_to_connect(f"ws://127.0.0.1:{port}/")


@pytest.mark.parametrize(
    ("data", "hinted"),
    [
        (b"\x15\x03\x03\x00\x02\x02\x46", True),  # an alert of TLS
        (b"", True),
        (b"SSH-2.0-OpenSSH_9.6\r\n", False),
        (b"HTTP/1.1 101 Switching Pro", False),
    ],
)
async def test_the_other_scheme_is_named_only_where_it_may_be_the_right_one(
    listen: Listen, data: bytes, hinted: bool
) -> None:
    async with listen(_says(data)) as port:
        with pytest.raises(HandshakeError) as caught:
            await fail_to_connect(f"ws://127.0.0.1:{port}/")
    assert ("wss://" in caught.value.hint) is hinted
    assert caught.value.hint in str(caught.value)
