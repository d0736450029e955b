"""The rules of the opening handshake that both sides share (RFC 6455 section 4), for any HTTP version.

:mod:`~wsstream.opening.handshake_client` and :mod:`~wsstream.opening.handshake_server` have the others.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Iterable

from wsstream.arguments import check_type
from wsstream.display import quoted
from wsstream.opening.grammar import is_token
from wsstream.opening.headers import Headers

__all__ = [
    "NONCE_SIZE",
    "accept_key",
    "basic_credentials",
    "check_extra",
    "has_item",
    "has_upgrade_option",
    "validate_subprotocols",
]

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
NONCE_SIZE = 16
"""Bytes of the nonce that `Sec-WebSocket-Key` carries in base64 (RFC 6455 section 4.1)."""
_RESERVED = frozenset({"connection", "upgrade", "content-length", "transfer-encoding"})


def accept_key(key: str) -> str:
    """The ``Sec-WebSocket-Accept`` that answers a ``Sec-WebSocket-Key`` (RFC 6455 section 4.2.2)."""
    digest = hashlib.sha1(key.encode("latin-1") + _GUID, usedforsecurity=False).digest()
    return binascii.b2a_base64(digest, newline=False).decode()


def validate_subprotocols(subprotocols: Iterable[str]) -> tuple[str, ...]:
    """Check the subprotocols that an application offers or supports.

    Raises:
        TypeError: `subprotocols` is itself a ``str``, or an element is not a ``str``.
        ValueError: an element is not a token, or occurs twice.
    """
    if isinstance(subprotocols, str):
        raise TypeError("subprotocols must be a sequence of str, got a str")
    # Section 4.1, the request, 10: the elements are tokens, and all different.
    names = tuple(subprotocols)
    for number, name in enumerate(names, 1):
        check_type("a subprotocol", name, str, "a str")
        if not is_token(name):  # not shown: some clients send credentials as a subprotocol
            raise ValueError(f"subprotocol {number} must be a token (RFC 6455 section 4.1)")
    if len(set(names)) != len(names):
        raise ValueError("duplicate subprotocol (RFC 6455 section 4.1)")
    return names


def check_extra(extra: Headers) -> None:
    """Check the header fields that an application adds to its side of the handshake.

    Raises:
        ValueError: a field is one that the handshake sets itself.
    """
    for name in extra:
        if name in _RESERVED or name.startswith("sec-websocket-"):
            raise ValueError(f"headers must not have {quoted(name)}: the opening handshake sets it itself")


def basic_credentials(user: str, password: str) -> str:
    """The value of ``Authorization`` or ``Proxy-Authorization`` for the Basic scheme."""
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()  # RFC 7617


def has_upgrade_option(connection: Iterable[str]) -> bool:
    """Whether the values of ``Connection`` have ``Upgrade``, in any case (RFC 6455 section 4.2.1)."""
    return has_item(connection, "upgrade")


def has_item(values: Iterable[str], item: str) -> bool:
    """Whether the values of a field are a list that has `item`, given in lower case, in any case."""
    for value in values:
        value = value.lower()
        if value == item or ("," in value and item in [each.strip(" \t") for each in value.split(",")]):
            return True
    return False
