"""Where a follower is in a feed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

from wsstream.arguments import check_int, check_type
from wsstream.opening.http import Request

__all__ = ["MAX_OFFSET", "Position"]

MAX_OFFSET: Final = (1 << 53) - 1
"""The largest offset: JavaScript counts no further without losing any."""

_EPOCH = re.compile(r"[A-Za-z0-9_-]{1,64}")
_POSITION = re.compile(r"([A-Za-z0-9_-]{1,64}):(0|[1-9][0-9]{0,15})")


@dataclass(frozen=True, slots=True)
class Position:
    """The place after one item of a feed. ``str()`` makes a text of it, `parse` reads that text.

    Attributes:
        epoch: names the numbering. A feed that lost its items begins another one.
        offset: the number of the item; the first has 1, so 0 is the place before it.

    Raises:
        TypeError, ValueError: the epoch is not 1 to 64 letters, digits, ``_`` or ``-``, or the offset is not
            between 0 and 2**53 - 1.
    """

    epoch: str
    offset: int

    def __post_init__(self) -> None:
        check_type("epoch", self.epoch, str, "a str")
        if _EPOCH.fullmatch(self.epoch) is None:
            raise ValueError("epoch must be 1 to 64 letters, digits, _ or -")
        check_int("offset", self.offset, 0, MAX_OFFSET)

    def __str__(self) -> str:
        return f"{self.epoch}:{self.offset}"

    @classmethod
    def parse(cls, source: str | Request) -> Position | None:
        """Read a position from its text, or from the parameter ``since`` of a request's query.

        ``None``: the request has no such parameter, or an empty one. What else a client sends raises nothing:
        a text that is no position becomes one that no feed knows, and so a gap that is reported.

        Raises:
            ValueError: a ``str`` that is no position.
        """
        if isinstance(source, str):
            if (found := _read(source)) is None:
                raise ValueError("a position must be an epoch, a colon and an offset")
            return found
        text = source.query_params.get("since", "")
        return (_read(text) or cls("unknown", 0)) if text else None


def _read(text: str) -> Position | None:
    match = _POSITION.fullmatch(text)
    if match is None or int(match[2]) > MAX_OFFSET:
        return None
    return Position(match[1], int(match[2]))
