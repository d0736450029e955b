"""RFC 7692 sections 5 and 7.1: offers and answers, as header fields, and what an endpoint makes of them.

Each row is run without I/O, and once over a socket on each backend, where the peer is zlib alone and messages
show that both sides keep to what was agreed on. All values of the parameters are in
tests/opening/test_deflate_offer.py, all of the grammar in tests/opening/test_extensions.py.
"""

from __future__ import annotations

from random import Random
from typing import Any, NamedTuple

import anyio
import pytest
from anyio.abc import ByteStream
from kit.zlib_peer import HELLO, NAME, NO_TAKEOVER, ZlibPeer

import wsstream
from wsstream import Deflate, HandshakeError
from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import format_extensions, parse_extensions
from wsstream.opening.handshake_client import check_response
from wsstream.opening.headers import Headers
from wsstream.opening.http import Response
from wsstream.testing import Frame, PeerError, RawPeer

PLAIN = Deflate()
FRESH_PEER, FRESH_OURS = Deflate(peer_context_takeover=False), Deflate(context_takeover=False)
ALL_FOUR = Deflate(window_bits=11, peer_window_bits=12, context_takeover=False, peer_context_takeover=False)
SERVER, CLIENT = "; server_max_window_bits", "; client_max_window_bits"
SERVER_FRESH, CLIENT_FRESH = "; server_no_context_takeover", "; client_no_context_takeover"
NOISE = Random(7692).randbytes(1 << 16)


def rows(table: list[Any]) -> Any:
    assert len({row.id for row in table}) == len(table)
    return pytest.mark.parametrize("row", [pytest.param(row, id=row.id) for row in table])


# -- what a client offers ------------------------------------------------------------------------


class Ours(NamedTuple):
    id: str
    options: Deflate
    offer: str


OUR_OFFERS = [
    Ours("7.1.2.2-offers-to-be-told-of-a-window", PLAIN, f"{NAME}{CLIENT}"),
    Ours("7.1-all-four-offered", ALL_FOUR, f"{NO_TAKEOVER}{SERVER}=12{CLIENT}=11"),
]


@rows(OUR_OFFERS)
def test_what_our_client_offers(row: Ours) -> None:
    assert format_extensions([make_offer(row.options)]) == row.offer


@pytest.mark.anyio
@rows(OUR_OFFERS)
async def test_what_our_client_offers_over_a_socket(our_client: Any, row: Ours) -> None:
    async with our_client([], compression=row.options) as online:
        assert online.peer.header("Sec-WebSocket-Extensions") == row.offer


# -- what a server answers -----------------------------------------------------------------------


class Offer(NamedTuple):
    """Header fields of a request, and the server's answer; ``None``: it declines; 400: it refuses."""

    id: str
    fields: tuple[str, ...]
    answer: str | int | None
    options: Deflate | None = PLAIN


def offer(id: str, params: str, answer: str | None, options: Deflate = PLAIN) -> Offer:
    """One offer and its answer, by their parameters."""
    return Offer(id, (NAME + params,), None if answer is None else NAME + answer, options)


NOT_VALID = [
    ("7-unknown", "level"),
    ("7-a-name-in-other-letters", "Server_No_Context_Takeover"),
    ("7-twice", f"server_max_window_bits=10{SERVER}=11"),
    ("7.1.1.1-server-fresh-with-a-value", "server_no_context_takeover=true"),
    ("7.1.1.2-client-fresh-with-a-value", "client_no_context_takeover=1"),
    ("7.1.2.1-server-without-a-value", "server_max_window_bits"),
    *[(f"7.1.2.1-server-{bits}", f"server_max_window_bits={bits}") for bits in ("7", "16", "08")],
    *[(f"7.1.2.2-client-{bits}", f"client_max_window_bits={bits}") for bits in ("7", "16", "08")],
]

OFFERS = [
    Offer("5-nothing-offered", (), None),
    Offer("5-offered", (NAME,), NAME),
    Offer("5-offered-to-a-server-without-compression", (NAME,), None, None),
    Offer("5-one-not-known", ("permessage-bzip2",), None),
    Offer("5-names-are-whole", (f"{NAME}2, x-{NAME}, x-webkit-deflate-frame",), None),
    offer("5-the-first-is-preferred", f"{SERVER}=10, {NAME}", f"{SERVER}=10"),
    offer("5-the-first-is-preferred-though-it-asks-less", f", {NAME}{SERVER}=10", ""),
    Offer("5-fallback-after-one-not-known", (f"permessage-bzip2; level=9, {NAME}",), NAME),
    offer("5-fallback-after-one-that-is-not-valid", f"; level=9, {NAME}", ""),
    offer("5-fallback-after-one-that-cannot-be-met", f"{SERVER}=8, {NAME}", ""),
    Offer("5-the-last-of-many", (", ".join([f"{NAME}; nonsense"] * 50 + [NAME]),), NAME),
    offer("5-none-of-several", f"; level=9, permessage-bzip2, {NAME}{SERVER}=8", None),
    Offer("5-fields-are-one-list", ("permessage-bzip2", f"{NAME}{SERVER}=11", NAME), f"{NAME}{SERVER}=11"),
    Offer("5.1-one-that-may-use-rsv1-too-is-not-accepted-beside", (f"{NAME}, x-webkit-deflate-frame",), NAME),
    Offer("5.1-nor-before", (f"permessage-bzip2, {NAME}",), NAME),
    offer("5-blanks", "\t; \tserver_max_window_bits \t=\t 10 ", f"{SERVER}=10"),
    offer("5-quoted-value", '; server_max_window_bits="1\\0"', f"{SERVER}=10"),
    Offer("5-quoted-value-that-is-no-token", (f'{NAME}; server_max_window_bits="1 0"',), 400),
    Offer("5-one-field-that-is-wrong", (NAME, "permessage@deflate"), 400),
    *[offer(f"{id_}-is-declined", f"; {params}", None) for id_, params in NOT_VALID],
    offer("7.1.1.1-server-fresh", SERVER_FRESH, SERVER_FRESH),
    offer("7.1.1.1-the-server-may-add-it", "", SERVER_FRESH, FRESH_OURS),
    offer("7.1.1.2-client-fresh", CLIENT_FRESH, CLIENT_FRESH),
    offer("7.1.1.2-the-server-may-add-it", "", CLIENT_FRESH, FRESH_PEER),
    offer("7.1.2.1-server-8-zlib-cannot", f"{SERVER}=8", None),
    *[offer(f"7.1.2.1-server-{bits}", f"{SERVER}={bits}", f"{SERVER}={bits}") for bits in (9, 15)],
    offer("7.1.2.1-the-same-or-smaller", f"{SERVER}=12", f"{SERVER}=10", Deflate(window_bits=10)),
    offer("7.1.2.1-never-larger", f"{SERVER}=10", f"{SERVER}=10", Deflate(window_bits=12)),
    offer("7.1.2.1-the-server-may-add-it", "", f"{SERVER}=11", Deflate(window_bits=11)),
    offer("7.1.2.2-without-a-value", CLIENT, ""),
    *[offer(f"7.1.2.2-client-{bits}", f"{CLIENT}={bits}", f"{CLIENT}={bits}") for bits in (8, 14)],
    offer("7.1.2.2-the-server-sets-it", CLIENT, f"{CLIENT}=9", Deflate(peer_window_bits=9)),
    offer(
        "7.1.2.2-the-server-sets-a-smaller-one", f"{CLIENT}=12", f"{CLIENT}=10", Deflate(peer_window_bits=10)
    ),
    offer(
        "7.1.2.2-the-server-sets-no-larger-one", f"{CLIENT}=10", f"{CLIENT}=10", Deflate(peer_window_bits=12)
    ),
    offer("7.1.2.2-not-offered-cannot-be-set", "", None, Deflate(peer_window_bits=14)),
    Offer("7.1-all-four", (f"{NO_TAKEOVER}{CLIENT}=9{SERVER}=10",), f"{NO_TAKEOVER}{SERVER}=10{CLIENT}=9"),
    offer("7.1.3-two-alternatives", f"{CLIENT}{SERVER}=10, {NAME}", f"{SERVER}=10"),
]


@rows(OFFERS)
def test_what_a_server_answers(row: Offer) -> None:
    if row.answer == 400:
        with pytest.raises(ValueError):
            parse_extensions(row.fields)
        return
    offers = parse_extensions(row.fields)
    accepted = None if row.options is None else accept_offer(row.options, offers)
    assert (None if accepted is None else format_extensions([accepted[0]])) == row.answer


@pytest.mark.anyio
@pytest.mark.slow
@rows(OFFERS)
async def test_what_a_server_answers_and_keeps_to_over_a_socket(our_server: Any, row: Offer) -> None:
    if row.answer == 400:
        with pytest.raises(PeerError, match="400"):
            async with our_server(row.fields, compression=row.options):
                pass
        return
    async with our_server(row.fields, compression=row.options) as online:
        assert online.peer.header("Sec-WebSocket-Extensions") == row.answer
        assert online.ws.extensions == (row.answer or "")
        await check_traffic(online, None if row.answer is None else ZlibPeer("server", str(row.answer)))


async def check_traffic(online: Any, peer: ZlibPeer | None) -> None:
    """Messages with something to refer to just beyond the window; the peer keeps to what was agreed on."""
    window = 15 if peer is None else peer.receive_window
    message = NOISE[: (1 << window) + 100 if window < 15 else 700] * 2
    for _ in range(2):
        await online.ws.send(message)
        frame = await online.peer.read_frame()
        assert frame.rsv1 is (peer is not None)
        assert (frame.payload if peer is None else peer.inflate(frame.payload)) == message
        await online.peer.binary(message if peer is None else peer.message(message), rsv1=peer is not None)
        assert await online.ws.receive() == message
    if peer is None:
        await online.peer.text(HELLO, rsv1=True)
        assert (await online.peer.read_frame()).close_code == 1002
        with pytest.raises(wsstream.ConnectionBroken):
            await online.ws.receive()


# -- what a client makes of an answer ------------------------------------------------------------


class Answer(NamedTuple):
    """Header fields of an answer; whether they fail, and what our client's compressor keeps to if not."""

    id: str
    fields: tuple[str, ...]
    options: Deflate | None = PLAIN
    fails: bool = False
    window: int = 15
    takeover: bool = True


def answer(
    id: str,
    params: str,
    options: Deflate = PLAIN,
    *,
    fails: bool = False,
    window: int = 15,
    takeover: bool = True,
) -> Answer:
    """One answer, by its parameters."""
    return Answer(id, (NAME + params,), options, fails, window, takeover)


ANSWERS = [
    Answer("5-accepted", (NAME,)),
    Answer("5-declined", ()),
    Answer("5-accepted-though-nothing-was-offered", (NAME,), None, True),
    Answer("5-another-accepted", ("permessage-bzip2",), fails=True),
    Answer("5-another-name", (NAME.title(),), fails=True),
    Answer("5.1-another-beside", (f"{NAME}, permessage-bzip2",), fails=True),
    Answer("5.1-another-before", (f"permessage-bzip2, {NAME}",), fails=True),
    Answer("5.1-twice", (f"{NAME}, {NAME}",), fails=True),
    Answer("5.1-twice-in-two-fields", (NAME, NAME), fails=True),
    answer("5-blanks", " \t;server_max_window_bits =\t10 "),
    Answer("5-nothing-in-the-field", ("",), fails=True),
    answer("5-quote-that-is-not-closed", '; server_max_window_bits="10', fails=True),
    *[answer(f"{id_}-fails", f"; {params}", fails=True) for id_, params in NOT_VALID],
    answer("7.1.1.1-server-fresh-asked-for", SERVER_FRESH, FRESH_PEER),
    answer("7.1.1.1-server-fresh-added", SERVER_FRESH),
    answer("7.1.1.1-accepts-by-including", "", FRESH_PEER, fails=True),
    answer("7.1.1.1-the-other-side's-is-no-answer", CLIENT_FRESH, FRESH_PEER, fails=True),
    answer("7.1.1.2-client-fresh-added", CLIENT_FRESH, takeover=False),
    answer("7.1.1.2-the-hint-binds-though-the-answer-is-silent", "", FRESH_OURS, takeover=False),
    *[answer(f"7.1.2.1-server-{bits}-added", f"{SERVER}={bits}") for bits in (9, 15)],
    answer("7.1.2.1-server-equal", f"{SERVER}=10", Deflate(peer_window_bits=10)),
    answer("7.1.2.1-server-smaller", f"{SERVER}=9", Deflate(peer_window_bits=10)),
    answer("7.1.2.1-server-larger", f"{SERVER}=11", Deflate(peer_window_bits=10), fails=True),
    answer("7.1.2.1-accepts-by-including", "", Deflate(peer_window_bits=10), fails=True),
    *[answer(f"7.1.2.2-client-{bits}", f"{CLIENT}={bits}", window=bits) for bits in (9, 15)],
    answer("7.1.2.2-client-8-zlib-cannot", f"{CLIENT}=8", fails=True),
    answer("7.1.2.2-client-without-a-value", CLIENT, fails=True),
    answer("7.1.2.2-client-smaller", f"{CLIENT}=9", Deflate(window_bits=10), window=9),
    answer("7.1.2.2-client-larger", f"{CLIENT}=11", Deflate(window_bits=10), fails=True),
    answer("7.1.2.2-the-hint-binds-though-the-answer-is-silent", "", Deflate(window_bits=10), window=10),
    Answer("7.1-all-four", (f"{NO_TAKEOVER}{SERVER}=10{CLIENT}=9",), window=9, takeover=False),
]


@rows(ANSWERS)
def test_what_a_client_makes_of_an_answer(row: Answer) -> None:
    offered = () if row.options is None else (make_offer(row.options),)
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade")]
    fields.append(("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
    fields += [("Sec-WebSocket-Extensions", field) for field in row.fields]
    response = Response.received(101, Headers(fields), b"")

    def agreed() -> Any:
        accepted = check_response(response, key="dGhlIHNhbXBsZSBub25jZQ==", extensions=offered).extensions
        return confirm_response(row.options or PLAIN, accepted)

    if row.fails:
        with pytest.raises((ValueError, HandshakeError)):
            agreed()
    elif (found := agreed()) is None:
        assert row.id == "5-declined"
    else:
        assert (found.send_window, found.send_takeover) == (row.window, row.takeover)


@pytest.mark.anyio
@pytest.mark.slow
@rows(ANSWERS)
async def test_what_a_client_makes_of_an_answer_over_a_socket(our_client: Any, row: Answer) -> None:
    if row.fails:
        wrong = pytest.RaisesExc(HandshakeError, match="extension|Sec-WebSocket-Extensions")
        with pytest.RaisesGroup(wrong):  # of the task group of the listener
            async with our_client(row.fields, compression=row.options):
                pass
        return
    async with our_client(row.fields, compression=row.options) as online:
        peer = None
        if row.fields:
            peer = ZlibPeer("client", row.fields[0])
            peer.receive_window, peer.receive_takeover = row.window, row.takeover
        await check_traffic(online, peer)


@pytest.mark.anyio
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
