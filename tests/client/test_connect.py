"""`connect`: its options, and servers that do not behave."""

from __future__ import annotations

import base64
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute
from anyio.streams.tls import TLSStream
from kit.endpoints import fail_to_connect
from kit.ids import stable_repr
from kit.leaks import nothing_of_ours_left
from kit.peers import Listen, linger
from kit.tls import context_with, server_context
from kit.waiting import until

from wsstream import (
    CloseInfo,
    ConnectionBroken,
    FlowControl,
    HandshakeError,
    HandshakeRejected,
    WebSocketStream,
    accept,
    connect,
)
from wsstream.testing import (
    FrameReader,
    MemoryStream,
    RateStream,
    RawPeer,
    connected_pair,
    memory_pair,
    reset_stream,
    text,
)

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

# -- arguments -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            {"ping_interval": 0},
            ValueError,
        ),  # tests/driver/test_options.py has the other options of connections
        ({"headers": {"Bad Name": "x"}}, ValueError),
        ({"headers": {"X": "a\r\nY: b"}}, ValueError),
        ({"headers": {"Upgrade": "h2c"}}, ValueError),
        ({"headers": {"Sec-WebSocket-Key": "x"}}, ValueError),
        ({"headers": {"X": 5}}, TypeError),
        ({"origin": "a\nb"}, ValueError),
        ({"origin": 5}, TypeError),
        ({"ssl": ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)}, ValueError),
        ({"ssl": True}, TypeError),
        ({"server_hostname": b"h"}, TypeError),
        ({"subprotocols": "chat"}, TypeError),
    ],
    ids=stable_repr,
)
def test_a_wrong_argument_is_rejected_by_the_call_itself(
    options: dict[str, Any], error: type[Exception]
) -> None:
    with pytest.raises(error):
        connect("ws://127.0.0.1/", **options)


async def test_one_call_of_connect_can_be_entered_once() -> None:
    ours, theirs = memory_pair()
    once = connect("ws://testserver/", transport=ours)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        async with once as ws:
            ws.abort()
        with pytest.raises(RuntimeError):
            async with once:
                pytest.fail("entered")


# -- the request -----------------------------------------------------------------------------


async def _request_of(url: str, **options: Any) -> RawPeer:
    """What a server sees of the opening handshake."""
    ours, theirs = memory_pair()
    peers: list[RawPeer] = []

    async def peer() -> None:
        peers.append(await RawPeer.as_server(theirs))

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        async with connect(url, transport=ours, **options) as ws:
            ws.abort()
    return peers[0]


async def test_the_request_is_that_of_rfc_6455() -> None:
    peer = await _request_of("http://EXAMPLE.com:8080/chat/ä?q=1", origin="https://page.example")
    assert peer.head.startswith(b"GET /chat/%C3%A4?q=1 HTTP/1.1\r\n")
    assert peer.header("Host") == "example.com:8080"
    assert peer.header("Origin") == "https://page.example"
    assert (peer.header("Upgrade"), peer.header("Connection")) == ("websocket", "Upgrade")
    assert peer.header("Sec-WebSocket-Version") == "13"
    assert len(base64.b64decode(peer.header("Sec-WebSocket-Key") or "", validate=True)) == 16
    assert peer.header("Sec-WebSocket-Protocol") is None
    assert peer.header("Sec-WebSocket-Extensions") is None


async def test_each_handshake_has_a_key_of_its_own() -> None:
    keys = {(await _request_of("ws://a/")).header("Sec-WebSocket-Key") for _ in range(3)}
    assert len(keys) == 3


async def test_userinfo_of_the_url_becomes_basic_credentials_and_is_shown_nowhere() -> None:
    url = "ws://us%20er:p%40ss:word@example.com/"
    peer = await _request_of(url)
    assert peer.header("Authorization") == "Basic " + base64.b64encode(b"us er:p@ss:word").decode()
    assert peer.header("Host") == "example.com"
    async with connected_pair(url=url) as (client, server):
        for ws in (client, server):
            assert "p@ss" not in f"{ws!r}{ws.url}{ws.request!r}"
            assert "p%40ss" not in f"{ws!r}{ws.url}{ws.request!r}"


async def test_further_headers_are_sent_and_may_bring_their_own_credentials() -> None:
    fields = [("X-A", "1"), ("X-A", "2"), ("Authorization", "Bearer t"), ("Cookie", "a=b")]
    for headers in (fields, {"Authorization": "Bearer t", "Cookie": "a=b"}):
        peer = await _request_of("ws://user:secret@example.com/", headers=headers)
        assert (peer.header("Authorization"), peer.header("Cookie")) == ("Bearer t", "a=b")
        assert peer.head.count(b"Authorization") == 1
        assert peer.head.count(b"X-A") == (2 if headers is fields else 0)


async def test_subprotocols_are_offered_in_order() -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        peers: list[RawPeer] = []

        async def peer() -> None:
            peers.append(await RawPeer.as_server(theirs, subprotocol="b"))

        tasks.start_soon(peer)
        async with connect("ws://a/", subprotocols=iter(["a", "b"]), transport=ours) as ws:
            assert ws.subprotocol == "b"
            ws.abort()
    assert peers[0].header("Sec-WebSocket-Protocol") == "a, b"


async def test_request_and_response_can_be_read(listen: Listen) -> None:
    async def peer(stream: ByteStream) -> None:
        await (await RawPeer.as_server(stream, headers=[("X-Served-By", "seven")])).close(1000)
        await linger(stream)

    async with listen(peer) as port, connect(f"ws://127.0.0.1:{port}/a?b=c") as ws:
        assert (ws.request.path, ws.request.query) == ("/a", "b=c")
        assert (ws.response.status, ws.response.headers["x-served-by"]) == (101, "seven")


async def test_frames_that_come_with_the_answer_are_not_lost() -> None:
    ours, theirs = memory_pair()

    async def peer() -> None:
        stream = _Delayed(theirs)
        await RawPeer.as_server(stream)
        stream.held += text("at once")
        await theirs.send(stream.held)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        async with connect("ws://a/", transport=ours) as ws:
            assert await ws.receive() == "at once"
            ws.abort()


class _Delayed(ByteStream):
    """Keeps what is sent, so that it can be sent together with more."""

    def __init__(self, stream: ByteStream) -> None:
        self.stream, self.held = stream, b""

    async def receive(self, max_bytes: int = 65536) -> bytes:
        return await self.stream.receive(max_bytes)

    async def send(self, item: bytes) -> None:
        self.held += item

    async def send_eof(self) -> None: ...

    async def aclose(self) -> None: ...


# -- TLS and other transports ----------------------------------------------------------------


async def _echo_once(stream: ByteStream) -> None:
    async with accept(stream) as ws:
        await ws.send(await ws.receive())
        await ws.wait_closed()


async def check_echo(ws: WebSocketStream) -> None:
    await ws.send("there and back")
    assert await ws.receive() == "there and back"


@pytest.mark.parametrize("scheme", ["wss", "https"])
async def test_wss_and_https_are_tls(
    listen: Listen, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, scheme: str
) -> None:
    with nothing_of_ours_left():
        async with (
            listen(_echo_once, server_tls) as port,
            connect(f"{scheme}://127.0.0.1:{port}/", ssl=client_tls) as ws,
        ):
            assert ws.url == f"wss://127.0.0.1:{port}/"
            await check_echo(ws)
        assert ws.close_info == CloseInfo(1000, "", True)


async def test_wss_over_a_given_transport_speaks_tls_over_it(
    server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    ours, theirs = memory_pair()

    async def peer() -> None:
        tls = await TLSStream.wrap(
            theirs, server_side=True, ssl_context=server_tls, standard_compatible=False
        )
        await _echo_once(tls)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        async with connect("wss://localhost/", ssl=client_tls, transport=ours) as ws:
            assert ws.url == "wss://localhost/"
            await check_echo(ws)
    assert ws.close_info == CloseInfo(1000, "", True)
    await _assert_closed(ours)


async def _assert_closed(stream: ByteStream) -> None:
    with pytest.raises(anyio.ClosedResourceError):
        await stream.send(b"x")


async def test_the_server_hostname_is_verified_instead_of_the_urls_host(
    listen: Listen, authority: trustme.CA, client_tls: ssl.SSLContext
) -> None:
    context = server_context(authority, "inner.example")
    async with listen(_echo_once, context) as port:
        url = f"wss://127.0.0.1:{port}/"
        async with connect(url, ssl=client_tls, server_hostname="inner.example") as ws:
            await check_echo(ws)
        with pytest.raises(ssl.SSLCertVerificationError), nothing_of_ours_left():
            await fail_to_connect(url, ssl=client_tls)


def _expired(authority: trustme.CA) -> trustme.LeafCert:
    return authority.issue_cert("127.0.0.1", not_after=datetime(2020, 1, 1, tzinfo=UTC))


@pytest.mark.parametrize("over", ["socket", "memory"])
@pytest.mark.parametrize(
    "certificate",
    [
        pytest.param(lambda authority: authority.issue_cert("other.example"), id="wrong-host"),
        pytest.param(_expired, id="expired"),
        pytest.param(lambda _: trustme.CA().issue_cert("127.0.0.1"), id="unknown-authority"),
    ],
)
async def test_an_invalid_certificate_is_rejected(
    listen: Listen,
    authority: trustme.CA,
    client_tls: ssl.SSLContext,
    certificate: Callable[[trustme.CA], trustme.LeafCert],
    over: str,
) -> None:
    context = context_with(certificate(authority))
    async with listen(linger, context) as port:
        transport = await anyio.connect_tcp("127.0.0.1", port) if over == "memory" else None
        if transport is None:
            with pytest.raises(ssl.SSLCertVerificationError), nothing_of_ours_left():
                await fail_to_connect(f"wss://127.0.0.1:{port}/", ssl=client_tls)
        else:
            with pytest.raises(ssl.SSLCertVerificationError):
                await fail_to_connect("wss://127.0.0.1/", ssl=client_tls, transport=transport)
            await _assert_closed(transport)


async def test_without_a_context_the_systems_authorities_decide(
    listen: Listen, server_tls: ssl.SSLContext
) -> None:
    async with listen(linger, server_tls) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await fail_to_connect(f"wss://127.0.0.1:{port}/")


async def test_a_plain_server_on_a_tls_url_is_a_tls_error(listen: Listen, client_tls: ssl.SSLContext) -> None:
    async def peer(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await linger(stream)

    async with listen(peer) as port:
        with pytest.raises(ssl.SSLError), nothing_of_ours_left():
            await fail_to_connect(f"wss://127.0.0.1:{port}/", ssl=client_tls)


async def test_a_tls_server_on_a_plain_url_is_a_handshake_error(
    listen: Listen, server_tls: ssl.SSLContext
) -> None:
    async with listen(linger, server_tls) as port:
        with pytest.raises(HandshakeError):
            await fail_to_connect(f"ws://127.0.0.1:{port}/")


# -- servers that do not behave --------------------------------------------------------------

Answer = Callable[[MemoryStream], Awaitable[object]]


async def _answered(answer: Answer, **options: Any) -> float:
    """Connect to a server in memory that reads the request and then does `answer`; the seconds it took.

    What `connect` raises goes on, after a check that the transport was closed.
    """
    ours, theirs = memory_pair()

    async def peer() -> None:
        async with theirs:
            await FrameReader(theirs).read_head()
            try:
                await answer(theirs)
                await linger(theirs)
            except anyio.BrokenResourceError:
                pass

    error: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        start = anyio.current_time()
        try:
            await fail_to_connect(transport=ours, **options)
        except Exception as exc:
            error = exc
        seconds = anyio.current_time() - start
    await _assert_closed(ours)
    if error is not None:
        raise error
    return seconds


def _says(data: bytes) -> Answer:
    async def answer(stream: MemoryStream) -> None:
        await stream.send(data)

    return answer


_SWITCHING = b"HTTP/1.1 101 Switching Protocols\r\n"


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x00\x01\x02\xff" * 100, id="binary"),
        pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="ssh"),
        pytest.param(b"220 mail.example ESMTP\r\n\r\n", id="smtp"),
        pytest.param(b"HTTP/2.0 101 Switching Protocols\r\n\r\n", id="http-2"),
        pytest.param(b"HTTP/1.1 two hundred\r\n\r\n", id="status-in-words"),
        pytest.param(b"HTTP/1.0 101 Switching Protocols\r\n\r\n", id="switching-in-1.0"),
        pytest.param(_SWITCHING + b"\r\n", id="nothing-but-101"),
        pytest.param(_SWITCHING + b"Upgrade: websocket\r\nConnection: Upgrade\r\n\r\n", id="without-accept"),
        pytest.param(
            _SWITCHING
            + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            + b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n",
            id="accept-of-another-key",
        ),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n" * 1000, id="only-informational"),
    ],
)
async def test_a_response_that_is_not_http_is_a_handshake_error(data: bytes) -> None:
    with pytest.raises(HandshakeError) as caught:
        await _answered(_says(data))
    assert not isinstance(caught.value, HandshakeRejected)


@pytest.mark.parametrize(
    ("fields", "complaint"),
    [
        ([("Sec-WebSocket-Extensions", "permessage-deflate")], "extension"),
        ([("Sec-WebSocket-Extensions", "=;=")], "Extensions"),
        ([("Sec-WebSocket-Protocol", "chat")], "subprotocol"),
        ([("Sec-WebSocket-Accept", "again")], "Accept"),
        ([("Upgrade", "h2c")], "Upgrade"),
    ],
)
async def test_a_response_with_something_not_offered_is_a_handshake_error(
    fields: list[tuple[str, str]], complaint: str
) -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: RawPeer.as_server(theirs, headers=fields))
        with pytest.raises(HandshakeError, match=complaint):
            await fail_to_connect(transport=ours)
    await _assert_closed(ours)


async def test_a_head_of_1_mib_is_rejected_long_before_its_end() -> None:
    sent: list[int] = []

    async def answer(stream: MemoryStream) -> None:
        try:
            await stream.send(_SWITCHING + b"X-Long: " + b"x" * (1 << 20) + b"\r\n\r\n")
        finally:
            sent.append(stream.statistics().bytes_sent)

    with pytest.raises(HandshakeError):
        await _answered(answer)
    assert sent[0] <= 4 * 65536  # what is read of it, and the line's buffer


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("timeout", [10, 25])
async def test_a_head_that_drips_is_given_up_after_the_open_timeout(timeout: float) -> None:
    async def answer(stream: MemoryStream) -> None:
        await RateStream(stream, send=1).send(_SWITCHING + b"X-Long: " + b"x" * 1000)

    start = anyio.current_time()
    with pytest.raises(TimeoutError):
        await _answered(answer, open_timeout=timeout)
    assert timeout <= anyio.current_time() - start < timeout + 2


async def test_a_silent_server_is_given_up_after_ten_seconds() -> None:
    async def silence(stream: MemoryStream) -> None: ...

    start = anyio.current_time()
    with pytest.raises(TimeoutError):
        await _answered(silence)
    assert 10 <= anyio.current_time() - start < 10.5


async def test_without_an_open_timeout_connect_waits_for_a_slow_server() -> None:
    ours, theirs = memory_pair()

    async def peer() -> None:
        await anyio.sleep(1000)
        await RawPeer.as_server(theirs)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        async with connect("ws://a/", transport=ours, open_timeout=None) as ws:
            assert anyio.current_time() >= 1000
            ws.abort()


@pytest.mark.parametrize(
    ("status", "fields", "body"),
    [
        (200, b"Content-Length: 2\r\n", b"hi"),
        (301, b"Location: wss://elsewhere.example/\r\nContent-Length: 0\r\n", b""),
        (404, b"Transfer-Encoding: chunked\r\n", b"9\r\nnot found\r\n0\r\n\r\n"),
        (503, b"Retry-After: 1\r\nContent-Length: 5000\r\n", b"x" * 2000),
    ],
)
async def test_another_status_is_a_rejection(status: int, fields: bytes, body: bytes) -> None:
    start = anyio.current_time()
    with pytest.raises(HandshakeRejected) as caught:
        await _answered(_says(b"HTTP/1.1 %d Whatever\r\n%s\r\n%s" % (status, fields, body)))
    assert anyio.current_time() - start < 1  # the rest of the body is not waited for
    expected = {404: b"not found", 503: b"x" * 1024}.get(status, body)
    assert (caught.value.status, caught.value.body) == (status, expected)
    name, _, value = fields.split(b"\r\n", 1)[0].decode().partition(": ")
    assert (name.lower(), value) in caught.value.headers


@pytest.mark.parametrize("timeout", [10, 0.3, None])
async def test_a_status_is_enough_if_the_body_does_not_end(timeout: float | None) -> None:
    start = anyio.current_time()
    with pytest.raises(HandshakeRejected) as caught:
        await _answered(_says(b"HTTP/1.1 404 Not Found\r\n\r\nno such path\n"), open_timeout=timeout)
    assert (caught.value.status, caught.value.body) == (404, b"no such path\n")
    assert anyio.current_time() - start <= 0.6


# -- servers that vanish ---------------------------------------------------------------------


async def test_a_port_without_a_listener_is_connection_refused() -> None:
    async with await anyio.create_tcp_listener(local_host="127.0.0.1") as listener:
        port = listener.extra(SocketAttribute.local_port)
    with pytest.raises(ConnectionRefusedError), nothing_of_ours_left():
        await fail_to_connect(f"ws://127.0.0.1:{port}/")


VANISH = [
    pytest.param(lambda stream: stream.aclose(), id="fin"),
    pytest.param(reset_stream, id="rst"),
]
Vanish = Callable[[Any], Awaitable[None]]


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.parametrize("over", ["socket", "stream"])
@pytest.mark.parametrize("when", ["at-once", "after-hello"])
async def test_a_server_that_vanishes_in_the_tls_handshake_is_an_os_error(
    listen: Listen, client_tls: ssl.SSLContext, vanish: Vanish, over: str, when: str
) -> None:
    async def peer(stream: ByteStream) -> None:
        if when == "after-hello":
            await stream.receive()
        await vanish(stream)

    async with listen(peer) as port:
        if over == "socket":
            with pytest.raises(OSError) as caught, nothing_of_ours_left():
                await fail_to_connect(f"wss://127.0.0.1:{port}/", ssl=client_tls)
        else:
            transport = await anyio.connect_tcp("127.0.0.1", port)
            with pytest.raises(OSError) as caught:
                await fail_to_connect("wss://127.0.0.1/", ssl=client_tls, transport=transport)
            await _assert_closed(transport)
        assert not isinstance(caught.value, TimeoutError)


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.parametrize("over", ["socket", "memory"])
@pytest.mark.parametrize("answer", [b"", b"HTTP/1.1 101 Switching Pro"])
async def test_a_server_that_vanishes_before_it_answered_is_a_handshake_error(
    listen: Listen, vanish: Vanish, over: str, answer: bytes
) -> None:
    async def peer(stream: Any) -> None:
        await FrameReader(stream).read_head()
        if answer:
            await stream.send(answer)
        await vanish(stream)

    if over == "memory":
        ours, theirs = memory_pair()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(peer, theirs)
            with pytest.raises(HandshakeError):
                await fail_to_connect(transport=ours)
        await _assert_closed(ours)
    else:
        async with listen(peer) as port:
            with pytest.raises(HandshakeError) as caught, nothing_of_ours_left():
                await fail_to_connect(f"ws://127.0.0.1:{port}/")
            assert not isinstance(caught.value, HandshakeRejected)


@pytest.mark.parametrize("vanish", VANISH)
async def test_a_rejection_that_is_cut_short_is_a_rejection_all_the_same(vanish: Vanish) -> None:
    async def answer(stream: MemoryStream) -> None:
        await stream.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 100\r\n\r\nsorr")
        await vanish(stream)

    with pytest.raises(HandshakeRejected) as caught:
        await _answered(answer)
    assert (caught.value.status, caught.value.body) == (404, b"sorr")


@pytest.mark.parametrize("vanish", VANISH)
@pytest.mark.parametrize("state", ["open", "inside-a-message", "closing"])
async def test_a_server_that_vanishes_later_breaks_the_connection(
    listen: Listen, vanish: Vanish, state: str
) -> None:
    async def peer(stream: ByteStream) -> None:
        peer = await RawPeer.as_server(stream)
        if state == "inside-a-message":
            await peer.text("begin", fin=False)
        elif state == "closing":
            assert (await peer.read_frame()).kind == "close"
        await vanish(stream)

    async with listen(peer) as port:
        with nothing_of_ours_left():
            async with connect(f"ws://127.0.0.1:{port}/") as ws:
                if state == "closing":
                    await ws.aclose(1000)
                else:
                    with pytest.raises(ConnectionBroken):
                        await ws.receive()
                with pytest.raises(ConnectionBroken) as caught:
                    await ws.wait_closed()
                assert caught.value.info == ws.close_info == CloseInfo(1006, "", False)


# -- leaving the block -----------------------------------------------------------------------


async def test_an_exception_of_the_body_arrives_as_itself_also_when_the_peer_is_gone() -> None:
    ours, theirs = memory_pair()
    error = ValueError("mine")
    with pytest.raises(ValueError) as caught:
        async with connect_to(ours, theirs):
            await theirs.aclose()
            raise error
    assert caught.value is error


@asynccontextmanager
async def connect_to(ours: MemoryStream, theirs: MemoryStream) -> AsyncIterator[WebSocketStream]:
    connection = connect("ws://a/", transport=ours)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)
        ws = await connection.__aenter__()
    try:
        yield ws
    except BaseException as error:
        await connection.__aexit__(type(error), error, error.__traceback__)
        raise
    await connection.__aexit__(None, None, None)


async def test_a_cancelled_body_closes_with_1001_if_that_needs_no_waiting() -> None:
    ours, theirs = memory_pair()
    seen: list[CloseInfo | None] = []

    async def peer() -> None:
        async with accept(theirs) as ws:
            assert [message async for message in ws] == []
            seen.append(ws.close_info)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        with anyio.move_on_after(1):
            async with connect("ws://a/", transport=ours) as ws:
                await anyio.sleep_forever()
        assert anyio.current_time() < 1.1
    assert [ws.close_info, *seen] == [CloseInfo(1001, "", True)] * 2


async def test_a_cancelled_body_is_left_within_a_quarter_of_a_second_if_the_peer_is_silent() -> None:
    ours, theirs = memory_pair()
    with anyio.move_on_after(1):
        async with connect_to(ours, theirs) as ws:
            await anyio.sleep_forever()
    assert 1 <= anyio.current_time() <= 1.26
    assert ws.close_info == CloseInfo(1006, "", False)
    await _assert_closed(ours)


async def test_the_water_marks_reach_the_connection() -> None:
    flow = FlowControl(receive_high_water=10_000)
    async with (
        connected_pair(client_options={"flow": flow}) as (client, server),
        anyio.create_task_group() as tasks,
    ):
        tasks.start_soon(server.send, bytes(1 << 18))
        await until(lambda: client.statistics().reading_paused)
        assert 10_000 <= client.statistics().receive_buffered < 20_000
        assert len(await client.receive()) == 1 << 18
