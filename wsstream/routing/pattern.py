"""The pattern of a route, such as ``/chat/{room}``: which paths match, and the parameters found there."""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import unquote

from wsstream.arguments import check_type

__all__ = ["Pattern", "split_path"]

_PARAMETER = re.compile(r"\{([A-Za-z_][A-Za-z0-9_]*)(?::(int|path))?\}")
_INT = re.compile(r"[0-9]{1,18}")  # fits 64 bits, and is quick to convert


class _Segment(NamedTuple):
    name: str  # of the parameter; "" if the segment is plain text
    kind: str  # of the parameter: "", "int" or "path"
    text: str


def split_path(path: str) -> tuple[str, ...]:
    """The segments of a path, each percent-decoded after the path was split, so that ``%2F`` splits nothing.

    Raises:
        ValueError: a segment is not UTF-8.
    """
    segments = path.removeprefix("/").split("/")
    return tuple(unquote(segment, errors="strict") for segment in segments)


class Pattern:
    """``/chat/{room}``: text and parameters, each of which takes one segment of the path.

    ``{name}`` matches any segment that is not empty; ``{name:int}`` matches 1 to 18 digits and gives an
    ``int``; ``{name:path}``, only at the end, matches the rest of the path, which may be empty or missing.

    Raises:
        TypeError: `text` is not a str.
        ValueError: `text` does not begin with a slash, has braces that are no parameter, two parameters of
            one name, or something after ``{name:path}``.
    """

    __slots__ = ("_segments", "text")

    def __init__(self, text: str) -> None:
        check_type("the path of a route", text, str, "a str")
        if not text.startswith("/"):
            raise ValueError(f"the path of a route must begin with a slash, got {text!r}")
        self.text = text
        self._segments = tuple(_parse(segment, text) for segment in text[1:].split("/"))
        names = [segment.name for segment in self._segments if segment.name]
        if len(names) != len(set(names)):
            raise ValueError(f"the path of a route must not have two parameters of one name, got {text!r}")
        if any(segment.kind == "path" for segment in self._segments[:-1]):
            raise ValueError(f"{{...:path}} must be the last segment of the path of a route, got {text!r}")

    def match(self, segments: tuple[str, ...]) -> dict[str, str | int] | None:
        """The parameters in the segments of a path, or ``None`` if it does not match."""
        parameters: dict[str, str | int] = {}
        plain = self._segments
        if (last := plain[-1]).kind == "path":
            plain = plain[:-1]
            parameters[last.name] = "/".join(self.rest(segments))
            segments = segments[: len(plain)]
        if len(segments) != len(plain):
            return None
        for (name, kind, text), segment in zip(plain, segments, strict=True):
            if not (_INT.fullmatch(segment) if kind == "int" else segment if name else segment == text):
                return None
            if name:
                parameters[name] = int(segment) if kind == "int" else segment
        return parameters

    def rest(self, segments: tuple[str, ...]) -> tuple[str, ...]:
        """The segments that ``{name:path}`` matches."""
        return segments[len(self._segments) - 1 :]


def _parse(segment: str, text: str) -> _Segment:
    if found := _PARAMETER.fullmatch(segment):
        return _Segment(found[1], found[2] or "", "")
    if "{" in segment or "}" in segment:
        raise ValueError(
            f"a parameter must be a whole segment like {{name}}, {{name:int}} or {{name:path}}, got {text!r}"
        )
    return _Segment("", "", segment)
