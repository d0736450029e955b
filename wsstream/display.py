"""How objects and a peer's texts are shown in messages, logs and reprs.

A repr is one line, never raises, and has nothing in it that may be a secret: no query, no userinfo, no
value of a header field. A peer's text is cut to a length that helps, and escaped.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

__all__ = ["excerpt", "never_raises", "quoted", "without_query"]

_T = TypeVar("_T")


def excerpt(text: str, length: int = 80) -> str:
    """The first `length` characters of `text`; those that could end a line or move a cursor are escaped."""
    return quoted(text, length)[1:-1]


def quoted(text: str, length: int = 80) -> str:
    """The same as `excerpt`, between quotation marks."""
    return repr(text if len(text) <= length else f"{text[:length]}...")


def without_query(url: object, length: int = 200) -> str:
    """An excerpt of a URL whose ``str()`` has no userinfo."""
    return excerpt(str(url).partition("?")[0], length)


def never_raises(show: Callable[[_T], str]) -> Callable[[_T], str]:
    """For a ``__repr__``: an object whose ``__init__`` has not ended is shown by its type."""

    @wraps(show)
    def show_or_name(self: _T) -> str:
        try:
            return show(self)
        except Exception:
            return f"<{type(self).__name__}>"

    return show_or_name
