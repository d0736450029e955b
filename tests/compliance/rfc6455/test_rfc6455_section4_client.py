"""RFC 6455 sections 3, 4.1, 4.3, 4.4 and 9.1: the client's side of the opening handshake.

A request is a URL, the options of `connect`, and the lines that have to be in it; a line that begins with
"-" is the name of a field that must not be there. An answer is the options, lines that replace those of a
good answer ("-" takes one away, ``{accept}`` is what fits the key), and what comes of it: the subprotocol,
the status of a rejection, or FAILS.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, SocketListener

import wsstream
from wsstream import Deflate, HandshakeError, HandshakeRejected, InvalidURL
from wsstream.opening.deflate_offer import make_offer
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.http1 import ClientHandshake
from wsstream.opening.url import parse_url

ON_BOTH = [pytest.mark.anyio, pytest.mark.slow]
NONCE = b"the sample nonce"
FAILS = HandshakeError
CHAT = {"subprotocols": ["chat", "superchat"]}
DEFLATE = {"compression": Deflate()}
SWITCHING = "HTTP/1.1 101 Switching Protocols"
GOOD = ["Upgrade: websocket", "Connection: Upgrade", "Sec-WebSocket-Accept: {accept}"]

URLS: dict[str, tuple[str, dict[str, Any], list[str]]] = {
    "3-default-port": ("ws://a.example/x", {}, ["GET /x HTTP/1.1", "Host: a.example"]),
    "3-default-port-given": ("ws://a.example:80/", {}, ["Host: a.example"]),
    "3-other-port": ("ws://a.example:81/", {}, ["Host: a.example:81"]),
    "3-secure-default-port": ("wss://a.example/", {}, ["Host: a.example"]),
    "3-secure-default-port-given": ("wss://a.example:443/", {}, ["Host: a.example"]),
    "3-secure-other-port": ("wss://a.example:80/", {}, ["Host: a.example:80"]),
    "3-scheme-in-any-case": ("WS://A.Example/", {}, ["Host: a.example"]),
    "3-empty-path-is-slash": ("ws://a.example", {}, ["GET / HTTP/1.1"]),
    "3-empty-path-with-query": ("ws://a.example?x=1", {}, ["GET /?x=1 HTTP/1.1"]),
    "3-path-and-query": ("ws://a.example/b/c?d=e?f&g", {}, ["GET /b/c?d=e?f&g HTTP/1.1"]),
    "3-escaped-number-sign": ("ws://a.example/b%23c", {}, ["GET /b%23c HTTP/1.1"]),
    "3-international": (
        "ws://bücher.example/ä?ö",
        {},
        ["GET /%C3%A4?%C3%B6 HTTP/1.1", "Host: xn--bcher-kva.example"],
    ),
    "3-ipv6": ("ws://[::1]:81/", {}, ["Host: [::1]:81"]),
    "4.1-get-and-http-1.1": ("ws://a.example/chat", {}, ["GET /chat HTTP/1.1"]),
    "4.1-host": ("ws://a.example:8080/", {}, ["Host: a.example:8080"]),
    "4.1-upgrade": ("ws://a.example/", {}, ["Upgrade: websocket"]),
    "4.1-connection": ("ws://a.example/", {}, ["Connection: Upgrade"]),
    "4.1-key-is-the-nonce-in-base64": ("ws://a.example/", {}, ["Sec-WebSocket-Key: {key}"]),
    "4.1-origin": ("ws://a.example/", {"origin": "http://page.example"}, ["Origin: http://page.example"]),
    "4.1-no-origin-unless-given": ("ws://a.example/", {}, ["-Origin"]),
    "4.1-version-13": ("ws://a.example/", {}, ["Sec-WebSocket-Version: 13"]),
    "4.1-subprotocols-in-their-order": ("ws://a.example/", CHAT, ["Sec-WebSocket-Protocol: chat, superchat"]),
    "4.1-no-subprotocol-unless-given": ("ws://a.example/", {}, ["-Sec-WebSocket-Protocol"]),
    "4.1-extensions": (
        "ws://a.example/",
        DEFLATE,
        ["Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits"],
    ),
    "4.1-no-extension-unless-asked-for": ("ws://a.example/", {}, ["-Sec-WebSocket-Extensions"]),
    "4.1-other-fields": (
        "ws://a.example/",
        {"headers": {"Cookie": "a=b", "Authorization": "Bearer x"}},
        ["Cookie: a=b", "Authorization: Bearer x"],
    ),
    "4.1-credentials-of-the-url": (
        "ws://me:pw@a.example/",
        {},
        ["Authorization: Basic bWU6cHc=", "Host: a.example"],
    ),
}

REFUSED: dict[str, tuple[str, dict[str, Any], type[Exception]]] = {
    "3-fragment": ("ws://a.example/#b", {}, InvalidURL),
    "3-empty-fragment": ("ws://a.example/#", {}, InvalidURL),
    "3-other-scheme": ("ftp://a.example/", {}, InvalidURL),
    "3-no-scheme": ("a.example/", {}, InvalidURL),
    "3-no-host": ("ws:///x", {}, InvalidURL),
    "3-port-out-of-range": ("ws://a.example:65536/", {}, InvalidURL),
    "3-port-that-is-no-number": ("ws://a.example:x/", {}, InvalidURL),
    "3-white-space": ("ws://a.example/a b", {}, InvalidURL),
    "3-line-end": ("ws://a.example/\r\nX: y", {}, InvalidURL),
    "4.1-subprotocol-empty": ("ws://a.example/", {"subprotocols": [""]}, ValueError),
    "4.1-subprotocol-twice": ("ws://a.example/", {"subprotocols": ["a", "b", "a"]}, ValueError),
    "4.1-subprotocol-with-separator": ("ws://a.example/", {"subprotocols": ["a,b"]}, ValueError),
    "4.1-subprotocol-with-blank": ("ws://a.example/", {"subprotocols": ["a b"]}, ValueError),
    "4.1-subprotocol-not-ascii": ("ws://a.example/", {"subprotocols": ["ä"]}, ValueError),
    "4.1-field-of-the-handshake-itself": (
        "ws://a.example/",
        {"headers": {"Sec-WebSocket-Key": "x"}},
        ValueError,
    ),
    "4.1-field-that-is-no-http": ("ws://a.example/", {"headers": {"X": "a\r\nb"}}, ValueError),
}

ANSWERS: dict[str, tuple[dict[str, Any], list[str], Any]] = {
    "4.1-good": ({}, [], ""),
    # The status
    **{
        f"4.1-status-{status}": ({}, [f"HTTP/1.1 {status} x", "Content-Length: 0"], status)
        for status in (200, 204, 301, 400, 401, 403, 404, 426, 503)
    },
    "4.1-status-with-the-fields-of-101": ({}, ["HTTP/1.1 200 OK", "Content-Length: 0", *GOOD], 200),
    "4.1-http-1.0": ({}, ["HTTP/1.0 101 Switching Protocols"], FAILS),
    "4.1-no-http": ({}, ["SSH-2.0-OpenSSH"], FAILS),
    "4.1-status-line-malformed": ({}, ["HTTP/1.1 1x1 Switching"], FAILS),
    "4.1-informational-answers-before": ({}, ["HTTP/1.1 100 Continue\r\n\r\n" + SWITCHING], ""),
    # Upgrade
    "4.1-upgrade-missing": ({}, ["-Upgrade"], FAILS),
    "4.1-upgrade-to-another-protocol": ({}, ["Upgrade: h2c"], FAILS),
    "4.1-upgrade-to-two-protocols": ({}, ["Upgrade: websocket, h2c"], FAILS),
    "4.1-upgrade-with-a-version": ({}, ["Upgrade: websocket/13"], FAILS),
    "4.1-upgrade-twice": ({}, ["Upgrade: websocket", "Upgrade: websocket"], FAILS),
    "4.1-upgrade-empty": ({}, ["Upgrade:"], FAILS),
    "4.1-upgrade-in-any-case": ({}, ["Upgrade: WebSocket"], ""),
    "4.1-upgrade-in-blanks": ({}, ["Upgrade: \t websocket \t"], ""),
    # Connection
    "4.1-connection-missing": ({}, ["-Connection"], FAILS),
    "4.1-connection-without-upgrade": ({}, ["Connection: keep-alive"], FAILS),
    "4.1-connection-with-upgrade-inside-a-token": ({}, ["Connection: close, upgraded, x-upgrade"], FAILS),
    "4.1-connection-in-any-case": ({}, ["Connection: uPGRADE"], ""),
    "4.1-connection-among-others": ({}, ["Connection: keep-alive, Upgrade"], ""),
    "4.1-connection-in-two-fields": ({}, ["Connection: keep-alive", "Connection: Upgrade"], ""),
    # Sec-WebSocket-Accept
    "4.1-accept-missing": ({}, ["-Sec-WebSocket-Accept"], FAILS),
    "4.1-accept-empty": ({}, ["Sec-WebSocket-Accept:"], FAILS),
    "4.1-accept-of-another-key": ({}, ["Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOA="], FAILS),
    "4.1-accept-is-the-key": ({}, ["Sec-WebSocket-Accept: {key}"], FAILS),
    "4.1-accept-in-another-case": ({}, ["Sec-WebSocket-Accept: {ACCEPT}"], FAILS),
    "4.1-accept-with-more-after": ({}, ["Sec-WebSocket-Accept: {accept}="], FAILS),
    "4.1-accept-twice": ({}, ["Sec-WebSocket-Accept: {accept}", "Sec-WebSocket-Accept: {accept}"], FAILS),
    "4.1-accept-in-blanks": ({}, ["Sec-WebSocket-Accept: \t {accept} \t "], ""),
    # Sec-WebSocket-Extensions
    "4.1-extension-not-asked-for": ({}, ["Sec-WebSocket-Extensions: permessage-deflate"], FAILS),
    "4.1-extension-other-than-asked-for": (DEFLATE, ["Sec-WebSocket-Extensions: x-other"], FAILS),
    "4.1-extension-beside-the-one-asked-for": (
        DEFLATE,
        ["Sec-WebSocket-Extensions: permessage-deflate, x-other"],
        FAILS,
    ),
    "4.1-extension-declined": (DEFLATE, [], ""),
    "4.1-extension-chosen": (DEFLATE, ["Sec-WebSocket-Extensions: permessage-deflate"], ""),
    **{
        f"9.1-malformed-{name}": (DEFLATE, [f"Sec-WebSocket-Extensions: {value}"], FAILS)
        for name, value in {
            "empty": "",
            "no-name": "; server_no_context_takeover",
            "parameter-without-name": "permessage-deflate; =1",
            "parameter-without-value": "permessage-deflate; server_max_window_bits=",
            "semicolon-at-the-end": "permessage-deflate;",
            "no-comma": "permessage-deflate permessage-deflate",
            "no-token": "permessage@deflate",
            "quote-not-closed": 'permessage-deflate; server_max_window_bits="10',
            "quoted-value-no-token": 'permessage-deflate; server_max_window_bits="1 0"',
        }.items()
    },
    "9.1-quoted-value": (
        DEFLATE,
        ['Sec-WebSocket-Extensions: permessage-deflate; server_max_window_bits="10"'],
        "",
    ),
    "9.1-blanks-and-empty-elements": (
        DEFLATE,
        ["Sec-WebSocket-Extensions: , permessage-deflate ;\tserver_no_context_takeover ,"],
        "",
    ),
    # Sec-WebSocket-Protocol
    "4.1-subprotocol-chosen": (CHAT, ["Sec-WebSocket-Protocol: superchat"], "superchat"),
    "4.1-subprotocol-not-asked-for": ({}, ["Sec-WebSocket-Protocol: chat"], FAILS),
    "4.1-subprotocol-other-than-asked-for": (CHAT, ["Sec-WebSocket-Protocol: foreign"], FAILS),
    "4.1-subprotocol-in-another-case": (CHAT, ["Sec-WebSocket-Protocol: Chat"], FAILS),
    "4.1-subprotocols-two-in-one-field": (CHAT, ["Sec-WebSocket-Protocol: chat, superchat"], FAILS),
    "4.1-subprotocols-two-in-two-fields": (
        CHAT,
        ["Sec-WebSocket-Protocol: chat", "Sec-WebSocket-Protocol: superchat"],
        FAILS,
    ),
    "4.1-subprotocol-empty-in-the-answer": (CHAT, ["Sec-WebSocket-Protocol:"], FAILS),
    "4.1-no-subprotocol-of-those-asked-for": (CHAT, [], FAILS),
    # Names of fields, other fields, and what is no HTTP
    "4.1-field-names-in-any-case": (
        {},
        ["-Upgrade", "-Connection", "upgrade: websocket", "CONNECTION: Upgrade"],
        "",
    ),
    "4.1-other-fields-are-ignored": ({}, ["Set-Cookie: a=b", "Server: x", "X-Any: thing"], ""),
    "4.1-folded-field": ({}, ["Upgrade:\r\n websocket"], FAILS),
    "4.1-blank-before-the-colon": ({}, ["-Upgrade", "Upgrade : websocket"], FAILS),
    "4.1-control-character": ({}, ["X-Any: a\x00b"], FAILS),
    "4.1-line-without-colon": ({}, ["X-Any"], FAILS),
    "4.4-version-refused": (
        {},
        ["HTTP/1.1 426 Upgrade Required", "Sec-WebSocket-Version: 8, 7", "Content-Length: 0"],
        426,
    ),
    "4.4-version-refused-with-400": (
        {},
        ["HTTP/1.1 400 Bad Request", "Sec-WebSocket-Version: 8", "Content-Length: 0"],
        400,
    ),
}


def answer(lines: list[str], key: bytes) -> bytes:
    """A good answer to `key`, with other `lines`."""
    accept = base64.b64encode(hashlib.sha1(key + b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11").digest()).decode()
    status = lines[0] if lines and re.match(r"HTTP/|SSH-", lines[0]) else SWITCHING
    lines = lines[status is not SWITCHING :]
    named = {re.split(r"[ :]", line.removeprefix("-"))[0] for line in lines}
    kept = [line for line in GOOD if line.partition(":")[0] not in named] if " 101 " in status else []
    text = "\r\n".join([status, *kept, *[line for line in lines if line[0] != "-"], "", ""])
    for name, value in {"accept": accept, "ACCEPT": accept.swapcase(), "key": key.decode()}.items():
        text = text.replace("{" + name + "}", value)
    return text.encode("latin-1")


def handshake_of(url: str, options: dict[str, Any]) -> ClientHandshake:
    options = dict(options)
    compression = options.pop("compression", None)
    subprotocols = validate_subprotocols(options.pop("subprotocols", ()))
    extensions = () if compression is None else (make_offer(compression),)
    return ClientHandshake(
        parse_url(url), key=NONCE, subprotocols=subprotocols, extensions=extensions, **options
    )


def check_request(head: bytes, lines: list[str], key: str) -> None:
    assert head.endswith(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    names = [field.partition(":")[0] for field in fields]
    assert len(set(names)) == len(names)
    for line in lines:
        if line.startswith("-"):
            assert line[1:] not in names
        else:
            assert line.format(key=key) in (first, *fields)


def by_id(table: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in table.items()])


# -- without I/O -----------------------------------------------------------------------------------


@by_id(URLS)
def test_a_request(row: Any) -> None:
    url, options, lines = row
    handshake = handshake_of(url, options)
    check_request(handshake.data_to_send(), lines, base64.b64encode(NONCE).decode())
    assert handshake.data_to_send() == b""


@by_id(REFUSED)
def test_what_is_refused_before_anything_is_sent(row: Any) -> None:
    url, options, error = row
    with pytest.raises(error):
        wsstream.connect(url, **options)


def outcome(options: dict[str, Any], pieces: list[bytes]) -> Any:
    """What an answer in `pieces` comes to, and how many of them it took."""
    handshake = handshake_of("ws://a.example/", options)
    for number, piece in enumerate(pieces, 1):
        try:
            accepted = handshake.receive_data(piece)
        except HandshakeRejected as error:
            return error.status, number
        except HandshakeError as error:
            return type(error), number
        if accepted is not None:
            assert accepted.trailing == b""
            return accepted.subprotocol, number
    return None, len(pieces)


@by_id(ANSWERS)
def test_an_answer(row: Any) -> None:
    options, lines, expected = row
    data = answer(lines, base64.b64encode(NONCE))
    assert outcome(options, [data]) == (expected, 1)
    actual, size = outcome(options, [data[i : i + 1] for i in range(len(data))])
    assert actual == expected
    if expected is not FAILS:
        assert size == len(data)


# -- over a socket ---------------------------------------------------------------------------------


@asynccontextmanager
async def two_ends(listener: SocketListener) -> AsyncIterator[tuple[ByteStream, ByteStream]]:
    host, port = listener.extra(anyio.abc.SocketAttribute.local_address)
    with anyio.fail_after(10):
        async with await anyio.connect_tcp(host, port) as ours, await listener.accept() as theirs:
            yield ours, theirs


async def read_head(stream: ByteStream) -> bytes:
    head = b""
    while b"\r\n\r\n" not in head:
        head += await stream.receive()
    return head


def key_of(head: bytes) -> bytes:
    found = re.search(rb"\r\nSec-WebSocket-Key: (\S+)\r\n", head)
    assert found is not None
    assert len(base64.b64decode(found[1], validate=True)) == 16
    return found[1]


@by_id({name: row for name, row in URLS.items() if not row[0].startswith("wss")})
class TestRequestsOverASocket:
    pytestmark = ON_BOTH

    async def test_a_request(self, row: Any, listener: SocketListener) -> None:
        url, options, lines = row
        async with two_ends(listener) as (ours, theirs), anyio.create_task_group() as tasks:

            async def connect() -> None:
                with pytest.raises(HandshakeError):
                    async with wsstream.connect(url, transport=ours, **options):
                        pytest.fail("there was no answer")

            tasks.start_soon(connect)
            head = await read_head(theirs)
            check_request(head, lines, key_of(head).decode())
            await theirs.aclose()


@by_id(ANSWERS)
class TestAnswersOverASocket:
    pytestmark = ON_BOTH

    async def test_an_answer(self, row: Any, listener: SocketListener) -> None:
        """A bad one is followed by the end of TCP and not a byte more; a good one by an open connection."""
        options, lines, expected = row
        seen: list[bytes] = []

        async def answer_and_read_to_the_end() -> None:
            data = answer(lines, key_of(await read_head(theirs)))
            await theirs.send(data)
            if expected is FAILS or isinstance(expected, int):
                try:
                    seen.append(await theirs.receive())
                except (anyio.EndOfStream, anyio.BrokenResourceError):
                    await theirs.aclose()

        async with two_ends(listener) as (ours, theirs), anyio.create_task_group() as tasks:
            tasks.start_soon(answer_and_read_to_the_end)
            connecting = wsstream.connect("ws://a.example/", transport=ours, close_timeout=0, **options)
            if isinstance(expected, str):
                async with connecting as ws:
                    assert (ws.subprotocol, ws.state) == (expected, "open")
            else:
                with pytest.raises(HandshakeRejected if isinstance(expected, int) else FAILS) as caught:
                    async with connecting:
                        pytest.fail("it was taken for an answer")
                assert getattr(caught.value, "status", FAILS) == expected
        assert seen == []


@pytest.mark.anyio
async def test_4_1_the_client_waits_for_the_answer_before_it_sends_more(listener: SocketListener) -> None:
    async with two_ends(listener) as (ours, theirs), anyio.create_task_group() as tasks:

        async def connect() -> None:
            async with wsstream.connect("ws://a.example/", transport=ours, close_timeout=0) as ws:
                await ws.send("a")

        tasks.start_soon(connect)
        head = await read_head(theirs)
        assert head.endswith(b"\r\n\r\n")
        with anyio.CancelScope() as scope:
            tasks.start_soon(cancel_when_blocked, scope)
            assert await theirs.receive() == b""
        assert scope.cancelled_caught
        await theirs.send(answer([], key_of(head)))
        assert (await theirs.receive())[:2] == b"\x81\x81"


async def cancel_when_blocked(scope: anyio.CancelScope) -> None:
    await anyio.wait_all_tasks_blocked()
    scope.cancel()


@pytest.mark.anyio
async def test_4_1_the_nonce_is_another_for_each_connection(listener: SocketListener) -> None:
    keys = set()
    for _ in range(20):
        async with two_ends(listener) as (ours, theirs), anyio.create_task_group() as tasks:

            async def connect(ours: ByteStream) -> None:
                with pytest.raises(HandshakeError):
                    await wsstream.connect("ws://a.example/", transport=ours).__aenter__()

            tasks.start_soon(connect, ours)
            keys.add(key_of(await read_head(theirs)))
            await theirs.aclose()
    assert len(keys) == 20
    bits = [sum(base64.b64decode(key)[i] >> bit & 1 for key in keys) for i in range(16) for bit in range(8)]
    assert all(0 < ones < 20 for ones in bits), (
        "each bit is now 0, now 1: the chance of less is 2 in a million"
    )
