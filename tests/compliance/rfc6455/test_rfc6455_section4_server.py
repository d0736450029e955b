"""RFC 6455 sections 4.2, 4.3, 4.4, 9.1 and 10.2: the server's side of the opening handshake.

A row has the lines that replace those of a good request ("-" takes one away), the status of the answer, and
the lines that have to be in it; a line that begins with "-" is the name of a field that must not be there.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import suppress
from typing import Any

import anyio
import pytest

import wsstream
from wsstream import Deflate, Request, Response, WebSocketStream
from wsstream.opening.deflate_offer import accept_offer
from wsstream.opening.handshake_server import (
    RequestRejected,
    check_request,
    select_subprotocol,
)
from wsstream.opening.http1 import ServerHandshake
from wsstream.opening.origins import Origins

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
ACCEPT = "Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
GET = "GET /chat HTTP/1.1"
GOOD = [
    "Host: server.example",
    "Upgrade: websocket",
    "Connection: Upgrade",
    f"Sec-WebSocket-Key: {KEY}",
    "Sec-WebSocket-Version: 13",
]
SUBPROTOCOLS = ["superchat", "chat"]
ORIGINS = ["https://good.example", None]
VERSION = ["Sec-WebSocket-Version: 13", "Upgrade: websocket"]
UPGRADE = ["Upgrade: websocket"]
DEFLATE = "Sec-WebSocket-Extensions: permessage-deflate"

ROWS: dict[str, tuple[list[str], int, list[str]]] = {
    # 4.2.1 Reading the client's opening handshake
    "4.2.1-good": ([], 101, []),
    "4.2.1-order-of-the-fields": ([GET, *reversed(GOOD)], 101, [ACCEPT]),
    "4.2.1-field-names-in-any-case": (
        [line.swapcase() if line.startswith(("H", "U", "C")) else line for line in GOOD],
        101,
        [],
    ),
    # 1 The request line
    "4.2.1-http-1.0": (["GET /chat HTTP/1.0"], 505, []),
    "4.2.1-higher-minor-version": (["GET /chat HTTP/1.2"], 101, []),
    "4.2.1-http-2": (["GET /chat HTTP/2.0"], 505, []),
    **{
        f"4.2.1-method-{method}": ([f"{method} /chat HTTP/1.1"], 405, ["Allow: GET"])
        for method in ("POST", "PUT", "HEAD", "OPTIONS", "CONNECT")
    },
    "4.2.1-absolute-uri": (["GET http://server.example/chat HTTP/1.1"], 101, []),
    "4.2.1-uri-with-query": (["GET /chat?a=b HTTP/1.1"], 101, []),
    "4.2.1-uri-without-slash": (["GET chat HTTP/1.1"], 400, []),
    "4.2.1-uri-asterisk": (["GET * HTTP/1.1"], 400, []),
    "4.2.1-uri-with-fragment": (["GET /chat#x HTTP/1.1"], 400, []),
    "4.2.1-no-http": (["SSH-2.0-OpenSSH"], 400, []),
    "4.2.1-request-line-of-two-words": (["GET /chat"], 400, []),
    # 2 Host
    "4.2.1-host-missing": (["-Host"], 400, []),
    "4.2.1-host-twice": (["Host: a", "Host: a"], 400, []),
    "4.2.1-host-empty": (["Host:"], 400, []),
    "4.2.1-host-malformed": (["Host: a/b"], 400, []),
    "4.2.1-host-with-port": (["Host: server.example:8080"], 101, []),
    # 3 Upgrade
    "4.2.1-upgrade-missing": (["-Upgrade"], 426, UPGRADE),
    "4.2.1-upgrade-to-another-protocol": (["Upgrade: h2c"], 426, UPGRADE),
    "4.2.1-upgrade-with-more-after": (["Upgrade: websockets"], 426, UPGRADE),
    "4.2.1-upgrade-in-any-case": (["Upgrade: WebSocket"], 101, []),
    "4.2.1-upgrade-among-others": (["Upgrade: h2c, websocket"], 101, []),
    # 4 Connection
    "4.2.1-connection-missing": (["-Connection"], 426, UPGRADE),
    "4.2.1-connection-without-upgrade": (["Connection: keep-alive"], 426, UPGRADE),
    "4.2.1-connection-with-upgrade-inside-a-token": (["Connection: upgraded"], 426, UPGRADE),
    "4.2.1-connection-in-any-case": (["Connection: UPGRADE"], 101, []),
    "4.2.1-connection-among-others": (["Connection: keep-alive, Upgrade"], 101, []),
    "4.2.1-connection-in-two-fields": (["Connection: keep-alive", "Connection: Upgrade"], 101, []),
    # 5 Sec-WebSocket-Key
    "4.2.1-key-missing": (["-Sec-WebSocket-Key"], 400, []),
    "4.2.1-key-twice": ([f"Sec-WebSocket-Key: {KEY}", f"Sec-WebSocket-Key: {KEY}"], 400, []),
    "4.2.1-key-empty": (["Sec-WebSocket-Key:"], 400, []),
    "4.2.1-key-of-15-bytes": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25j"], 400, []),
    "4.2.1-key-of-17-bytes": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZXM="], 400, []),
    "4.2.1-key-not-base64": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZ!=="], 400, []),
    "4.2.1-key-with-a-character-too-much": (["Sec-WebSocket-Key: dGhlIHNh!bXBsZSBub25jZQ=="], 400, []),
    "4.2.1-key-in-the-alphabet-of-urls": (["Sec-WebSocket-Key: __________________8A__=="], 400, []),
    "4.2.1-key-without-padding": (["Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ"], 400, []),
    "4.2.1-key-in-blanks": ([f"Sec-WebSocket-Key: \t{KEY} "], 101, [ACCEPT]),
    # 6 Sec-WebSocket-Version
    "4.2.1-version-missing": (["-Sec-WebSocket-Version"], 426, VERSION),
    # 7 Origin
    "4.2.1-no-origin-is-no-browser": (["-Origin"], 101, []),
    "4.2.1-origin-twice": (["Origin: https://good.example", "Origin: https://good.example"], 400, []),
    # 8 Sec-WebSocket-Protocol
    "4.2.1-subprotocols-in-two-fields": (
        ["Sec-WebSocket-Protocol: x", "Sec-WebSocket-Protocol: chat"],
        101,
        ["Sec-WebSocket-Protocol: chat"],
    ),
    # 9, 10 Extensions and other fields
    "4.2.1-unknown-extension": (
        ["Sec-WebSocket-Extensions: x-unknown; a=b"],
        101,
        ["-Sec-WebSocket-Extensions"],
    ),
    "4.2.1-unknown-fields-are-ignored": (["X-Any: thing", "Cookie: a=b", "Pragma: no-cache"], 101, []),
    "4.2.1-a-body": (["Content-Length: 5"], 400, []),
    "4.2.1-a-chunked-body": (["Transfer-Encoding: chunked"], 400, []),
    "4.2.1-folded-field": (["Upgrade:\r\n websocket"], 400, []),
    "4.2.1-blank-before-the-colon": (["-Upgrade", "Upgrade : websocket"], 400, []),
    "4.2.1-control-character": (["X-Any: a\x00b"], 400, []),
    "4.2.1-line-without-colon": (["X-Any"], 400, []),
    # 4.2.2 Sending the server's opening handshake
    "4.2.2-unauthorised": (["GET /401 HTTP/1.1"], 401, ["WWW-Authenticate: Basic"]),
    "4.2.2-redirected": (["GET /302 HTTP/1.1"], 302, ["Location: /chat"]),
    "4.2.2-origin-that-is-let-in": (["Origin: https://good.example"], 101, []),
    "4.2.2-origin-in-any-case": (["Origin: HTTPS://Good.Example"], 101, []),
    "4.2.2-origin-that-is-not-let-in": (["Origin: https://bad.example"], 403, []),
    "10.2-origin-that-looks-alike": (["Origin: https://good.example.bad.example"], 403, []),
    "10.2-origin-null": (["Origin: null"], 403, []),
    "4.2.2-version-8": (["Sec-WebSocket-Version: 8"], 426, VERSION),
    "4.2.2-version-14": (["Sec-WebSocket-Version: 14"], 426, VERSION),
    "4.2.2-service-not-there": (["GET /404 HTTP/1.1"], 404, []),
    "4.2.2-no-subprotocol-offered": ([], 101, ["-Sec-WebSocket-Protocol"]),
    "4.2.2-subprotocol-of-those-offered": (
        ["Sec-WebSocket-Protocol: chat"],
        101,
        ["Sec-WebSocket-Protocol: chat"],
    ),
    "4.2.2-subprotocol-the-server-prefers": (
        ["Sec-WebSocket-Protocol: chat, superchat"],
        101,
        ["Sec-WebSocket-Protocol: superchat"],
    ),
    "4.2.2-no-subprotocol-in-common": (["Sec-WebSocket-Protocol: other"], 101, ["-Sec-WebSocket-Protocol"]),
    "4.2.2-subprotocols-differ-by-case": (["Sec-WebSocket-Protocol: Chat"], 101, ["-Sec-WebSocket-Protocol"]),
    "4.2.2-extension-of-those-offered": (
        ["Sec-WebSocket-Extensions: x-unknown, permessage-deflate"],
        101,
        [DEFLATE],
    ),
    "4.2.2-no-extension-offered": ([], 101, ["-Sec-WebSocket-Extensions"]),
    "4.2.2-status-line": ([], 101, ["HTTP/1.1 101 Switching Protocols"]),
    "4.2.2-upgrade": ([], 101, ["Upgrade: websocket"]),
    "4.2.2-connection": ([], 101, ["Connection: Upgrade"]),
    "4.2.2-accept": ([], 101, [ACCEPT]),
    "4.2.2-accept-of-another-key": (
        ["Sec-WebSocket-Key: x3JJHMbDL1EzLkh9GBhXDw=="],
        101,
        ["Sec-WebSocket-Accept: HSmrc0sMlYUkAGmm5OPpG2HaGWk="],
    ),
    # 4.3 The grammar of the fields
    "4.3-version-with-leading-zero": (["Sec-WebSocket-Version: 013"], 426, VERSION),
    "4.3-version-that-is-no-number": (["Sec-WebSocket-Version: x"], 426, VERSION),
    "4.3-version-of-two": (["Sec-WebSocket-Version: 13, 8"], 426, VERSION),
    "4.3-version-twice": (["Sec-WebSocket-Version: 13", "Sec-WebSocket-Version: 13"], 426, VERSION),
    "4.3-subprotocol-that-is-no-token": (["Sec-WebSocket-Protocol: a b"], 400, []),
    "4.3-subprotocols-empty": (["Sec-WebSocket-Protocol:"], 400, []),
    "4.3-subprotocols-of-commas": (["Sec-WebSocket-Protocol: ,,"], 400, []),
    "4.3-subprotocol-twice": (["Sec-WebSocket-Protocol: chat, chat"], 400, []),
    "4.3-subprotocols-with-empty-elements": (
        ["Sec-WebSocket-Protocol: , chat ,"],
        101,
        ["Sec-WebSocket-Protocol: chat"],
    ),
    # 4.4 Several versions
    "4.4-all-versions-are-named": (["Sec-WebSocket-Version: 25"], 426, VERSION),
    # 9.1 Negotiating extensions
    **{
        f"9.1-malformed-{name}": ([f"Sec-WebSocket-Extensions: {value}"], 400, [])
        for name, value in {
            "empty": "",
            "no-name": "; a",
            "parameter-without-name": "x; =1",
            "parameter-without-value": "x; a=",
            "semicolon-at-the-end": "x;",
            "no-comma": "x y",
            "no-token": "x@y",
            "quote-not-closed": 'x; a="b',
            "quoted-value-empty": 'x; a=""',
            "quoted-value-no-token": 'x; a="b c"',
        }.items()
    },
    "9.1-two-fields-are-one-list": (["Sec-WebSocket-Extensions: x", DEFLATE], 101, [DEFLATE]),
    "9.1-blanks-and-empty-elements": (
        ["Sec-WebSocket-Extensions: ,\tpermessage-deflate ; server_no_context_takeover ,"],
        101,
        [f"{DEFLATE}; server_no_context_takeover"],
    ),
    "9.1-quoted-value": (
        [f'{DEFLATE}; server_max_window_bits="10"'],
        101,
        [f"{DEFLATE}; server_max_window_bits=10"],
    ),
    "9.1-the-order-is-that-of-preference": (
        [f"{DEFLATE}; server_max_window_bits=9, permessage-deflate"],
        101,
        [f"{DEFLATE}; server_max_window_bits=9"],
    ),
}


def request(lines: list[str]) -> bytes:
    """A good request, with other `lines`."""
    first = lines[0] if lines and re.match(r"[A-Z]+ |SSH-", lines[0]) else GET
    lines = lines[1:] if lines and lines[0] is first else lines
    named = {re.split(r"[ :]", line.removeprefix("-"))[0].lower() for line in lines}
    kept = [line for line in GOOD if line.partition(":")[0].lower() not in named]
    text = "\r\n".join([first, *kept, *[line for line in lines if line[0] != "-"], "", ""])
    return text.encode("latin-1")


def process(request: Request) -> Response | None:
    """What an application answers by itself."""
    fields = {"/401": ("WWW-Authenticate", "Basic"), "/302": ("Location", "/chat"), "/404": ("X", "Y")}
    if request.path not in fields:
        return None
    return Response(int(request.path[1:]), [fields[request.path]], "no\n")


def check_answer(data: bytes, status: int, lines: list[str]) -> None:
    head, _, body = data.partition(b"\r\n\r\n")
    first, *fields = head.decode("latin-1").split("\r\n")
    assert re.match(r"HTTP/1\.1 (\d{3}) ", first), first
    assert int(first.split()[1]) == status
    pairs = [(name.lower(), value) for name, _, value in (field.partition(": ") for field in fields)]
    for line in lines:
        if line.startswith("-"):
            assert line[1:].lower() not in dict(pairs)
        else:
            name, _, value = line.partition(": ")
            assert line == first or (name.lower(), value) in pairs
    if status == 101:
        assert body == b""
        assert [name for name, _ in pairs[:3]] == ["upgrade", "connection", "sec-websocket-accept"]
    else:
        assert "sec-websocket-accept" not in dict(pairs)
        assert "close" in dict(pairs)["connection"]


def by_id(table: dict[str, Any]) -> Any:
    return pytest.mark.parametrize("row", [pytest.param(row, id=name) for name, row in table.items()])


def answer_to(pieces: list[bytes]) -> bytes:
    """What a server answers that gets its request in `pieces`."""
    handshake = ServerHandshake()
    try:
        for piece in pieces:
            if (parsed := handshake.receive_data(piece)) is not None:
                break
        else:
            pytest.fail("the request did not come to its end")
        if (response := process(parsed)) is not None:
            return handshake.reject(response)
        offer = check_request(parsed, origins=Origins(ORIGINS))
    except RequestRejected as refused:
        return handshake.reject(refused.response)
    accepted = accept_offer(Deflate(), offer.extensions)
    subprotocol = select_subprotocol(offer.subprotocols, SUBPROTOCOLS)
    return handshake.accept(
        offer, subprotocol=subprotocol, extensions=() if accepted is None else (accepted[0],)
    )


@by_id(ROWS)
def test_without_io(row: Any) -> None:
    lines, status, expected = row
    data = request(lines)
    answer = answer_to([data])
    check_answer(answer, status, expected)
    assert answer_to([data[i : i + 1] for i in range(len(data))]) == answer


@pytest.fixture(scope="module")
async def server(anyio_backend: str) -> AsyncIterator[wsstream.Server]:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send("open")

    async with wsstream.serve(
        handler,
        "127.0.0.1",
        subprotocols=SUBPROTOCOLS,
        origins=ORIGINS,
        process_request=process,
        compression=Deflate(min_size=1000),
        close_timeout=0,
    ) as server:
        yield server


@pytest.mark.slow
@pytest.mark.anyio
@by_id(ROWS)
async def test_over_a_socket(row: Any, server: wsstream.Server) -> None:
    """A refusal is followed by the end of TCP; the answer 101 by an open connection."""
    lines, status, expected = row
    data = b""
    with anyio.fail_after(10):
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(request(lines))
            with suppress(anyio.EndOfStream):
                while not data.endswith(b"\x81\x04open\x88\x02\x03\xe8"):
                    data += await stream.receive()
    frames = b"\x81\x04open\x88\x02\x03\xe8" if status == 101 else b""
    assert data.endswith(frames)
    check_answer(data.removesuffix(frames), status, expected)
