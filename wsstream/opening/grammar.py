"""Tokens and lists of tokens, the grammar that most fields of the opening handshake share.

A list is what RFC 6455 inherits from RFC 2616 section 2.1 and RFC 9110 section 5.6.1 keeps: header fields of
one name are one list, blanks around an element and empty elements count for nothing, but it must have at
least one element.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["TCHAR", "TOKEN", "is_host", "is_token", "parse_token_list"]

TCHAR = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]"
"""A pattern for one character of a token (RFC 9110 section 5.6.2)."""
TOKEN = re.compile(rf"{TCHAR}++")
_HOST = re.compile(r"(?:\[[0-9A-Za-z:.]+\]|[A-Za-z0-9\-._~!$&'()*+,;=%]+)(?::[0-9]*)?")


def is_token(text: str) -> bool:
    """Whether `text` is a token of HTTP (RFC 9110 section 5.6.2). The empty string is not."""
    return TOKEN.fullmatch(text) is not None


def is_host(text: str) -> bool:
    """Whether `text` is a host with an optional port (RFC 3986 section 3.2.2)."""
    return _HOST.fullmatch(text) is not None


def parse_token_list(values: Iterable[str]) -> tuple[str, ...]:
    """The tokens in the header fields of one name.

    Args:
        values: the values of the fields. No field at all is the empty list.

    Raises:
        ValueError: an element is not a token, or there are fields but no element.
    """
    values = tuple(values)
    tokens = tuple(token for value in values for item in value.split(",") if (token := item.strip(" \t")))
    for number, token in enumerate(tokens, 1):
        if not is_token(token):  # not shown: it may be a secret
            raise ValueError(f"element {number} is not a token")
    if values and not tokens:
        raise ValueError("the list is empty")
    return tokens
