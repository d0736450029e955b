"""The opening handshake over HTTP/1.1, in pieces of any size."""

from __future__ import annotations

import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.errors import HandshakeError, HandshakeRejected
from wsstream.opening.extensions import Extension
from wsstream.opening.handshake_server import Offer, RequestRejected, check_request
from wsstream.opening.http import Request, Response
from wsstream.opening.http1 import ClientHandshake, ServerHandshake, Upgraded
from wsstream.opening.http1_heads import MAX_FIELDS, MAX_HEAD_SIZE, MAX_ITEMS
from wsstream.opening.http1_request import MAX_BODY_EXCERPT, MAX_INFORMATIONAL
from wsstream.opening.url import parse_url

NONCE = b"the sample nonce"  # RFC 6455 section 1.3
REQUEST = (
    b"GET /chat?x=%20 HTTP/1.1\r\n"
    b"Host: server.example.com\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Version: 13\r\n"
    b"\r\n"
)
ANSWER = (
    b"HTTP/1.1 101 Switching Protocols\r\n"
    b"Upgrade: websocket\r\n"
    b"Connection: Upgrade\r\n"
    b"Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n"
    b"\r\n"
)
FRAMES = b"\x81\x05Hello\x88\x00\r\n\r\nGET \0"


def splits(data: bytes) -> Iterator[list[bytes]]:
    """`data` whole, byte by byte, and cut in two at every position."""
    yield [data]
    yield [data[i : i + 1] for i in range(len(data))]
    for position in range(1, len(data)):
        yield [data[:position], data[position:]]


def client(**options: object) -> ClientHandshake:
    return ClientHandshake(parse_url("ws://server.example.com/chat?x=%20"), key=NONCE, **options)  # type: ignore[arg-type]


def received(handshake: ClientHandshake, pieces: list[bytes]) -> Upgraded | HandshakeError | None:
    """What comes of `pieces`; bytes that are left then are put behind what trailed."""
    for index, piece in enumerate(pieces):
        try:
            accepted = handshake.receive_data(piece)
        except HandshakeError as exc:
            return exc
        if accepted is not None:
            rest = b"".join(pieces[index + 1 :])
            return Upgraded(
                accepted.response, accepted.subprotocol, accepted.extensions, accepted.trailing + rest
            )
    return None


def requested(
    handshake: ServerHandshake, pieces: list[bytes]
) -> tuple[Request | HandshakeError | None, bytes]:
    """What comes of `pieces`, and the bytes behind it."""
    for index, piece in enumerate(pieces):
        try:
            request = handshake.receive_data(piece)
        except HandshakeError as exc:
            return exc, b""
        if request is not None:
            return request, handshake.trailing + b"".join(pieces[index + 1 :])
    return None, b""


# --- Client ---


def test_the_request_is_the_one_of_the_rfc() -> None:
    handshake = client()
    assert handshake.data_to_send() == REQUEST
    assert handshake.data_to_send() == b""
    request = handshake.request
    assert (request.method, request.target, request.path, request.query) == (
        "GET",
        "/chat?x=%20",
        "/chat",
        "x=%20",
    )
    assert request.headers["sec-websocket-key"] == "dGhlIHNhbXBsZSBub25jZQ=="


def test_the_request_carries_the_options() -> None:
    handshake = client(
        subprotocols=("a", "b"),
        extensions=(Extension("x", (("y", "1"),)),),
        headers={"Cookie": "grüße=1", "Host": "other"},
        origin="https://page",
    )
    data = handshake.data_to_send()
    assert data.startswith(b"GET /chat?x=%20 HTTP/1.1\r\nHost: other\r\n")
    assert "\r\nCookie: grüße=1\r\n".encode("latin-1") in data
    assert b"\r\nOrigin: https://page\r\n" in data
    assert b"\r\nSec-WebSocket-Protocol: a, b\r\nSec-WebSocket-Extensions: x; y=1\r\n" in data
    assert data.count(b"\r\n\r\n") == 1


def test_what_cannot_be_sent_is_refused_before_anything_is_sent() -> None:
    with pytest.raises(ValueError, match="16 bytes"):
        ClientHandshake(parse_url("ws://h"), key=b"short")
    with pytest.raises(ValueError):
        client(headers={"X": "a\r\nY: b"})
    with pytest.raises(TypeError):
        client(headers={"X": 5})


def test_an_answer_in_any_pieces_opens_the_connection_and_loses_no_byte() -> None:
    for trailing in (b"", FRAMES):
        for pieces in splits(ANSWER + trailing):
            accepted = received(client(), pieces)
            assert isinstance(accepted, Upgraded)
            assert accepted.trailing == trailing
            assert accepted.response.status == 101
            assert accepted.response.headers["upgrade"] == "websocket"
            assert (accepted.subprotocol, accepted.extensions) == ("", ())


def test_an_answer_is_not_there_before_its_last_byte() -> None:
    handshake = client()
    for byte in ANSWER[:-1]:
        assert handshake.receive_data(bytes([byte])) is None
    assert handshake.receive_data(ANSWER[-1:]) is not None


def test_subprotocol_and_extensions_of_the_answer_are_those_chosen() -> None:
    extensions = (Extension("x", (("a", None),)), Extension("y"))
    handshake = client(subprotocols=("a", "b"), extensions=extensions)
    chosen = b"Sec-WebSocket-Protocol: b\r\nSec-WebSocket-Extensions: y; z=1\r\n\r\n"
    accepted = handshake.receive_data(ANSWER[:-2] + chosen)
    assert accepted is not None
    assert (accepted.subprotocol, accepted.extensions) == ("b", (Extension("y", (("z", "1"),)),))


INFORMATIONAL = b"HTTP/1.1 100 Continue\r\n\r\n", b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"


def test_informational_responses_are_skipped() -> None:
    for pieces in splits(b"".join(INFORMATIONAL) + ANSWER + b"x"):
        accepted = received(client(), pieces)
        assert isinstance(accepted, Upgraded)
        assert accepted.trailing == b"x"


def test_the_number_of_informational_responses_is_bounded() -> None:
    accepted = client().receive_data(INFORMATIONAL[0] * MAX_INFORMATIONAL + ANSWER)
    assert accepted is not None
    with pytest.raises(HandshakeError, match="informational"):
        client().receive_data(INFORMATIONAL[0] * (MAX_INFORMATIONAL + 1))


BAD_ANSWERS = {
    "nothing of HTTP": b"SSH-2.0-OpenSSH_9.6\r\n",
    "TLS": b"\x15\x03\x01\x00\x02\x02\x50",
    "an empty line first": b"\r\n" + ANSWER,
    "lower case": b"http/1.1 101 x\r\n\r\n",
    "another name": b"HTTQ",
    "HTTP/1.0": ANSWER.replace(b"HTTP/1.1", b"HTTP/1.0"),
    "a higher version": ANSWER.replace(b"HTTP/1.1", b"HTTP/2.0"),
    "a status of two digits": ANSWER.replace(b"101", b"10"),
    "a status below 100": ANSWER.replace(b"101", b"001"),
    "no colon": ANSWER.replace(b"Upgrade: web", b"Upgrade web"),
    "a blank before the colon": ANSWER.replace(b"Upgrade:", b"Upgrade :"),
    "a folded line": ANSWER.replace(b"Upgrade: web", b"Upgrade:\r\n web"),
    "a folded first field": ANSWER.replace(b"Upgrade: web", b" Upgrade: web"),
    "a folded line, tab": ANSWER.replace(b"Upgrade: web", b"X: y\r\n\tz\r\nUpgrade: web"),
    "a bare CR": ANSWER.replace(b"Upgrade: web", b"X: y\rz\r\nUpgrade: web"),
    "a NUL": ANSWER.replace(b"Upgrade: web", b"X: \0\r\nUpgrade: web"),
    "a control character": ANSWER.replace(b"Upgrade: web", b"X: a\x1bz\r\nUpgrade: web"),
    "a wrong key": ANSWER.replace(b"s3pP", b"S3pP"),
    "no upgrade": ANSWER.replace(b"Upgrade: websocket\r\n", b""),
    "more fields than 100": ANSWER.replace(b"Upgrade: web", b"a:\n" * MAX_FIELDS + b"Upgrade: web"),
    "two lengths": ANSWER.replace(b"\r\n\r\n", b"\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n"),
}


@pytest.mark.parametrize("answer", BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_answer_in_any_pieces_fails_the_handshake(answer: bytes) -> None:
    errors = []
    for pieces in splits(answer):
        error = received(client(), pieces)
        assert type(error) is HandshakeError
        errors.append(str(error))
    assert len(set(errors)) == 1  # the same reason, however it is cut


def test_the_error_of_h11_is_the_cause_and_little_of_it_is_quoted() -> None:
    with pytest.raises(HandshakeError) as caught:
        client().receive_data(b"HTTP/1.1 " + b"x" * 10_000 + b"\r\n\r\n")
    assert isinstance(caught.value.__cause__, h11.RemoteProtocolError)
    assert len(str(caught.value)) < 250


@pytest.mark.parametrize("length", [0, 1, 30, len(ANSWER) - 1])
def test_an_answer_that_is_cut_off_fails_the_handshake(length: int) -> None:
    error = received(client(), [ANSWER[:length], b""] if length else [b""])
    assert type(error) is HandshakeError
    assert "closed the connection" in str(error)


def head_of(size: int, start: bytes) -> bytes:
    """A head of `size` bytes that begins with `start`."""
    head = start.removesuffix(b"\r\n")
    return head + b"X: " + b"y" * (size - len(head) - 7) + b"\r\n\r\n"


@pytest.mark.parametrize("step", [1 << 20, 1000])
def test_a_head_of_64_kib_is_read_and_one_byte_more_is_too_much(step: int) -> None:
    for size, start in ((MAX_HEAD_SIZE, ANSWER), (MAX_HEAD_SIZE + 1, ANSWER)):
        head = head_of(size, start)
        assert len(head) == size
        outcome = received(client(), [head[i : i + step] for i in range(0, size, step)])
        assert isinstance(outcome, Upgraded) == (size <= MAX_HEAD_SIZE)
    head = b"HTTP/1.1 101 x\r\nX: "
    handshake = client()
    handshake.receive_data(head)
    with pytest.raises(HandshakeError, match="larger than 65536 bytes"):
        for _ in range(MAX_HEAD_SIZE + 1 - len(head)):
            handshake.receive_data(b"y")


TLS_ALERT = b"\x15\x03\x01\x00\x02\x02\x46"


@pytest.mark.parametrize(
    ("url", "pieces", "hinted"),
    [
        ("ws://h", [b""], True),
        ("ws://h", [TLS_ALERT], True),
        ("ws://h", [TLS_ALERT[:1]], True),
        ("ws://h", [b"HTTP/1.1 101", b""], False),
        ("ws://h", [INFORMATIONAL[0], b""], False),
        ("ws://h", [b"SSH-2.0"], False),
        ("wss://h", [b""], False),
        ("ws+unix:/s", [b""], False),
    ],
)
def test_a_server_that_may_speak_tls_has_the_other_scheme_named(
    url: str, pieces: list[bytes], hinted: bool
) -> None:
    handshake = ClientHandshake(parse_url(url), key=NONCE)
    error = received(handshake, pieces)
    assert isinstance(error, HandshakeError)
    assert (error.hint == "if the port speaks TLS, use wss://") is hinted
    assert handshake.broken(OSError("it rains")).hint == error.hint


def test_a_broken_connection_is_told_with_its_cause() -> None:
    error = client().broken(ConnectionResetError(104, "reset by peer"))
    assert type(error) is HandshakeError
    assert str(error).startswith("the connection broke before the server answered: [Errno 104] reset by peer")


# --- Client: rejections ---


def test_a_rejection_is_told_from_its_status_on() -> None:
    handshake = client()
    assert handshake.receive_data(b"HTTP/1.1 404 Not Found\r\n") is None
    assert not handshake.head_received
    assert handshake.receive_data(b"\r\nno such") is None
    assert handshake.head_received
    assert handshake.receive_data(b" path\nby this name") is None
    with pytest.raises(HandshakeRejected, match=r"HTTP status 404: 'no such path'$") as caught:
        handshake.receive_data(b"")
    assert caught.value.body == b"no such path\nby this name"


REJECTIONS = {
    "a length": (b"HTTP/1.1 404 Not Found\r\nContent-Length: 5\r\nX-A: b\r\n\r\nsorry", 404, b"sorry"),
    "a length of 0": (b"HTTP/1.1 401 No\r\nContent-Length: 0\r\n\r\n", 401, b""),
    "no content": (b"HTTP/1.1 204 No Content\r\n\r\n", 204, b""),
    "chunked": (
        b"HTTP/1.1 503 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nX: y\r\n\r\n",
        503,
        b"abcde",
    ),
    "more than is kept": (
        b"HTTP/1.1 500 x\r\nContent-Length: 3000\r\n\r\n" + b"ab" * 1500,
        500,
        b"ab" * (MAX_BODY_EXCERPT // 2),
    ),
    "as much as is kept": (b"HTTP/1.1 500 x\r\nContent-Length: 1024\r\n\r\n" + b"a" * 1024, 500, b"a" * 1024),
    "no reason": (b"HTTP/1.1 403\r\nContent-Length: 2\r\n\r\nno", 403, b"no"),
    "a redirect": (b"HTTP/1.1 301 x\r\nLocation: /y\r\nContent-Length: 0\r\n\r\n", 301, b""),
    "HTTP/1.0": (b"HTTP/1.0 400 x\r\nContent-Length: 1\r\n\r\nz", 400, b"z"),
    "after informational": (INFORMATIONAL[0] + b"HTTP/1.1 404 x\r\nContent-Length: 1\r\n\r\nz", 404, b"z"),
    "a body that is malformed": (
        b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcX",
        500,
        b"abc",
    ),
    "200": (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nhi", 200, b"hi"),
    "a status beyond 599": (b"HTTP/1.1 999 x\r\nContent-Length: 0\r\n\r\n", 999, b""),
    "Upgrade and all": (ANSWER.replace(b"101", b"200", 1)[:-2] + b"Content-Length: 0\r\n\r\n", 200, b""),
}


@pytest.mark.parametrize(("answer", "status", "body"), REJECTIONS.values(), ids=REJECTIONS)
def test_a_rejection_in_any_pieces_has_status_headers_and_body(
    answer: bytes, status: int, body: bytes
) -> None:
    for pieces in splits(answer) if len(answer) < 1000 else [[answer], [answer[:30], answer[30:]]]:
        error = received(client(), pieces)
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.body) == (status, body)


def test_the_names_of_the_headers_of_a_rejection_are_in_lower_case() -> None:
    error = received(client(), [b"HTTP/1.1 404 x\r\nContent-Length: 0\r\nX-A: B\r\nx-a: C\r\n\r\n"])
    assert isinstance(error, HandshakeRejected)
    assert error.headers == [("content-length", "0"), ("x-a", "B"), ("x-a", "C")]


def test_a_rejection_waits_for_its_body_and_takes_what_there_is_at_the_end() -> None:
    for head in (b"", b"Content-Length: 9\r\n", b"Transfer-Encoding: chunked\r\n"):
        handshake = client()
        assert handshake.receive_data(b"HTTP/1.1 404 x\r\n" + head + b"\r\n") is None
        assert handshake.receive_data(b"3\r\nabc") is None
        with pytest.raises(HandshakeRejected) as caught:
            handshake.receive_data(b"")
        assert caught.value.body == (b"abc" if head.startswith(b"T") else b"3\r\nabc")


def test_a_rejection_without_an_end_ends_after_one_kib() -> None:
    handshake = client()
    assert handshake.receive_data(b"HTTP/1.1 404 x\r\n\r\n" + b"a" * 1023) is None
    with pytest.raises(HandshakeRejected) as caught:
        handshake.receive_data(b"bc")
    assert caught.value.body == b"a" * 1023 + b"b"


# --- Server ---


def test_a_request_in_any_pieces_is_read_and_loses_no_byte() -> None:
    for trailing in (b"", FRAMES):
        for pieces in splits(REQUEST + trailing):
            request, rest = requested(ServerHandshake(peer=("::1", 5)), pieces)
            assert isinstance(request, Request)
            assert rest == trailing
            assert (request.method, request.target, request.http_version) == ("GET", "/chat?x=%20", "1.1")
            assert request.peer == ("::1", 5)
            assert request.headers.items()[0] == ("Host", "server.example.com")
            assert check_request(request) == Offer("dGhlIHNhbXBsZSBub25jZQ==", (), ())


def test_a_request_is_not_there_before_its_last_byte() -> None:
    handshake = ServerHandshake()
    for byte in REQUEST[:-1]:
        assert handshake.receive_data(bytes([byte])) is None
    assert handshake.receive_data(REQUEST[-1:]) is not None


def test_the_answer_of_the_rfc_is_given() -> None:
    handshake = ServerHandshake()
    request = handshake.receive_data(REQUEST)
    assert request is not None
    assert handshake.accept(check_request(request)) == ANSWER
    lines = [f"{name}: {value}".encode() for name, value in handshake.response.headers.items()]
    assert handshake.response.status == 101
    assert b"\r\n".join([b"HTTP/1.1 101 Switching Protocols", *lines, b"", b""]) == ANSWER


def many_fields(size: int) -> bytes:
    """As many fields as there may be, `size` bytes together."""
    room = MAX_FIELDS - 5
    return b"".join([b"X-%03d: %b\r\n" % (i, b"v" * (size // room - 9)) for i in range(room)])


COOKIES = b"; ".join([b"%d=%050d" % (i, i) for i in range(MAX_ITEMS)])
SUBPROTOCOLS = b",".join([b"p%d" % i for i in range(MAX_ITEMS)])
KEPT = {
    "nothing else": REQUEST,
    "many tiny fields": REQUEST[:-2] + b"".join([b"%02d:\r\n" % i for i in range(MAX_FIELDS - 5)]) + b"\r\n",
    "many small fields": REQUEST[:-2] + many_fields(2000) + b"\r\n",
    "many large fields": REQUEST[:-2] + many_fields(60_000) + b"\r\n",
    "a large cookie": REQUEST[:-2] + b"Cookie: a=" + b"b" * 60_000 + b"\r\n\r\n",
    "many cookies": REQUEST[:-2] + b"Cookie: " + COOKIES + b"\r\n\r\n",
    "many subprotocols": REQUEST[:-2] + b"Sec-WebSocket-Protocol: " + SUBPROTOCOLS + b"\r\n\r\n",
    "a long path": REQUEST.replace(b"/chat", b"/" + b"p" * 60_000),
    "a long query": REQUEST.replace(b"x=%20", b"q" * 60_000),
}


@pytest.mark.parametrize("data", KEPT.values(), ids=KEPT)
def test_what_is_kept_of_a_request_takes_about_its_size_on_the_wire(data: bytes) -> None:
    def request_that_was_read() -> Request:
        request = ServerHandshake().receive_data(data)
        assert request is not None
        # What an application asks for is not kept either.
        assert request.path
        assert (request.query, request.cookies, request.subprotocols, request.headers.items()) is not None
        return request

    kept = [request_that_was_read()]  # and what is made once for all
    tracemalloc.start()
    try:
        kept += [request_that_was_read() for _ in range(10)]
        traced, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert traced / 10 < len(data) + 1000


@pytest.mark.parametrize(
    "data",
    [
        REQUEST[:-2] + b"a: b\n" * 10_000 + b"\r\n",
        REQUEST[:-2] + b"Cookie: " + b"a=b;" * 15_000 + b"\r\n\r\n",
        REQUEST[:-2] + b"Cookie : " + b"a" * 60_000 + b"\r\n\r\n",
        REQUEST[:-2] + b"Cookie: " + b"a" * 60_000 + b"\0\r\n\r\n",
        REQUEST[:-2] + b"Cookie: " + b"a" * 70_000,
    ],
    ids=["fields", "elements", "a malformed line", "a NUL", "size"],
)
def test_nothing_is_kept_of_a_request_that_cannot_be_read(data: bytes) -> None:
    def refused() -> tuple[ServerHandshake, HandshakeError]:
        handshake = ServerHandshake()
        with pytest.raises(RequestRejected) as caught:
            for start in range(0, len(data), 16_384):
                handshake.receive_data(data[start : start + 16_384])
        return handshake, caught.value

    kept = [refused()]
    tracemalloc.start()
    try:
        kept += [refused() for _ in range(10)]
        traced, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert traced / 10 < 4000


def test_what_the_server_accepts_the_client_accepts() -> None:
    extension = Extension("x", (("a", None),))
    asking = client(subprotocols=("a", "b"), extensions=(extension,))
    answering = ServerHandshake()
    request = answering.receive_data(asking.data_to_send())
    assert request is not None
    assert request.headers == asking.request.headers
    offer = check_request(request)
    assert offer == Offer(asking.request.headers["sec-websocket-key"], ("a", "b"), (extension,))
    answer = answering.accept(
        offer, subprotocol="b", extensions=offer.extensions, headers={"Set-Cookie": "ü=1"}
    )
    accepted = asking.receive_data(answer + FRAMES)
    assert accepted is not None
    assert (accepted.subprotocol, accepted.extensions, accepted.trailing) == ("b", (extension,), FRAMES)
    assert accepted.response.headers["set-cookie"] == "ü=1"


BAD_REQUESTS = {
    "TLS": (400, b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"),
    "old TLS": (400, b"\x80\x2e\x01"),
    "an empty line first": (400, b"\r\n" + REQUEST),
    "a blank first": (400, b" " + REQUEST),
    "no version": (400, b"GET /\r\n\r\n"),
    "two blanks": (400, REQUEST.replace(b"GET ", b"GET  ")),
    "a target outside ASCII": (400, REQUEST.replace(b"/chat", b"/ch\xc3\xa4t")),
    "no colon": (400, REQUEST.replace(b"Host: ", b"Host ")),
    "a blank before the colon": (400, REQUEST.replace(b"Host:", b"Host :")),
    "a name outside ASCII": (400, REQUEST.replace(b"Host:", b"H\xf6st:")),
    "no Host": (400, REQUEST.replace(b"Host:", b"Ghost:")),
    "two Hosts": (400, REQUEST.replace(b"Host:", b"Host: a\r\nHost:")),
    "a folded line": (400, REQUEST.replace(b"Upgrade: web", b"Upgrade:\r\n web")),
    "a folded line, bare LF": (400, REQUEST.replace(b"Upgrade: web", b"Upgrade:\n\tweb")),
    "a folded first field": (400, REQUEST.replace(b"Host:", b" Host:")),
    "a bare CR": (400, REQUEST.replace(b"Host:", b"X: a\rb\r\nHost:")),
    "a NUL": (400, REQUEST.replace(b"Host:", b"X: a\0b\r\nHost:")),
    "a control character": (400, REQUEST.replace(b"Host:", b"X: a\x7fb\r\nHost:")),
    "more fields than 100": (431, REQUEST.replace(b"Host:", b"a:\n" * MAX_FIELDS + b"Host:")),
    "two lengths": (400, REQUEST.replace(b"Host:", b"Content-Length: 1\r\nContent-Length: 2\r\nHost:")),
    "a negative length": (400, REQUEST.replace(b"Host:", b"Content-Length: -1\r\nHost:")),
    "another coding": (501, REQUEST.replace(b"Host:", b"Transfer-Encoding: gzip\r\nHost:")),
}


@pytest.mark.parametrize(("status", "data"), BAD_REQUESTS.values(), ids=BAD_REQUESTS)
def test_garbage_in_any_pieces_is_refused_with_an_answer(status: int, data: bytes) -> None:
    answers = set()
    for pieces in splits(data):
        handshake = ServerHandshake()
        error, _ = requested(handshake, pieces)
        assert isinstance(error, RequestRejected)
        assert isinstance(error.__cause__, h11.RemoteProtocolError)
        assert str(error).startswith("The request cannot be read: ")
        assert error.response.status == status
        assert 20 < len(error.response.body) < 250
        answers.add(handshake.reject(error.response))
    assert len(answers) == 1
    assert answers.pop().startswith(b"HTTP/1.1 %d " % status)


def test_a_line_that_ends_without_cr_is_read_as_a_line() -> None:
    for pieces in splits(REQUEST.replace(b"\r\n", b"\n") + b"rest"):
        request, rest = requested(ServerHandshake(), pieces)
        assert isinstance(request, Request)
        assert (request.headers["host"], rest) == ("server.example.com", b"rest")


@pytest.mark.parametrize("length", [0, 1, 30, len(REQUEST) - 1])
def test_a_request_that_is_cut_off_has_nobody_to_answer(length: int) -> None:
    error, _ = requested(ServerHandshake(), [REQUEST[:length], b""] if length else [b""])
    assert type(error) is HandshakeError


@pytest.mark.parametrize("step", [1 << 20, 1000])
def test_a_head_larger_than_64_kib_is_answered_with_431(step: int) -> None:
    head = head_of(MAX_HEAD_SIZE, REQUEST)
    request, _ = requested(ServerHandshake(), [head[i : i + step] for i in range(0, len(head), step)])
    assert isinstance(request, Request)
    head = head_of(MAX_HEAD_SIZE + 1, REQUEST) + b"x" * 5000
    handshake = ServerHandshake()
    error, _ = requested(handshake, [head[i : i + step] for i in range(0, len(head), step)])
    assert isinstance(error, RequestRejected)
    assert handshake.reject(error.response).startswith(b"HTTP/1.1 431 Request Header Fields Too Large\r\n")


@pytest.mark.parametrize(
    ("method", "target", "fields"),
    [
        (b"GET", b"/healthz", b""),
        (b"HEAD", b"/healthz", b""),
        (b"OPTIONS", b"*", b""),
        (b"POST", b"/", b"Content-Length: 5\r\n"),
        (b"POST", b"/", b"Transfer-Encoding: chunked\r\nExpect: 100-continue\r\n"),
        (b"PRI", b"*", b""),
        (b"GET", b"/", b"Upgrade: websocket\r\nConnection: Upgrade\r\n"),
        (b"GET", b"/", b"Connection: close\r\n"),
    ],
)
@pytest.mark.parametrize("version", [b"1.1", b"1.0", b"2.0"])
def test_any_request_can_be_answered_without_a_websocket(
    method: bytes, target: bytes, fields: bytes, version: bytes
) -> None:
    handshake = ServerHandshake()
    request = handshake.receive_data(
        b"%s %s HTTP/%s\r\nHost: h\r\n%s\r\nbody " % (method, target, version, fields)
    )
    assert request is not None
    assert (request.method, request.target) == (method.decode(), target.decode())
    with pytest.raises(RequestRejected):
        check_request(request)
    answer = handshake.reject(Response(200, {"X": "y"}, "fine\n"))
    head, body = answer.split(b"\r\n\r\n")
    lines = head.split(b"\r\n")
    assert lines[0] == b"HTTP/1.1 200 OK"
    assert {b"X: y", b"Content-Length: 5", b"Connection: close"} <= set(lines)
    assert body == (b"" if method == b"HEAD" else b"fine\n")


def test_a_connect_is_refused_as_no_tunnel_is_opened() -> None:
    handshake = ServerHandshake()
    with pytest.raises(RequestRejected) as caught:
        handshake.receive_data(b"CONNECT h:443 HTTP/1.1\r\nHost: h\r\n\r\n")
    answer = handshake.reject(caught.value.response)
    assert answer.startswith(b"HTTP/1.1 405 Method Not Allowed\r\nAllow: GET\r\n")
    assert answer.endswith(caught.value.response.body)


def read_by_h11(answer: bytes, method: bytes = b"GET") -> tuple[h11.Response, bytes]:
    """`answer` as an HTTP client reads it: the body must end by itself."""
    connection = h11.Connection(h11.CLIENT)
    connection.send(h11.Request(method=method, target=b"/", headers=[(b"Host", b"h")]))
    connection.send(h11.EndOfMessage())
    connection.receive_data(answer)
    response = connection.next_event()
    assert isinstance(response, h11.Response)
    body = b""
    while isinstance(event := connection.next_event(), h11.Data):
        body += bytes(event.data)
    assert isinstance(event, h11.EndOfMessage)
    assert connection.trailing_data == (b"", False)
    return response, body


@pytest.mark.parametrize("status", [200, 204, 205, 304, 301, 403, 418, 426, 499, 599])
def test_any_rejection_is_one_complete_http_response(status: int) -> None:
    handshake = ServerHandshake()
    handshake.receive_data(REQUEST)
    body = b"" if status in (204, 205, 304) else b"x" * 100_000
    answer = handshake.reject(Response(status, {"Location": "/ü"}, body))
    response, sent = read_by_h11(answer)
    assert (response.status_code, sent) == (status, body)
    assert (b"content-length" in dict(response.headers)) == (status not in (204, 304))


def test_a_refusal_that_offers_an_upgrade_names_it_in_connection() -> None:
    handshake = ServerHandshake()
    request = handshake.receive_data(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
    assert request is not None
    with pytest.raises(RequestRejected) as caught:
        check_request(request)
    answer = handshake.reject(caught.value.response)
    assert answer.startswith(b"HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\n")
    assert b"\r\nConnection: close, upgrade\r\n" in answer
    # The same to a peer that closes by itself, where h11 rewrites the field.
    handshake = ServerHandshake()
    handshake.receive_data(b"GET / HTTP/1.0\r\n\r\n")
    response, _ = read_by_h11(handshake.reject(caught.value.response))
    options = {value for name, value in response.headers if name == b"connection"}
    assert b",".join(options).replace(b" ", b"").split(b",").count(b"upgrade") == 1
    assert b"close" in b",".join(options)


def test_what_the_server_rejects_the_client_sees_with_its_body() -> None:
    handshake = ServerHandshake()
    asking = client()
    handshake.receive_data(asking.data_to_send())
    answer = handshake.reject(Response(403, {"X-Why": "because"}, "nö"))
    for pieces in splits(answer):
        error = received(client(), pieces)
        assert isinstance(error, HandshakeRejected)
        assert (error.status, error.body.decode()) == (403, "nö")
        assert ("x-why", "because") in error.headers


# --- Hostile peers ---


HOSTILE: dict[str, Callable[[int], bytes]] = {
    # The second of them costs h11 16 seconds by itself.
    "one long field": lambda n: REQUEST[:-2] + b"X: " + b"y" * n + b"\r\n\r\n",
    "blanks and a NUL": lambda n: REQUEST[:-2] + b"X:" + b" " * n + b"\0\r\n\r\n",
    "blanks and a form feed": lambda n: REQUEST[:-2] + b"X:" + b"\t" * n + b"\x0c\r\n\r\n",
    "blanks and a bare CR": lambda n: REQUEST[:-2] + b"X:" + b" " * n + b"\rx\r\n\r\n",
    "blanks only": lambda n: REQUEST[:-2] + b"X:" + b" " * n + b"\r\n\r\n",
    "words": lambda n: REQUEST[:-2] + b"X:" + b" y" * (n // 2) + b"\r\n\r\n",
    "many fields": lambda n: REQUEST[:-2] + b"a:\r\n" * (n // 4) + b"\r\n",
    "many names": lambda n: REQUEST[:-2] + b"".join(b"a%d:\r\n" % i for i in range(n // 10)) + b"\r\n",
    "folded lines": lambda n: REQUEST[:-2] + b" \r\n" * (n // 3) + b"\r\n",
    "a long target": lambda n: b"GET /" + b"?" * n + b" HTTP/1.1\r\nHost: h\r\n\r\n",
    "a long method": lambda n: b"G" * n + b"\r\n\r\n",
    "many cookies": lambda n: REQUEST[:-2] + b"Cookie: " + b"a=b;" * (n // 4) + b"\r\n\r\n",
    "many options": lambda n: REQUEST[:-2] + b"Connection: " + b"," * n + b"\r\n\r\n",
    "many subprotocols": lambda n: (
        REQUEST[:-2] + b"Sec-WebSocket-Protocol: " + b"a," * (n // 2) + b"\r\n\r\n"
    ),
    "many extensions": lambda n: (
        REQUEST[:-2] + b"Sec-WebSocket-Extensions: a" + b";a" * (n // 2) + b"=\r\n\r\n"
    ),
}


def cost(work: Callable[[], object]) -> float:
    """Seconds of CPU time, the best of three."""
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        work()
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_the_time_for_a_hostile_request_grows_with_its_length_and_no_faster(
    hostile: Callable[[int], bytes],
) -> None:
    def serve(size: int) -> None:
        handshake = ServerHandshake()
        request, _ = requested(handshake, [hostile(size)])
        if isinstance(request, Request):
            assert len(request.cookies) <= 1
            try:
                handshake.accept(check_request(request))
            except RequestRejected as exc:
                handshake.reject(exc.response)

    # Sixteen times the input; quadratic time would be 256 times the time, and seconds.
    assert cost(lambda: serve(64_000)) < 64 * cost(lambda: serve(4_000)) + 0.02


@pytest.mark.parametrize("hostile", HOSTILE.values(), ids=HOSTILE)
def test_the_number_of_calls_for_a_hostile_request_is_bounded(hostile: Callable[[int], bytes]) -> None:
    """Whatever is in 64 KiB, also if all is asked for that can be: some milliseconds in one step."""

    def serve(data: bytes) -> None:
        handshake = ServerHandshake()
        request, _ = requested(handshake, [data])
        if isinstance(request, Request):
            assert (request.cookies, request.subprotocols, request.headers.items()) is not None
            try:
                handshake.accept(check_request(request))
            except RequestRejected as exc:
                handshake.reject(exc.response)

    for data in (hostile(64_000), hostile(MAX_FIELDS), hostile(MAX_ITEMS), hostile(2 * MAX_ITEMS)):
        assert calls(lambda data=data: serve(data)) < 15_000  # type: ignore[misc]


def calls(work: Callable[[], object]) -> int:
    """How many functions are called, those written in C too."""
    count = 0

    def profile(frame: object, event: str, arg: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
    return count


def test_the_time_for_a_head_byte_by_byte_grows_with_its_length_and_no_faster() -> None:
    def drip(size: int) -> None:
        data = head_of(size, REQUEST)
        request, _ = requested(ServerHandshake(), [data[i : i + 1] for i in range(size)])
        assert isinstance(request, Request)

    assert cost(lambda: drip(64_000)) < 64 * cost(lambda: drip(4_000)) + 0.02


def test_the_time_for_a_hostile_body_of_a_rejection_is_small() -> None:
    start = b"HTTP/1.1 500 x\r\nTransfer-Encoding: chunked\r\n\r\n"
    for body in (
        b"0\r\nX:" + b" " * 200_000 + b"\0\r\n\r\n",
        b"1;" + b" " * 200_000 + b"\r\n",
        b"1;" + b"\r" * 200_000 + b"\r\n",
        b"1\r\na\r\n" * 40_000,
    ):

        def reject(data: bytes = start + body) -> None:
            assert isinstance(received(client(), [data]), HandshakeRejected)

        assert cost(reject) < 0.5  # 200 KiB of blanks at once cost h11 minutes


# --- Anything at all ---

PIECES = st.lists(
    st.binary(max_size=20)
    | st.sampled_from([*REQUEST.splitlines(keepends=True), *ANSWER.splitlines(keepends=True)])
    | st.sampled_from(
        [b"\r\n", b"\n", b" ", b"HTTP/1.1 200 x\r\n", b"Transfer-Encoding: chunked\r\n", b"5\r\n"]
    ),
    max_size=8,
).map(b"".join)


def description(outcome: object) -> object:
    if isinstance(outcome, Request):
        return outcome.method, outcome.target, outcome.headers.items()
    if isinstance(outcome, HandshakeError):
        return type(outcome), str(outcome)
    return outcome


@given(st.sampled_from([b"", REQUEST[:-2]]), PIECES, st.integers(1, 10))
def test_no_bytes_make_the_server_raise_anything_else_and_pieces_make_no_difference(
    start: bytes, data: bytes, step: int
) -> None:
    data = start + data
    whole, rest = requested(ServerHandshake(), [data] if data else [])
    cut, rest_of_cut = requested(ServerHandshake(), [data[i : i + step] for i in range(0, len(data), step)])
    assert description(whole) == description(cut)
    assert rest == rest_of_cut


@given(
    st.sampled_from([b"", ANSWER[:-2], b"HTTP/1.1 404 x\r\n", b"HTTP/1.1 100 x\r\n\r\n"]),
    PIECES,
    st.integers(1, 10),
)
def test_no_bytes_make_the_client_raise_anything_else_and_pieces_make_no_difference(
    start: bytes, data: bytes, step: int
) -> None:
    data = start + data
    whole = received(client(), [data, b""] if data else [b""])
    cut = received(client(), [*(data[i : i + step] for i in range(0, len(data), step)), b""])
    assert whole is not None  # at the end of the stream there is an outcome
    if isinstance(whole, Upgraded):
        assert isinstance(cut, Upgraded)
        assert whole.trailing == cut.trailing
    else:
        assert description(whole) == description(cut)
    if isinstance(whole, HandshakeRejected):
        assert isinstance(cut, HandshakeRejected)
        assert (whole.status, whole.headers, whole.body) == (cut.status, cut.headers, cut.body)
