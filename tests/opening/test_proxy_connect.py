"""The CONNECT exchange, in pieces of any size."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.errors import HandshakeError, HandshakeRejected, ProxyError
from wsstream.opening.http1_heads import MAX_HEAD_SIZE
from wsstream.opening.http1_request import MAX_BODY_EXCERPT, MAX_INFORMATIONAL
from wsstream.opening.proxy_connect import TunnelHandshake, validate_proxy_headers
from wsstream.opening.proxy_url import Proxy

PROXY = Proxy("http", "proxy.example", 3128)


def splits(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for position in range(1, len(data)):
        yield [data[:position], data[position:]]


def outcome(pieces: list[bytes]) -> bool | ProxyError:
    """What comes of `pieces`, and then the end of the stream."""
    tunnel = TunnelHandshake(PROXY, "server.example", 443)
    try:
        return any(tunnel.receive_data(piece) for piece in pieces) or bool(tunnel.receive_data(b""))
    except ProxyError as exc:
        return exc


REQUESTS = [
    # host, port, userinfo, request
    ("server.example", 443, None, b"CONNECT server.example:443 HTTP/1.1\r\nHost: server.example:443\r\n\r\n"),
    ("server.example.", 80, None, b"CONNECT server.example.:80 HTTP/1.1\r\nHost: server.example.:80\r\n\r\n"),
    ("127.0.0.1", 1, None, b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nHost: 127.0.0.1:1\r\n\r\n"),
    ("2001:db8::1", 443, None, b"CONNECT [2001:db8::1]:443 HTTP/1.1\r\nHost: [2001:db8::1]:443\r\n\r\n"),
    (
        "a",
        1,
        ("Aladdin", "open sesame"),  # RFC 7617 section 2
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n"
        b"Proxy-Authorization: Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==\r\n\r\n",
    ),
    (
        "a",
        1,
        ("test", "123\u00a3"),  # RFC 7617 section 2.1
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nProxy-Authorization: Basic dGVzdDoxMjPCow==\r\n\r\n",
    ),
]


@pytest.mark.parametrize(("host", "port", "userinfo", "request_"), REQUESTS)
def test_the_request_is_that_of_rfc_9110(
    host: str, port: int, userinfo: tuple[str, str] | None, request_: bytes
) -> None:
    tunnel = TunnelHandshake(Proxy("http", "proxy.example", 3128, userinfo), host, port)
    assert tunnel.data_to_send() == request_
    assert tunnel.data_to_send() == b""


def test_further_fields_are_sent_and_may_bring_their_own_credentials() -> None:
    proxy = Proxy("http", "p", 80, ("user", "secret"))
    fields = validate_proxy_headers({"User-Agent": "x/1", "proxy-authorization": "Bearer t"})
    request = TunnelHandshake(proxy, "a", 1, fields).data_to_send()
    assert request == (
        b"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nUser-Agent: x/1\r\nproxy-authorization: Bearer t\r\n\r\n"
    )
    fields = validate_proxy_headers([("X-A", "1"), ("X-A", "2")])
    request = TunnelHandshake(proxy, "a", 1, fields).data_to_send()
    assert b"Proxy-Authorization: Basic dXNlcjpzZWNyZXQ=\r\nX-A: 1\r\nX-A: 2\r\n" in request


@pytest.mark.parametrize("name", ["Host", "Content-Length", "transfer-encoding", "CONNECTION", "Upgrade"])
def test_what_connect_sets_itself_is_no_further_field(name: str) -> None:
    with pytest.raises(ValueError, match=f"proxy_headers must not have {name.lower()}"):
        validate_proxy_headers({"X": "y", name: "z"})


OPEN = {
    "200": b"HTTP/1.1 200 Connection established\r\n\r\n",
    "HTTP/1.0": b"HTTP/1.0 200 Connection established\r\nProxy-Agent: x\r\n\r\n",
    "another 2xx": b"HTTP/1.1 204 x\r\n\r\n",
    # RFC 9110 section 9.3.6: both are ignored.
    "Content-Length": b"HTTP/1.1 200 x\r\nContent-Length: 5\r\n\r\n",
    "chunked": b"HTTP/1.1 200 x\r\nTransfer-Encoding: chunked\r\n\r\n",
    "Connection: close": b"HTTP/1.1 200 x\r\nConnection: close\r\n\r\n",
    "after informational": b"HTTP/1.1 100 Continue\r\n\r\n" * MAX_INFORMATIONAL + b"HTTP/1.1 200 x\r\n\r\n",
}


@pytest.mark.parametrize("answer", OPEN.values(), ids=OPEN)
def test_an_answer_2xx_in_any_pieces_opens_the_tunnel_with_its_last_byte(answer: bytes) -> None:
    for pieces in splits(answer):
        tunnel = TunnelHandshake(PROXY, "server.example", 443)
        responses = [tunnel.receive_data(piece) for piece in pieces]
        assert responses[:-1] == [None] * (len(pieces) - 1)
        assert responses[-1] is not None
        assert 200 <= responses[-1].status <= 299


REFUSED = {
    "403": (b"HTTP/1.1 403 x\r\nContent-Length: 2\r\n\r\nno", 403, b"no"),
    "407": (b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nContent-Length: 0\r\n\r\n", 407, b""),
    "502 to the end": (b"HTTP/1.0 502 x\r\n\r\nbad gateway", 502, b"bad gateway"),
    "504 chunked": (
        b"HTTP/1.1 504 x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nlate\r\n0\r\n\r\n",
        504,
        b"late",
    ),
    "a redirect": (b"HTTP/1.1 302 x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", 302, b""),
    "beyond 599": (b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", 999, b""),
    "cut short": (b"HTTP/1.1 403 x\r\nContent-Length: 20\r\n\r\nno", 403, b"no"),
}


@pytest.mark.parametrize(("answer", "status", "body"), REFUSED.values(), ids=REFUSED)
def test_another_status_in_any_pieces_is_a_proxy_error_with_it(
    answer: bytes, status: int, body: bytes
) -> None:
    for pieces in splits(answer):
        error = outcome(pieces)
        assert isinstance(error, ProxyError)
        assert (error.status, error.body) == (status, body)
        assert isinstance(error, HandshakeError)
        assert not isinstance(error, HandshakeRejected)
        assert str(status) in str(error)


@pytest.mark.parametrize("head", [b"", b"Content-Length: 100\r\n", b"Content-Type: text/event-stream\r\n"])
def test_a_refusal_is_told_from_its_status_on_with_what_is_there_of_the_body(head: bytes) -> None:
    tunnel = TunnelHandshake(PROXY, "server.example", 443)
    assert tunnel.receive_data(b"HTTP/1.1 407 x\r\n" + head) is None
    assert not tunnel.head_received
    assert tunnel.receive_data(b"\r\nwho are you?\nsecond line") is None
    assert tunnel.head_received
    with pytest.raises(ProxyError) as caught:
        tunnel.receive_data(b"")
    assert (caught.value.status, caught.value.body) == (407, b"who are you?\nsecond line")
    assert str(caught.value) == (
        "the proxy http://proxy.example:3128 answered CONNECT with HTTP status 407: 'who are you?'"
    )


@pytest.mark.parametrize(
    ("answer", "hinted"), [(b"", True), (b"\x15\x03\x01\x00\x02\x02\x46", True), (b"SSH-", False)]
)
def test_a_proxy_that_may_speak_tls_is_told_so_unless_it_does(answer: bytes, hinted: bool) -> None:
    for scheme in ("http", "https"):
        tunnel = TunnelHandshake(Proxy(scheme, "p", 80), "server.example", 443)
        with pytest.raises(ProxyError) as caught:
            tunnel.receive_data(answer)
        assert ("https:// in its URL" in str(caught.value)) is (hinted and scheme == "http")
    assert "because" in str(tunnel.broken(OSError("because")))


def test_the_names_of_the_headers_are_in_lower_case_and_one_kib_is_kept_of_the_body() -> None:
    head = b"HTTP/1.1 407 x\r\nProxy-Authenticate: Basic\r\nX-A: 1\r\nx-a: 2\r\n\r\n"
    tunnel = TunnelHandshake(PROXY, "server.example", 443)
    assert not tunnel.receive_data(head + b"x" * (MAX_BODY_EXCERPT - 1))
    with pytest.raises(ProxyError) as caught:
        tunnel.receive_data(b"yz")
    assert caught.value.body == b"x" * (MAX_BODY_EXCERPT - 1) + b"y"
    assert caught.value.headers == [("proxy-authenticate", "Basic"), ("x-a", "1"), ("x-a", "2")]


BROKEN = {
    "nothing": b"",
    "half a head": b"HTTP/1.1 200 Connection esta",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x46",
    "SOCKS": b"\x05\xff",
    "SSH": b"SSH-2.0-OpenSSH\r\n",
    "no status": b"HTTP/1.1 fine\r\n\r\n",
    "another version": b"HTTP/2.0 200 x\r\n\r\n",
    "a folded line": b"HTTP/1.1 200 x\r\nA: b\r\n c\r\n\r\n",
    "a control character": b"HTTP/1.1 200 x\r\nA: \x00\r\n\r\n",
    "101": b"HTTP/1.1 101 x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
    "only informational": b"HTTP/1.1 100 Continue\r\n\r\n" * (MAX_INFORMATIONAL + 1),
    "an endless head": b"HTTP/1.1 200 x\r\nA: " + b"x" * MAX_HEAD_SIZE,
    "bytes behind it": b"HTTP/1.1 200 x\r\n\r\nHTTP/1.1 101 x",
    "a body behind it": b"HTTP/1.1 200 x\r\nContent-Length: 2\r\n\r\nhi",
}


@pytest.mark.parametrize("answer", BROKEN.values(), ids=BROKEN)
def test_what_is_no_answer_is_a_proxy_error_without_a_status(answer: bytes) -> None:
    error = outcome([answer] if answer else [])
    assert isinstance(error, ProxyError)
    assert (error.status, error.headers, error.body) == (None, [], b"")
    assert "proxy" in str(error)
    assert len(str(error)) < 250


def test_a_head_that_arrives_byte_by_byte_is_given_up_at_its_bound() -> None:
    tunnel = TunnelHandshake(PROXY, "server.example", 443)
    tunnel.receive_data(b"HTTP/1.1 200 x\r\nA: ")
    with pytest.raises(ProxyError, match="larger than 65536 bytes"):
        for _ in range(MAX_HEAD_SIZE):
            assert not tunnel.receive_data(b"x")


@given(
    st.sampled_from([b"", *OPEN.values(), b"HTTP/1.1 403 x\r\n", b"HTTP/1.1 403 x\r\n\r\n"]),
    st.binary(max_size=30) | st.sampled_from([b"\r\n\r\n", b"Transfer-Encoding: chunked\r\n\r\nzz"]),
    st.integers(1, 10),
)
def test_no_bytes_make_it_raise_anything_else_and_pieces_make_no_difference(
    start: bytes, rest: bytes, step: int
) -> None:
    data = start + rest
    whole = outcome([data] if data else [])
    cut = outcome([data[i : i + step] for i in range(0, len(data), step)])
    if isinstance(whole, ProxyError) and isinstance(cut, ProxyError):
        assert (str(whole), whole.status, whole.body) == (str(cut), cut.status, cut.body)
    else:  # what follows an answer 2xx is only seen with it
        assert cut is True
