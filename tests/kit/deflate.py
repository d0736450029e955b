"""permessage-deflate: options of two ends, and what they agree on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from hypothesis import strategies as st

from wsstream.opening.deflate_offer import accept_offer, confirm_response, make_offer
from wsstream.opening.extensions import Extension, format_extensions, parse_extensions
from wsstream.protocol.deflate import Agreed, Deflate, Deflater
from wsstream.protocol.inflate import Inflater, PythonInflater

__all__ = [
    "AGREED",
    "HELLO",
    "INFLATERS",
    "OPTIONS",
    "deflated",
    "inflated",
    "negotiated",
    "offered",
    "steps",
]

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


INFLATERS: dict[str, Any] = {"python": PythonInflater}
if Inflater is not PythonInflater:
    INFLATERS["compiled"] = Inflater

AGREED = Agreed(Deflate(), 15, True, 15, True)
HELLO = bytes.fromhex("f248cdc9c90700")  # section 7.2.3.1


def steps(inflater: Any, size: int) -> Iterable[bytes]:
    while chunk := inflater.take(size):
        assert len(chunk) <= size
        yield chunk


def inflated(inflater: Any, payloads: Sequence[bytes], size: int = 65536) -> bytes:
    """The message whose frames, or pieces of them, have `payloads`."""
    chunks: list[bytes] = []
    for payload in payloads:
        inflater.feed(payload)
        chunks += steps(inflater, size)
    inflater.end()
    return b"".join(chunks)


def deflated(deflater: Deflater, fragments: Sequence[bytes]) -> list[bytes]:
    last = len(fragments) - 1
    return [deflater.compress(fragment, last=index == last) for index, fragment in enumerate(fragments)]
