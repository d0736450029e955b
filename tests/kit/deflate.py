"""permessage-deflate: options of two ends, and what they agree on."""

from __future__ import annotations

from hypothesis import strategies as st

from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.protocol.deflate import Agreed, Deflate

__all__ = ["OPTIONS", "negotiated", "offered"]

OPTIONS = st.builds(
    Deflate,
    level=st.integers(-1, 9),
    mem_level=st.integers(1, 9),
    window_bits=st.integers(9, 15),
    peer_window_bits=st.integers(9, 15),
    context_takeover=st.booleans(),
    peer_context_takeover=st.booleans(),
)


def offered(value: str) -> tuple[Extension, ...]:
    return parse_extensions([value])


def negotiated(client: Deflate, server: Deflate) -> tuple[Agreed, Agreed]:
    """What both ends make of a negotiation, by way of the header fields."""
    accepted = accept_offer(server, offered(format_extensions([make_offer(client)])))
    assert accepted is not None, "a client of ours is never declined"
    answer, at_server = accepted
    at_client = confirm_response(client, offered(format_extensions([answer])))
    assert at_client is not None
    return at_client, at_server
