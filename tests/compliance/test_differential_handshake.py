"""The same header fields to this library, to websockets and to wsproto: the same is read, the same agreed on.

websockets is strict enough to be held against in everything. wsproto takes offers apart at commas, ignores
parameters it does not know and accepts doubled ones (its `_parse_params`), so it only gets valid offers.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from typing import Any, Final, TypeAlias

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.datastructures import Headers as WebsocketsHeaders
from websockets.exceptions import InvalidHandshake
from websockets.extensions.permessage_deflate import (
    ClientPerMessageDeflateFactory,
    PerMessageDeflate,
    ServerPerMessageDeflateFactory,
)
from websockets.headers import parse_extension, parse_subprotocol
from websockets.http11 import Request as WebsocketsRequest
from websockets.server import ServerProtocol
from websockets.uri import parse_uri
from websockets.utils import accept_key as websockets_accept_key
from wsproto import ConnectionType, WSConnection
from wsproto.events import AcceptConnection
from wsproto.events import Request as WsprotoRequest
from wsproto.extensions import PerMessageDeflate as WsprotoDeflate
from wsproto.utilities import generate_accept_token

from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.opening.grammar import parse_token_list
from wsstream.opening.handshake import accept_key
from wsstream.opening.handshake_server import check_request, select_subprotocol
from wsstream.opening.http1 import ClientHandshake, ServerHandshake
from wsstream.opening.url import parse_url
from wsstream.protocol.deflate import Agreed, Deflate

EXAMPLES = pytest.mark.parametrize("examples", [25, pytest.param(300, marks=pytest.mark.slow)])
NAME: Final = "permessage-deflate"
WHERE: Final = "ws://example.com/chat"

Terms: TypeAlias = tuple[int, bool, int, bool]
"""What an endpoint agreed on: window and takeover of what it sends, and of what it receives."""


def explore(test: Any, examples: int, *strategies: st.SearchStrategy[Any]) -> None:
    given(*strategies)(settings(max_examples=examples)(test))()


# -- the grammar ---------------------------------------------------------------------------------

PIECES: Final = [
    "a", "b1", NAME, ",", ";", "=", " ", "\t", '"', "\\", '"a"', "=b", "; c", "=15", ", ", "é", "\x00", "/",
]  # fmt: skip
VALUES = st.lists(st.sampled_from(PIECES), max_size=12).map("".join) | st.lists(
    st.sampled_from(["a", NAME, "; b", "; c=d", '; e="f"', '; g="\\h"', "\t;i = j", ", ", ",", ",,k"]),
    max_size=6,
).map("".join)


def or_refused(parse: Any, *arguments: Any) -> Any:
    """What `parse` gives, or ``None`` if it refuses."""
    try:
        return parse(*arguments)
    except (ValueError, InvalidHandshake):
        return None


@EXAMPLES
def test_extension_headers_are_read_alike(examples: int) -> None:
    def alike(value: str) -> None:
        value = value.strip(" \t")  # HTTP takes the blanks off
        theirs = or_refused(parse_extension, value)
        expected = (
            None if theirs is None else tuple(Extension(name, tuple(params)) for name, params in theirs)
        )
        assert or_refused(parse_extensions, [value]) == expected

    explore(alike, 4 * examples, VALUES)


@EXAMPLES
def test_lists_of_subprotocols_are_read_alike(examples: int) -> None:
    def alike(value: str) -> None:
        value = value.strip(" \t")
        theirs = or_refused(parse_subprotocol, value)
        assert or_refused(parse_token_list, [value]) == (None if theirs is None else tuple(theirs))

    explore(alike, 2 * examples, VALUES)


@given(st.binary(min_size=16, max_size=16))
@settings(max_examples=50)
def test_all_answer_a_key_alike(nonce: bytes) -> None:
    key = base64.b64encode(nonce).decode()
    assert accept_key(key) == websockets_accept_key(key) == generate_accept_token(key.encode()).decode()


# -- what is agreed on ---------------------------------------------------------------------------

BITS = st.integers(9, 15)
OPTIONS = st.builds(
    Deflate,
    window_bits=BITS,
    peer_window_bits=BITS,
    context_takeover=st.booleans(),
    peer_context_takeover=st.booleans(),
)
NAMES: Final = [
    f"{side}_{what}" for side in ("server", "client") for what in ("no_context_takeover", "max_window_bits")
]
PARAMS = st.tuples(
    st.sampled_from([*NAMES, *NAMES, "unknown"]),
    st.sampled_from([None, None, "8", "9", "12", "15", "16", "7", "08", "x"]),
)
ANY_EXTENSION = st.builds(
    Extension,
    st.sampled_from([NAME, NAME, NAME, "x-webkit-deflate-frame"]),
    st.lists(PARAMS, max_size=3).map(tuple),
)


@st.composite
def valid_params(draw: st.DrawFn, *, least: int = 8) -> tuple[tuple[str, str | None], ...]:
    """Those of an offer, in any order."""
    params: list[tuple[str, str | None]] = []
    params += [(name, None) for name in NAMES if name.endswith("takeover") and draw(st.booleans())]
    if draw(st.booleans()):
        params.append(("server_max_window_bits", str(draw(st.integers(least, 15)))))
    if draw(st.booleans()):
        bits = draw(st.none() | st.integers(least, 15).map(str))
        params.append(("client_max_window_bits", bits))
    return tuple(draw(st.permutations(params)))


VALID = st.builds(Extension, st.just(NAME), valid_params())
EXTENSIONS = st.lists(VALID | ANY_EXTENSION, min_size=1, max_size=3)


def terms(agreed: Agreed | None) -> Terms | None:
    if agreed is None:
        return None
    return agreed.send_window, agreed.send_takeover, agreed.receive_window, agreed.receive_takeover


def terms_of_websockets(extensions: Sequence[Any]) -> Terms | None:
    if not extensions:
        return None
    (each,) = extensions
    assert isinstance(each, PerMessageDeflate)
    return (
        each.local_max_window_bits,
        not each.local_no_context_takeover,
        each.remote_max_window_bits,
        not each.remote_no_context_takeover,
    )


def below_15(bits: int) -> int | None:
    return bits if bits < 15 else None


def websockets_server(options: Deflate) -> ServerPerMessageDeflateFactory:
    """A server that wants just what ours with `options` wants."""
    return ServerPerMessageDeflateFactory(
        server_no_context_takeover=not options.context_takeover,
        client_no_context_takeover=not options.peer_context_takeover,
        server_max_window_bits=below_15(options.window_bits),
        client_max_window_bits=below_15(options.peer_window_bits),
        require_client_max_window_bits=options.peer_window_bits < 15,
    )


def websockets_client(options: Deflate) -> ClientPerMessageDeflateFactory:
    return ClientPerMessageDeflateFactory(
        server_no_context_takeover=not options.peer_context_takeover,
        client_no_context_takeover=not options.context_takeover,
        server_max_window_bits=below_15(options.peer_window_bits),
        client_max_window_bits=below_15(options.window_bits) or True,
    )


def websockets_headers(extensions: Sequence[Extension]) -> WebsocketsHeaders:
    return WebsocketsHeaders([("Sec-WebSocket-Extensions", format_extensions(extensions))])


@EXAMPLES
def test_servers_agree_to_the_same_offers_on_the_same_terms(examples: int) -> None:
    def alike(options: Deflate, offers: list[Extension]) -> None:
        peer = ServerProtocol(extensions=[websockets_server(options)])
        _, theirs = peer.process_extensions(websockets_headers(offers))
        ours = accept_offer(options, offers)
        assert terms(ours and ours[1]) == terms_of_websockets(theirs)

    explore(alike, 2 * examples, OPTIONS, EXTENSIONS)


@EXAMPLES
def test_clients_accept_the_same_responses_on_the_same_terms(examples: int) -> None:
    def alike(options: Deflate, accepted: list[Extension]) -> None:
        peer = ClientProtocol(parse_uri(WHERE), extensions=[websockets_client(options)])
        theirs = or_refused(peer.process_extensions, websockets_headers(accepted))
        ours = or_refused(confirm_response, options, accepted)
        assert terms(ours) == terms_of_websockets(theirs or ())

    explore(alike, 2 * examples, OPTIONS, EXTENSIONS)


@EXAMPLES
def test_clients_offer_the_same(examples: int) -> None:
    def alike(options: Deflate) -> None:
        assert make_offer(options) == (NAME, tuple(websockets_client(options).get_request_params()))

    explore(alike, examples, OPTIONS)


@EXAMPLES
def test_wsproto_agrees_to_a_valid_offer_on_the_same_terms(examples: int) -> None:
    def alike(params: tuple[tuple[str, str | None], ...]) -> None:
        offer, peer = Extension(NAME, params), WsprotoDeflate()
        answer = peer.accept(format_extensions([offer]))
        ours = accept_offer(Deflate(), [offer])
        assert ours is not None
        assert terms(ours[1]) == terms_of_wsproto(peer, "server")
        assert isinstance(answer, str)

    explore(alike, examples, valid_params(least=9))


def terms_of_wsproto(peer: WsprotoDeflate, role: str) -> Terms:
    server = peer.server_max_window_bits, not peer.server_no_context_takeover
    client = peer.client_max_window_bits, not peer.client_no_context_takeover
    return (*server, *client) if role == "server" else (*client, *server)


# -- the whole opening handshake -----------------------------------------------------------------

SUBPROTOCOLS = st.lists(st.sampled_from(["chat", "superchat", "v2.x"]), max_size=3, unique=True)
KEYS = st.binary(min_size=16, max_size=16)
DEFLATES = st.none() | OPTIONS


def offers_of(options: Deflate | None) -> tuple[Extension, ...]:
    return () if options is None else (make_offer(options),)


def our_client(key: bytes, options: Deflate | None, subprotocols: list[str]) -> tuple[ClientHandshake, bytes]:
    client = ClientHandshake(
        parse_url(WHERE), key=key, subprotocols=subprotocols, extensions=offers_of(options)
    )
    return client, client.data_to_send()


def client_result(
    client: ClientHandshake, answer: bytes, options: Deflate | None
) -> tuple[str, Terms | None]:
    result = client.receive_data(answer)
    assert result is not None
    return result.subprotocol, terms(confirm_response(options or Deflate(), result.extensions))


def our_server(
    request: bytes, options: Deflate | None, supported: list[str]
) -> tuple[bytes, str, Terms | None]:
    """Our server's answer, and what it agreed on."""
    server = ServerHandshake()
    received = server.receive_data(request)
    assert received is not None
    offer = check_request(received)
    chosen = select_subprotocol(offer.subprotocols, supported)
    agreed = None if options is None else accept_offer(options, offer.extensions)
    extensions = () if agreed is None else (agreed[0],)
    answer = server.accept(offer, subprotocol=chosen, extensions=extensions)
    return answer, chosen, terms(agreed and agreed[1])


def mirrored(seen: Terms | None) -> Terms | None:
    """The terms as the other endpoint has them."""
    return seen and (*seen[2:], *seen[:2])


@EXAMPLES
def test_our_client_and_the_server_of_websockets_agree(examples: int) -> None:
    def agree(key: bytes, mine: Deflate | None, yours: Deflate | None, subprotocols: list[str]) -> None:
        client, request = our_client(key, mine, subprotocols)
        extensions = [] if yours is None else [websockets_server(yours)]
        peer = ServerProtocol(subprotocols=subprotocols or None, extensions=extensions)  # type: ignore[arg-type]
        peer.receive_data(request)
        (received,) = peer.events_received()
        assert isinstance(received, WebsocketsRequest)
        peer.send_response(peer.accept(received))
        subprotocol, agreed = client_result(client, b"".join(peer.data_to_send()), mine)
        assert subprotocol == (peer.subprotocol or "")
        assert agreed == mirrored(terms_of_websockets(peer.extensions))

    explore(agree, examples, KEYS, DEFLATES, DEFLATES, SUBPROTOCOLS)


@EXAMPLES
def test_the_client_of_websockets_and_our_server_agree(examples: int) -> None:
    def agree(
        mine: Deflate | None, yours: Deflate | None, subprotocols: list[str], supported: list[str]
    ) -> None:
        # With [] it would send an empty field, which it refuses itself (RFC 6455 section 9.1: one at least).
        extensions = None if yours is None else [websockets_client(yours)]
        peer = ClientProtocol(parse_uri(WHERE), subprotocols=subprotocols or None, extensions=extensions)  # type: ignore[arg-type]
        peer.send_request(peer.connect())
        answer, chosen, agreed = our_server(b"".join(peer.data_to_send()), mine, supported)
        peer.receive_data(answer)
        assert peer.handshake_exc is None
        assert (peer.subprotocol or "") == chosen
        assert agreed == mirrored(terms_of_websockets(peer.extensions))

    explore(agree, examples, DEFLATES, DEFLATES, SUBPROTOCOLS, SUBPROTOCOLS)


@EXAMPLES
def test_our_client_and_the_server_of_wsproto_agree(examples: int) -> None:
    def agree(key: bytes, mine: Deflate | None, subprotocols: list[str]) -> None:
        client, request = our_client(key, mine, subprotocols)
        peer, extension = WSConnection(ConnectionType.SERVER), WsprotoDeflate()
        peer.receive_data(request)
        (received,) = peer.events()
        assert isinstance(received, WsprotoRequest)
        assert received.subprotocols == subprotocols
        chosen = subprotocols[-1] if subprotocols else None
        answer = peer.send(AcceptConnection(subprotocol=chosen, extensions=[extension]))
        assert client_result(client, answer, mine) == (
            chosen or "",
            mirrored(terms_of_wsproto(extension, "server")) if mine else None,
        )

    explore(agree, examples, KEYS, DEFLATES, SUBPROTOCOLS)


@EXAMPLES
def test_the_client_of_wsproto_and_our_server_agree(examples: int) -> None:
    def agree(
        mine: Deflate | None, yours: Deflate | None, subprotocols: list[str], supported: list[str]
    ) -> None:
        peer = WSConnection(ConnectionType.CLIENT)
        extensions = [] if yours is None else [wsproto_client(yours)]
        request = peer.send(
            WsprotoRequest("example.com", "/chat", extensions=extensions, subprotocols=subprotocols)
        )
        answer, chosen, agreed = our_server(request, mine, supported)
        peer.receive_data(answer)
        (accepted,) = peer.events()
        assert isinstance(accepted, AcceptConnection)
        assert (accepted.subprotocol or "") == chosen
        theirs = [terms_of_wsproto(each, "client") for each in accepted.extensions]  # type: ignore[arg-type]
        assert [agreed] == ([mirrored(each) for each in theirs] or [None])

    explore(agree, examples, DEFLATES, DEFLATES, SUBPROTOCOLS, SUBPROTOCOLS)


def wsproto_client(options: Deflate) -> WsprotoDeflate:
    return WsprotoDeflate(
        client_no_context_takeover=not options.context_takeover,
        client_max_window_bits=options.window_bits,
        server_no_context_takeover=not options.peer_context_takeover,
        server_max_window_bits=options.peer_window_bits,
    )
