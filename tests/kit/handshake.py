"""An opening handshake as lists of header fields, to be changed field by field."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st

__all__ = ["ANSWER", "KEY", "REQUEST", "SOME_FIELDS", "Fields", "changed"]

KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
Fields = Sequence[tuple[str, str]]

REQUEST: Fields = [
    ("Host", "server.example.com"),
    ("Upgrade", "websocket"),
    ("Connection", "Upgrade"),
    ("Sec-WebSocket-Key", KEY),
    ("Sec-WebSocket-Version", "13"),
]
ANSWER: Fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", ACCEPT)]


def changed(fields: Fields, name: str, *values: str) -> list[tuple[str, str]]:
    """`fields` with other values of one field."""
    return [field for field in fields if field[0] != name] + [(name, value) for value in values]


VALUES = st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=30) | st.sampled_from(
    [value for _, value in [*REQUEST, *ANSWER]]
)
NAMES = st.sampled_from(
    [name for name, _ in [*REQUEST, *ANSWER]]
    + ["Origin", "Content-Length", "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"]
)
SOME_FIELDS = st.lists(st.tuples(NAMES, VALUES), max_size=4)
