"""Negotiating permessage-deflate: RFC 7692 section 7.1 as tables."""

from __future__ import annotations

import zlib
from dataclasses import replace

import pytest
from hypothesis import given
from kit.deflate import OPTIONS, negotiated, offered

from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import format_extensions
from wsstream.protocol.deflate import Agreed, Deflate

NAME = "permessage-deflate"
PLAIN = Deflate()
AGREED = Agreed(PLAIN, 15, True, 15, True)
WINDOWS = range(9, 16)


def response_to(value: str, options: Deflate = PLAIN) -> str | None:
    """What a server answers to the header `value`; ``None`` if it declines."""
    accepted = accept_offer(options, offered(value))
    return None if accepted is None else format_extensions([accepted[0]])


@pytest.mark.parametrize(
    ("options", "offer"),
    [
        (Deflate(), "client_max_window_bits"),
        (Deflate(window_bits=10), "client_max_window_bits=10"),
        (Deflate(peer_window_bits=9), "server_max_window_bits=9; client_max_window_bits"),
        (Deflate(context_takeover=False), "client_no_context_takeover; client_max_window_bits"),
        (Deflate(peer_context_takeover=False), "server_no_context_takeover; client_max_window_bits"),
    ],
    ids=str,
)
def test_what_a_client_offers(options: Deflate, offer: str) -> None:
    assert format_extensions([make_offer(options)]) == f"{NAME}; {offer}"


VALID_OFFERS = [
    # 7.1.1.1 server_no_context_takeover
    ("; server_no_context_takeover", PLAIN, "; server_no_context_takeover"),
    ("", Deflate(context_takeover=False), "; server_no_context_takeover"),
    # 7.1.1.2 client_no_context_takeover
    ("; client_no_context_takeover", PLAIN, "; client_no_context_takeover"),
    ("", Deflate(peer_context_takeover=False), "; client_no_context_takeover"),
    # 7.1.2.1 server_max_window_bits
    *[(f"; server_max_window_bits={n}", PLAIN, f"; server_max_window_bits={n}") for n in WINDOWS],
    ("; server_max_window_bits=12", Deflate(window_bits=10), "; server_max_window_bits=10"),
    ("; server_max_window_bits=10", Deflate(window_bits=12), "; server_max_window_bits=10"),
    ("", Deflate(window_bits=11), "; server_max_window_bits=11"),
    ('; server_max_window_bits="10"', PLAIN, "; server_max_window_bits=10"),
    # 7.1.2.2 client_max_window_bits
    ("; client_max_window_bits", PLAIN, ""),
    ("; client_max_window_bits=15", PLAIN, ""),
    *[(f"; client_max_window_bits={n}", PLAIN, f"; client_max_window_bits={n}") for n in range(8, 15)],
    ("; client_max_window_bits", Deflate(peer_window_bits=9), "; client_max_window_bits=9"),
    ("; client_max_window_bits=12", Deflate(peer_window_bits=10), "; client_max_window_bits=10"),
    ("; client_max_window_bits=10", Deflate(peer_window_bits=12), "; client_max_window_bits=10"),
    # 7.1.3 example
    ("; client_max_window_bits; server_max_window_bits=10", PLAIN, "; server_max_window_bits=10"),
]


@pytest.mark.parametrize(("offer", "options", "answer"), VALID_OFFERS, ids=str)
def test_a_valid_offer_is_answered(offer: str, options: Deflate, answer: str) -> None:
    assert response_to(NAME + offer, options) == NAME + answer


BAD_WINDOWS = [
    "0", "1", "7", "16", "100", "08", "09", "010", "015", "-9", "+9", "9.0", "1e1", "0xA", "ten", "9" * 20,
]  # fmt: skip
INVALID_PARAMETERS = [
    # section 7: not defined, or more than once
    "unknown",
    "unknown=1",
    "Server_No_Context_Takeover",
    "server_no_context_takeover; server_no_context_takeover",
    "client_max_window_bits; client_max_window_bits=10",
    "server_max_window_bits=10; server_max_window_bits=10",
    # 7.1.1.1 and 7.1.1.2: no value
    "server_no_context_takeover=true",
    "client_no_context_takeover=1",
    # 7.1.2.1 and 7.1.2.2: 8 to 15, no leading zeros
    "server_max_window_bits",
    *[f"{side}_max_window_bits={value}" for side in ("server", "client") for value in BAD_WINDOWS],
]


@pytest.mark.parametrize("params", INVALID_PARAMETERS)
def test_an_invalid_offer_is_declined(params: str) -> None:
    assert response_to(f"{NAME}; {params}") is None
    assert response_to(f"{NAME}; {params}, {NAME}") == NAME, "the next one still counts"


def test_an_offer_that_cannot_be_met_is_declined() -> None:
    # zlib makes no raw deflate with a window of 2**8 bytes
    assert response_to(f"{NAME}; server_max_window_bits=8") is None
    # 7.1.2.2: a client that does not offer the parameter cannot be told of a smaller window
    assert response_to(NAME, Deflate(peer_window_bits=14)) is None
    assert response_to(f"{NAME}; client_no_context_takeover", Deflate(peer_window_bits=9)) is None


def test_zlib_makes_no_raw_deflate_with_a_window_of_2_to_the_8th() -> None:
    with pytest.raises(ValueError):
        zlib.compressobj(wbits=-8)


def test_the_first_acceptable_alternative_wins() -> None:
    """Section 7.1.3, and section 5.2 of offers with other extensions between."""
    assert response_to(f"{NAME}; server_max_window_bits=10, {NAME}") == f"{NAME}; server_max_window_bits=10"
    assert response_to(f"{NAME}, {NAME}; server_max_window_bits=10") == NAME
    assert response_to(f"x-other, {NAME}; server_max_window_bits=8, {NAME}; unknown, {NAME}") == NAME
    assert response_to("x-other, x-webkit-deflate-frame") is None
    assert accept_offer(PLAIN, ()) is None


def test_what_a_server_agrees_on() -> None:
    offer = offered(f"{NAME}; server_no_context_takeover; client_max_window_bits=8")
    accepted = accept_offer(PLAIN, offer)
    assert accepted is not None
    assert accepted[1] == Agreed(PLAIN, 15, False, 8, True)


def confirmed(params: str, options: Deflate = PLAIN) -> Agreed | None:
    return confirm_response(options, offered(NAME + params))


VALID_RESPONSES = [
    ("", PLAIN, AGREED),
    # 7.1.1.1: a server may add it though it was not asked to
    ("; server_no_context_takeover", PLAIN, replace(AGREED, receive_takeover=False)),
    # 7.1.1.2: likewise
    ("; client_no_context_takeover", PLAIN, replace(AGREED, send_takeover=False)),
    # 7.1.2.1: likewise; an inflater has no trouble with 8
    *[(f"; server_max_window_bits={n}", PLAIN, replace(AGREED, receive_window=n)) for n in range(8, 16)],
    # 7.1.2.2: the client has offered it
    *[(f"; client_max_window_bits={n}", PLAIN, replace(AGREED, send_window=n)) for n in WINDOWS],
]


@pytest.mark.parametrize(("params", "options", "agreed"), VALID_RESPONSES, ids=str)
def test_a_valid_response_is_confirmed(params: str, options: Deflate, agreed: Agreed) -> None:
    assert confirmed(params, options) == agreed


def test_a_client_keeps_to_its_own_limits_though_the_response_is_silent() -> None:
    agreed = confirmed("", Deflate(window_bits=10, context_takeover=False))
    assert agreed is not None
    assert (agreed.send_window, agreed.send_takeover) == (10, False)


def test_a_declined_offer_is_no_compression() -> None:
    assert confirm_response(PLAIN, ()) is None


INVALID_RESPONSES = [
    *[(params, PLAIN) for params in INVALID_PARAMETERS],
    # 7.1.1.1: "accepts by including"
    ("client_no_context_takeover", Deflate(peer_context_takeover=False)),
    # 7.1.2.1: larger than asked for, by number or by silence
    ("server_max_window_bits=11", Deflate(peer_window_bits=10)),
    ("client_max_window_bits=15", Deflate(peer_window_bits=10)),
    # 7.1.2.2: no value; larger than offered; smaller than zlib can
    ("client_max_window_bits", PLAIN),
    ("client_max_window_bits=11", Deflate(window_bits=10)),
    ("client_max_window_bits=8", PLAIN),
]


@pytest.mark.parametrize(("params", "options"), INVALID_RESPONSES, ids=str)
def test_an_invalid_response_fails(params: str, options: Deflate) -> None:
    with pytest.raises(ValueError):
        confirmed(f"; {params}", options)


@pytest.mark.parametrize("value", ["x-other", f"{NAME}, {NAME}", f"{NAME}, x-other", f"x-other, {NAME}"])
def test_a_response_with_another_extension_fails(value: str) -> None:
    with pytest.raises(ValueError):
        confirm_response(PLAIN, offered(value))


@given(OPTIONS, OPTIONS)
def test_both_ends_agree_on_the_same_and_keep_to_both_sides_limits(client: Deflate, server: Deflate) -> None:
    at_client, at_server = negotiated(client, server)
    assert (at_client.options, at_server.options) == (client, server)
    assert (at_client.send_window, at_client.send_takeover) == (
        at_server.receive_window,
        at_server.receive_takeover,
    )
    assert (at_server.send_window, at_server.send_takeover) == (
        at_client.receive_window,
        at_client.receive_takeover,
    )
    assert at_client.send_window == min(client.window_bits, server.peer_window_bits)
    assert at_server.send_window == min(server.window_bits, client.peer_window_bits)
    assert at_client.send_takeover is (client.context_takeover and server.peer_context_takeover)
    assert at_server.send_takeover is (server.context_takeover and client.peer_context_takeover)
