"""What the errors of `connect` and `reconnect` say: what happened, to whom, what to do, and no secret."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
import traceback
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream
from kit.endpoints import fail_to_connect, stay_open
from kit.peers import Listen, Peer

from wsstream import (
    ConnectionBroken,
    Deflate,
    HandshakeError,
    HandshakeRejected,
    ProxyError,
    Response,
    WebSocketStream,
    connect,
    reconnect,
    serve,
)
from wsstream.testing import memory_pair

pytestmark = pytest.mark.anyio


def _whole_text(error: BaseException) -> str:
    """All that a traceback shows of an error and its causes, and their repr."""
    text, link = "", error
    while link is not None:
        text += "".join(traceback.format_exception_only(link)) + repr(link)
        text += "".join(getattr(link, "__notes__", []))
        link = link.__cause__ or link.__context__  # type: ignore[assignment]
    return text


def _says(data: bytes) -> Peer:
    async def peer(stream: ByteStream) -> None:
        await stream.receive()
        await stream.send(data)
        try:
            await stream.receive()
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    return peer


async def _leaves(stream: ByteStream) -> None:
    await stream.receive()


async def _stays_silent(stream: ByteStream) -> None:
    try:
        async for _ in stream:
            pass
    except anyio.BrokenResourceError:
        pass


# -- the URL is in every error, its secrets in none ------------------------------------------

SWITCHING = b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
REDIRECT = b"HTTP/1.1 302 x\r\nLocation: ?secret\r\nContent-Length: 0\r\n\r\n"

FAILURES: dict[str, tuple[Peer, type[Exception], dict[str, Any]]] = {
    # the server, what is raised, options
    "a status": (_says(b"HTTP/1.1 403 x\r\nContent-Length: 4\r\n\r\nno\n\n"), HandshakeRejected, {}),
    "a redirect": (_says(REDIRECT), HandshakeRejected, {"max_redirects": 1}),
    "another language": (_says(b"SSH-2.0-OpenSSH_9.6\r\n"), HandshakeError, {}),
    "a wrong answer": (_says(SWITCHING), HandshakeError, {}),
    "the end": (_leaves, HandshakeError, {}),
    "the wrong proxy": (_says(b"HTTP/1.1 403 x\r\nContent-Length: 0\r\n\r\n"), ProxyError, {"proxy": True}),
    "silence": (_stays_silent, TimeoutError, {"open_timeout": 0.05}),
    "no TLS": (_says(b"HTTP/1.1 400 x\r\n\r\n"), ssl.SSLError, {"scheme": "wss"}),
    "no name for TLS": (_stays_silent, ValueError, {"scheme": "wss", "server_hostname": ".bad."}),
    "nobody": (_leaves, ConnectionRefusedError, {"port": 1}),
    "a proxy that is not there": (_leaves, ConnectionRefusedError, {"port": 1, "proxy": True}),
}  # fmt: skip


@pytest.mark.parametrize("case", FAILURES)
async def test_every_error_names_the_url_and_no_secret(listen: Listen, case: str) -> None:
    peer, kind, given = FAILURES[case]
    options = dict(given)
    scheme = options.pop("scheme", "ws")
    async with listen(peer) as port:
        port = options.pop("port", port)
        if options.pop("proxy", False):
            options["proxy"] = f"http://user:secret@127.0.0.1:{port}"
        url = f"{scheme}://127.0.0.1:{port}/path"
        full = url.replace("//", "//user:secret@") + "?token=secret"
        headers = {"Authorization": "secret", "Cookie": "secret"}
        with pytest.raises(kind) as caught:
            await fail_to_connect(full, headers=headers, **options)
        assert url in _whole_text(caught.value)
        assert "secret" not in _whole_text(caught.value)
        if isinstance(caught.value, HandshakeError):
            assert caught.value.url == url
            assert url in str(caught.value)
        with pytest.raises(kind) as caught:
            async for _ in reconnect(full, headers=headers, delays=[], **options):
                pytest.fail("entered")
        assert url in _whole_text(caught.value)
        assert "secret" not in _whole_text(caught.value)


async def test_errors_of_the_system_keep_their_type_and_number() -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        with pytest.raises(ConnectionRefusedError) as caught:
            await fail_to_connect(f"ws://127.0.0.1:{port}/")
    assert (caught.value.errno, caught.value.strerror) == (
        errno.ECONNREFUSED,
        f"cannot connect to 127.0.0.1 port {port}: Connection refused",
    )
    with pytest.raises(socket.gaierror, match=r"cannot resolve 'nobody.invalid': ") as resolved:
        await fail_to_connect("ws://nobody.invalid/path")
    assert resolved.value.__notes__ == ["This was on the way to ws://nobody.invalid/path."]


async def test_the_end_of_a_connection_names_the_url_out_of_reconnect() -> None:
    async def closes(ws: WebSocketStream) -> None:
        await ws.aclose(1008)

    async with serve(closes, "127.0.0.1") as server:
        with pytest.raises(ConnectionBroken) as caught:
            async for ws in reconnect(f"{server.url}/path?secret"):
                await ws.wait_closed()
    assert caught.value.__notes__ == [f"This was the connection to {server.url}/path."]


async def test_behind_a_redirect_it_is_the_url_that_it_led_to() -> None:
    def process_request(request: Any) -> Response:
        return Response(302, {"Location": "/there?secret"}) if request.path == "/" else Response(404)

    async with serve(stay_open, "127.0.0.1", process_request=process_request) as server:
        with pytest.raises(HandshakeRejected) as caught:
            await fail_to_connect(server.url, max_redirects=1)
    assert caught.value.url == f"{server.url}/there"


async def test_the_first_line_of_a_refusal_is_quoted_escaped_and_cut() -> None:
    bodies = {
        "\n\n no such path \nsecond line": ": 'no such path' (",
        "\x1b[31mred\u202e": r": '\x1b[31mred\u202e' (",
        "x" * 1000: ": '" + "x" * 99 + "... (",
        "": "status 404 (",
        " \n ": "status 404 (",
    }
    for body, expected in bodies.items():
        async with serve(
            stay_open, "127.0.0.1", process_request=lambda _, body=body: Response(404, body=body)
        ) as server:
            with pytest.raises(HandshakeRejected) as caught:
                await fail_to_connect(server.url)
            assert expected in str(caught.value)
            assert "second line" not in str(caught.value)


async def test_compression_that_was_not_offered_so_is_an_error_with_the_url() -> None:
    from wsstream.testing import RawPeer

    ours, theirs = memory_pair()
    field = ("Sec-WebSocket-Extensions", "permessage-deflate; server_max_window_bits=x")
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(lambda: RawPeer.as_server(theirs, headers=[field]))
        with pytest.raises(HandshakeError, match=r"\(ws://h/\)") as caught:
            await fail_to_connect("ws://h/?secret", transport=ours, compression=Deflate())
    assert "secret" not in str(caught.value)


# -- a timeout says what was waited for ------------------------------------------------------


@pytest.fixture
def full_backlog() -> Iterator[int]:
    """The port of a listener that takes no more connections: packets to it are dropped."""
    with socket.socket() as sock, socket.socket() as first, socket.socket() as second:
        sock.bind(("127.0.0.1", 0))
        sock.listen(0)
        for filler in (first, second):
            filler.setblocking(False)
            filler.connect_ex(sock.getsockname())
        yield sock.getsockname()[1]


async def _timed_out(url: str, **options: Any) -> str:
    with pytest.raises(TimeoutError) as caught:
        await fail_to_connect(url, open_timeout=0.05, **options)
    assert type(caught.value) is TimeoutError
    return str(caught.value)


@pytest.mark.not_on_uvloop  # it asks a resolver of its own
async def test_a_name_that_is_not_resolved_in_time_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    resolved = threading.Event()

    def getaddrinfo(*arguments: Any, flags: int = 0, **_: Any) -> Any:
        if (arguments[5] if len(arguments) > 5 else flags) & socket.AI_NUMERICHOST:
            raise socket.gaierror(socket.EAI_NONAME, "not an address")  # Trio asks first
        resolved.wait(10)
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    try:
        text = await _timed_out("ws://feed.example/path?secret")
    finally:
        resolved.set()
    assert text == "no address of feed.example for ws://feed.example/path within 0.05 s"


async def test_a_server_that_does_not_answer_tcp_is_named(full_backlog: int) -> None:
    url = f"ws://127.0.0.1:{full_backlog}/path"
    assert await _timed_out(url) == (
        f"no TCP connection to 127.0.0.1 port {full_backlog} for {url} within 0.05 s"
    )
    text = await _timed_out(f"ws://localhost:{full_backlog}/")
    assert text.startswith(f"no TCP connection to localhost port {full_backlog} (tried ")
    assert "127.0.0.1" in text


@pytest.mark.parametrize("over", ["socket", "stream"])
async def test_a_server_that_does_not_answer_tls_is_named(
    listen: Listen, client_tls: ssl.SSLContext, over: str
) -> None:
    async with listen(_stays_silent) as port:
        url = f"wss://127.0.0.1:{port}/path"
        stream = None if over == "socket" else await anyio.connect_tcp("127.0.0.1", port)
        text = await _timed_out(url, ssl=client_tls, transport=stream)
    kind = "TCP" if over == "socket" else "given"
    assert text == f"no end of the TLS handshake with {url} within 0.05 s (the {kind} connection was open)"


@pytest.mark.parametrize("kind", ["http", "socks5h"])
async def test_a_proxy_that_does_not_answer_is_named(listen: Listen, kind: str) -> None:
    async with listen(_stays_silent) as port:
        text = await _timed_out("ws://feed.example/x", proxy=f"{kind}://user:secret@127.0.0.1:{port}")
    assert text == (
        f"no answer from the proxy {kind}://127.0.0.1:{port} for ws://feed.example/x within 0.05 s "
        "(the connection to it was open)"
    )


async def test_a_proxy_that_does_not_answer_tcp_or_tls_is_named(listen: Listen, full_backlog: int) -> None:
    text = await _timed_out("ws://feed.example/", proxy=f"http://127.0.0.1:{full_backlog}")
    assert text == (
        f"no TCP connection to 127.0.0.1 port {full_backlog} for ws://feed.example/ within 0.05 s"
    )
    async with listen(_stays_silent) as port:
        text = await _timed_out("ws://feed.example/", proxy=f"https://127.0.0.1:{port}")
    assert f"no end of the TLS handshake with the proxy https://127.0.0.1:{port} for ws://feed" in text


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("over", ["TCP", "TLS", "given", "proxy"])
async def test_a_server_that_does_not_answer_the_handshake_is_named(
    listen: Listen, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, over: str
) -> None:
    async def proxy_to_silence(stream: ByteStream) -> None:
        await _says(b"HTTP/1.1 200 x\r\n\r\n")(stream)
        await _stays_silent(stream)

    tls = over == "TLS"
    async with listen(
        proxy_to_silence if over == "proxy" else _stays_silent, server_tls if tls else None
    ) as port:
        url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}/path"
        options: dict[str, Any] = {
            "TCP": {},
            "TLS": {"ssl": client_tls},
            "given": {"transport": memory_pair()[0]},
            "proxy": {"proxy": f"http://127.0.0.1:{port}"},
        }[over]
        text = await _timed_out(f"{url}?secret", **options)
    kind = "TCP" if over == "proxy" else over
    assert text == (
        f"no answer to the opening handshake from {url} within 0.05 s (the {kind} connection was open)"
    )


async def test_a_function_that_opens_no_stream_in_time_is_named() -> None:
    async def open_stream() -> ByteStream:
        await anyio.sleep_forever()
        raise AssertionError

    text = await _timed_out("ws://feed.example/", transport=open_stream)
    assert text == "no stream from the function given as transport for ws://feed.example/ within 0.05 s"


async def test_a_timeout_of_the_caller_is_the_callers(listen: Listen) -> None:
    async with listen(_stays_silent) as port:
        with pytest.raises(TimeoutError) as caught, anyio.fail_after(0.05):
            await fail_to_connect(f"ws://127.0.0.1:{port}/")
    assert str(caught.value) == ""


# -- arguments of the wrong type -------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"ssl": True}, "ssl must be an ssl.SSLContext or None, got bool"),
        ({"ssl": "cert.pem"}, "ssl must be an ssl.SSLContext or None, got str"),
        ({"server_hostname": b"h"}, "server_hostname must be a str or None, got bytes"),
        ({"transport": 5}, "transport must be a ByteStream or a function that opens one, got int"),
        ({"transport": socket.socket}, None),  # a function, as far as one can see
        ({"headers": ["X: secret"]}, "pairs of \\(name, value\\), item 0 is a str"),
        ({"headers": [("X", "y"), ("X", "y", "secret")]}, "pairs of \\(name, value\\), item 1 has length 3"),
        ({"headers": "X: secret"}, "pairs of \\(name, value\\), got str"),
        ({"headers": b"X: secret"}, "pairs of \\(name, value\\), got bytes"),
        ({"headers": 5}, "pairs of \\(name, value\\), got int"),
        ({"headers": ["ab"]}, "item 0 is a str"),
        ({"proxy": "http://h", "proxy_headers": ["X: secret"]}, "item 0 is a str"),
        ({"max_redirects": "1"}, "max_redirects must be an int, got str"),
    ],
    ids=str,
)
def test_an_argument_of_the_wrong_type_is_refused_by_the_call_itself(
    options: dict[str, Any], complaint: str | None
) -> None:
    for call in (connect, reconnect):
        if complaint is None:
            call("wss://h/", **options)
            continue
        with pytest.raises(TypeError, match=complaint) as caught:
            call("wss://h/", **options)
        assert "secret" not in _whole_text(caught.value)


@pytest.mark.parametrize("url", [b"ws://h/", None, 5])
def test_a_url_that_is_no_str_is_a_type_error(url: Any) -> None:
    with pytest.raises(TypeError, match=f"a URL must be a str, got {type(url).__name__}"):
        connect(url)
    with pytest.raises(
        TypeError, match=f"url must be a str or a function that returns one, got {type(url).__name__}"
    ):
        reconnect(url)


# -- statements that they are not made for ---------------------------------------------------


async def test_connect_in_another_statement_says_what_to_write() -> None:
    use = 'use "async with connect\\(url\\) as ws"'
    with pytest.raises(TypeError, match=use):
        await connect("ws://h/")  # type: ignore[misc]
    with pytest.raises(TypeError, match=use), connect("ws://h/"):  # type: ignore[attr-defined]
        pytest.fail("entered")
    with pytest.raises(TypeError, match='use "async for ws in reconnect\\(url\\)"'):
        async for _ in connect("ws://h/"):  # type: ignore[attr-defined]
            pytest.fail("entered")


async def test_reconnect_in_another_statement_says_what_to_write() -> None:
    use = 'use "async for ws in reconnect\\(url\\)"'
    with pytest.raises(TypeError, match=use):
        await reconnect("ws://h/")  # type: ignore[misc]
    with pytest.raises(TypeError, match=use), reconnect("ws://h/"):  # type: ignore[attr-defined]
        pytest.fail("entered")
    with pytest.raises(TypeError, match=use):
        async with reconnect("ws://h/"):  # type: ignore[attr-defined]
            pytest.fail("entered")
    with pytest.raises(TypeError, match=use):
        list(reconnect("ws://h/"))  # type: ignore[call-overload]
