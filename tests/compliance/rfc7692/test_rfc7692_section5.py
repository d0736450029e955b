"""RFC 7692 section 5: offers and answers, as header fields, and what an endpoint makes of them.

The parameters of permessage-deflate are in section 7.1.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import ByteStream

import wsstream
from wsstream import Deflate, HandshakeError
from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import format_extensions, parse_extensions
from wsstream.opening.handshake_client import check_response
from wsstream.opening.headers import Headers
from wsstream.opening.http import Response
from wsstream.testing import Frame, PeerError, RawPeer

NAME = "permessage-deflate"
HELLO = bytes.fromhex("f248cdc9c90700")
PLAIN = Deflate()
BOTH_BACKENDS = pytest.mark.anyio


class Offer(NamedTuple):
    """Header fields of a request, and the server's answer; ``None``: it declines; 400: it refuses."""

    id: str
    fields: tuple[str, ...]
    answer: str | int | None
    options: Deflate | None = PLAIN


OFFERS = [
    Offer("5-nothing-offered", (), None),
    Offer("5-offered", (NAME,), NAME),
    Offer("5-offered-to-a-server-without-compression", (NAME,), None, None),
    Offer("5-one-not-known", ("permessage-bzip2",), None),
    Offer("5-names-are-whole", (f"{NAME}2, x-{NAME}, x-webkit-deflate-frame",), None),
    Offer(
        "5-the-first-is-preferred",
        (f"{NAME}; server_max_window_bits=10, {NAME}",),
        f"{NAME}; server_max_window_bits=10",
    ),
    Offer(
        "5-the-first-is-preferred-though-it-asks-less", (f"{NAME}, {NAME}; server_max_window_bits=10",), NAME
    ),
    Offer("5-fallback-behind-one-not-known", (f"permessage-bzip2; level=9, {NAME}",), NAME),
    Offer("5-fallback-behind-one-that-is-not-valid", (f"{NAME}; level=9, {NAME}",), NAME),
    Offer(
        "5-fallback-behind-one-that-cannot-be-met",
        (f"{NAME}; server_max_window_bits=8, {NAME}; server_max_window_bits=9",),
        f"{NAME}; server_max_window_bits=9",
    ),
    Offer("5-the-last-of-many", (", ".join([f"{NAME}; nonsense"] * 50 + [NAME]),), NAME),
    Offer(
        "5-none-of-several", (f"{NAME}; level=9, permessage-bzip2, {NAME}; server_max_window_bits=8",), None
    ),
    Offer(
        "5-fields-are-one-list",
        ("permessage-bzip2", f"{NAME}; server_max_window_bits=11", NAME),
        f"{NAME}; server_max_window_bits=11",
    ),
    Offer(
        "5.1-one-that-may-use-rsv1-too-is-not-accepted-beside",
        (f"{NAME}, x-webkit-deflate-frame, permessage-bzip2",),
        NAME,
    ),
    Offer("5.1-nor-before", (f"permessage-bzip2, {NAME}",), NAME),
    # The grammar, of RFC 6455 section 9.1
    Offer(
        "5-blanks",
        (f" \t{NAME}\t; \tserver_max_window_bits \t=\t 10 ",),
        f"{NAME}; server_max_window_bits=10",
    ),
    Offer("5-empty-elements", (f", ,{NAME},,",), NAME),
    Offer("5-quoted-value", (f'{NAME}; server_max_window_bits="10"',), f"{NAME}; server_max_window_bits=10"),
    Offer("5-quoted-pair", (f'{NAME}; server_max_window_bits="1\\0"',), f"{NAME}; server_max_window_bits=10"),
    Offer("5-value-that-is-empty", (f"{NAME}; server_max_window_bits=",), 400),
    Offer("5-quoted-value-that-is-empty", (f'{NAME}; server_max_window_bits=""',), 400),
    Offer("5-quoted-value-that-is-no-token", (f'{NAME}; server_max_window_bits="1 0"',), 400),
    Offer("5-quote-that-is-not-closed", (f'{NAME}; server_max_window_bits="10',), 400),
    Offer("5-parameter-without-a-name", (f"{NAME}; =10",), 400),
    Offer("5-parameter-that-is-empty", (f"{NAME};",), 400),
    Offer("5-parameters-without-a-semicolon", (f"{NAME} server_no_context_takeover",), 400),
    Offer("5-extension-without-a-name", ("; server_no_context_takeover",), 400),
    Offer("5-one-field-that-is-wrong", (NAME, "permessage@deflate"), 400),
]


class Answer(NamedTuple):
    """Header fields of an answer, and what is agreed on: compression, none (``None``), or failure."""

    id: str
    fields: tuple[str, ...]
    agreed: bool | str | None
    options: Deflate | None = PLAIN


FAILS = "fails"
ANSWERS = [
    Answer("5-accepted", (NAME,), True),
    Answer("5-declined", (), None),
    Answer("5-accepted-though-nothing-was-offered", (NAME,), FAILS, None),
    Answer("5-another-accepted", ("permessage-bzip2",), FAILS),
    Answer("5-another-name", (NAME.title(),), FAILS),
    Answer("5.1-another-beside", (f"{NAME}, permessage-bzip2",), FAILS),
    Answer("5.1-another-before", (f"permessage-bzip2, {NAME}",), FAILS),
    Answer("5.1-twice", (f"{NAME}, {NAME}",), FAILS),
    Answer("5.1-twice-in-two-fields", (NAME, NAME), FAILS),
    Answer("5.1-twice-with-different-parameters", (f"{NAME}, {NAME}; server_max_window_bits=10",), FAILS),
    Answer("5-blanks", (f" \t{NAME} \t;server_max_window_bits =\t10 ",), True),
    Answer("5-empty-elements", (f",{NAME}, ,",), True),
    Answer("5-quoted-value", (f'{NAME}; server_max_window_bits="10"',), True),
    Answer("5-nothing-in-the-field", ("",), FAILS),
    Answer("5-nothing-in-the-list", (", ,",), FAILS),
    Answer("5-value-that-is-empty", (f"{NAME}; server_max_window_bits=",), FAILS),
    Answer("5-quoted-value-that-is-empty", (f'{NAME}; server_max_window_bits=""',), FAILS),
    Answer("5-quote-that-is-not-closed", (f'{NAME}; server_max_window_bits="10',), FAILS),
    Answer("5-parameter-that-is-empty", (f"{NAME}; ",), FAILS),
    Answer("5-parameters-without-a-semicolon", (f"{NAME} server_no_context_takeover",), FAILS),
]


def rows(table: list[Any]) -> Any:
    assert len({row.id for row in table}) == len(table)
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


# -- the server's answer -------------------------------------------------------------------------


@rows(OFFERS)
def test_what_a_server_answers(row: Offer) -> None:
    if row.answer == 400:
        with pytest.raises(ValueError):
            parse_extensions(row.fields)
        return
    offers = parse_extensions(row.fields)
    accepted = None if row.options is None else accept_offer(row.options, offers)
    assert (None if accepted is None else format_extensions([accepted[0]])) == row.answer


@BOTH_BACKENDS
@pytest.mark.slow
@rows(OFFERS)
async def test_what_a_server_answers_over_a_socket(our_server: Any, row: Offer) -> None:
    if row.answer == 400:
        with pytest.raises(PeerError, match="400"):
            async with our_server(row.fields, compression=row.options):
                pass
        return
    async with our_server(row.fields, compression=row.options) as online:
        assert online.peer.header("Sec-WebSocket-Extensions") == row.answer
        assert online.ws.extensions == (row.answer or "")
        await check_use(online, compressed=row.answer is not None)


async def check_use(online: Any, *, compressed: bool) -> None:
    """RSV1 stands for compression where it was agreed on, and for nothing where it was not."""
    await online.ws.send("Hello" * 20)
    assert (await online.peer.read_frame()).rsv1 is compressed
    await online.peer.text(HELLO, rsv1=True)
    if compressed:
        assert await online.ws.receive() == "Hello"
    else:
        assert (await online.peer.read_frame()).close_code == 1002
        with pytest.raises(wsstream.ConnectionBroken):
            await online.ws.receive()


# -- what a client makes of it -------------------------------------------------------------------


def confirmed(row: Answer) -> bool | None:
    offered = () if row.options is None else (make_offer(row.options),)
    key = "dGhlIHNhbXBsZSBub25jZQ=="
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    fields.append(("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    fields += [("Sec-WebSocket-Extensions", field) for field in row.fields]
    response = Response.received(101, Headers(fields), b"")
    accepted = check_response(response, key=key, extensions=offered).extensions
    if row.options is None:
        return None
    return None if confirm_response(row.options, accepted) is None else True


@rows(ANSWERS)
def test_what_a_client_makes_of_an_answer(row: Answer) -> None:
    if row.agreed == FAILS:
        with pytest.raises((ValueError, HandshakeError)):
            confirmed(row)
    else:
        assert confirmed(row) is row.agreed


@BOTH_BACKENDS
@pytest.mark.slow
@rows(ANSWERS)
async def test_what_a_client_makes_of_an_answer_over_a_socket(our_client: Any, row: Answer) -> None:
    if row.agreed == FAILS:
        wrong = pytest.RaisesExc(HandshakeError, match="extension|Sec-WebSocket-Extensions")
        with pytest.RaisesGroup(wrong):  # of the task group of the listener
            async with our_client(row.fields, compression=row.options):
                pass
        return
    async with our_client(row.fields, compression=row.options) as online:
        assert (online.peer.header("Sec-WebSocket-Extensions") is None) is (row.options is None)
        await check_use(online, compressed=row.agreed is not None)


@BOTH_BACKENDS
async def test_5_a_client_that_fails_the_handshake_sends_nothing_more(raw_listener: Any) -> None:
    """_Fail the WebSocket Connection_ before it is open: TCP is closed, and there is no Close frame."""
    frames: list[Frame] = []
    ended = anyio.Event()

    async def server(stream: ByteStream) -> None:
        fields = [("Sec-WebSocket-Extensions", "permessage-bzip2")]
        async with await RawPeer.as_server(stream, headers=fields) as raw:
            frames.extend(await raw.read_to_end())
            ended.set()

    async with raw_listener(server) as url:
        with pytest.raises(HandshakeError, match="permessage-bzip2"):
            async with wsstream.connect(url, compression=PLAIN):
                pass
        with anyio.fail_after(5):
            await ended.wait()
    assert frames == []
