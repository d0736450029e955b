"""Tables of frame sequences: what an endpoint must refuse, and what it must accept.

Each case is a row of data, for ``pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)``. All of
them hold where no extension was negotiated. They are whole in themselves: a test may put a complete
message in front, and has to cut the data anywhere, as nothing may depend on where reads end.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

from .frames import EXAMPLE_KEY, FrameOptions, binary, close, continuation, frame, ping, pong, text

__all__ = ["ILLEGAL_FRAMES", "LEGAL_SEQUENCES", "Event", "FrameCase", "Role"]

Role: TypeAlias = Literal["client", "server"]
_Part: TypeAlias = partial[bytes]


class Event(NamedTuple):
    """What an application or a driver has to see: a message, a control frame, a Close.

    `kind` is ``"text"``, ``"binary"``, ``"ping"``, ``"pong"`` or ``"close"``; `value` the message, the
    payload, or (code, reason), where the code is 1005 if there was none.
    """

    kind: Literal["text", "binary", "ping", "pong", "close"]
    value: str | bytes | tuple[int, str]


@dataclass(frozen=True, slots=True)
class FrameCase:
    """A sequence of frames and what has to come of it.

    `events` have to be seen in this order; then, if `code` is not ``None``, the endpoint fails the
    connection with that close code, without waiting for more bytes. `section` is that of RFC 6455.
    """

    name: str
    section: str
    parts: tuple[_Part, ...]
    events: tuple[Event, ...] = ()
    code: int | None = None
    wrong_masking: bool = False

    def data(self, to: Role, *, mask: bytes = EXAMPLE_KEY) -> bytes:
        """The bytes that go to an endpoint of this role: with `mask` if it is the server."""
        masked = (to == "server") is not self.wrong_masking
        return b"".join(part(mask=mask if masked else None) for part in self.parts)

    def __str__(self) -> str:
        return self.name


_INVALID_UTF8: Final = {
    "lone-continuation-80": b"\x80",
    "lone-continuation-bf": b"\xbf",
    "byte-fe": b"\xfe",
    "byte-ff": b"\xff",
    "no-continuation-2": b"\xc3(",
    "no-continuation-3": b"\xe2\x82(",
    "no-continuation-4": b"\xf0\x9f\x98(",
    "overlong-2-c0": b"\xc0\x80",
    "overlong-2-c1": b"\xc1\xbf",
    "overlong-3": b"\xe0\x80\x80",
    "overlong-3-highest": b"\xe0\x9f\xbf",
    "overlong-4": b"\xf0\x80\x80\x80",
    "overlong-4-highest": b"\xf0\x8f\xbf\xbf",
    "surrogate-lowest": b"\xed\xa0\x80",
    "surrogate-highest": b"\xed\xbf\xbf",
    "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "above-10ffff": b"\xf4\x90\x80\x80",
    "byte-f5": b"\xf5\x80\x80\x80",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "six-bytes": b"\xfc\x84\x80\x80\x80\x80",
}
"""Wrong whatever follows."""

_TRUNCATED_UTF8: Final = {
    "truncated-1-of-2": b"\xc3",
    "truncated-1-of-3": b"\xe2",
    "truncated-2-of-3": b"\xe2\x82",
    "truncated-1-of-4": b"\xf0",
    "truncated-2-of-4": b"\xf0\x9f",
    "truncated-3-of-4": b"\xf0\x9f\x98",
}
"""Wrong when the message ends there."""


def _illegal(
    name: str, section: str, *parts: _Part, code: int = 1002, events: tuple[Event, ...] = ()
) -> FrameCase:
    return FrameCase(name, section, parts, events, code)


def _reserved() -> Iterator[FrameCase]:
    kinds: dict[str, Callable[..., bytes]] = {
        "text": text,
        "binary": binary,
        "ping": ping,
        "pong": pong,
        "close": close,
    }
    bits: dict[str, FrameOptions] = {"rsv1": {"rsv1": True}, "rsv2": {"rsv2": True}, "rsv3": {"rsv3": True}}
    for bit, options in bits.items():
        for kind, build in kinds.items():
            yield _illegal(f"{bit}-in-{kind}", "5.2", partial(build, **options))
        start, rest = partial(text, "a", fin=False), partial(continuation, "b", **options)
        yield _illegal(f"{bit}-in-continuation", "5.2", start, rest)
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        yield _illegal(f"opcode-{opcode:x}", "5.2", partial(frame, opcode, b"hi"))
        yield _illegal(f"opcode-{opcode:x}-empty", "5.2", partial(frame, opcode))
    yield _illegal("opcode-3-inside-message", "5.2", partial(text, "a", fin=False), partial(frame, 3, b"b"))
    yield _illegal(
        "opcode-b-after-message",
        "5.2",
        partial(text, "hi"),
        partial(frame, 11),
        events=(Event("text", "hi"),),
    )


def _lengths() -> Iterator[FrameCase]:
    for size, extended in ((0, 2), (1, 2), (125, 2), (0, 8), (125, 8), (126, 8), (65535, 8)):
        long = partial(binary, bytes(size), length_bytes=extended)
        yield _illegal(f"length-{size}-in-{8 * extended}-bits", "5.2", long)
    header = partial(binary, declared_length=125, length_bytes=2)
    yield _illegal("length-125-in-16-bits-header-only", "5.2", header)
    yield _illegal("length-5-in-16-bits-in-ping", "5.2", partial(ping, b"hello", length_bytes=2))
    yield _illegal("length-5-in-64-bits-in-ping", "5.2", partial(ping, b"hello", length_bytes=8))
    yield _illegal("length-2-to-the-63", "5.2", partial(binary, declared_length=1 << 63))
    yield _illegal("length-all-ones", "5.2", partial(binary, declared_length=(1 << 64) - 1))


def _control_frames() -> Iterator[FrameCase]:
    for kind, opcode in (("close", 8), ("ping", 9), ("pong", 10)):
        body = b"\x03\xe8" if opcode == 8 else b""
        yield _illegal(f"fragmented-{kind}", "5.5", partial(frame, opcode, body, fin=False))
        for size in (126, 65535, 65536):
            long = partial(frame, opcode, body.ljust(size, b"."))
            yield _illegal(f"{kind}-of-{size}-bytes", "5.5", long)
        yield _illegal(f"{kind}-of-126-bytes-header-only", "5.5", partial(frame, opcode, declared_length=126))
    yield _illegal(
        "fragmented-ping-inside-message",
        "5.5",
        partial(text, "a", fin=False),
        partial(ping, b"b", fin=False),
        partial(continuation, "c"),
    )


def _fragments() -> Iterator[FrameCase]:
    start = partial(text, "a", fin=False)
    yield _illegal("continuation-first", "5.4", partial(continuation, "a"))
    yield _illegal("continuation-first-unfinished", "5.4", partial(continuation, "a", fin=False))
    yield _illegal("continuation-first-empty", "5.4", partial(continuation))
    yield _illegal(
        "continuation-after-message",
        "5.4",
        partial(text, "whole"),
        partial(continuation, "a"),
        events=(Event("text", "whole"),),
    )
    yield _illegal(
        "continuation-after-fragmented-message",
        "5.4",
        start,
        partial(continuation, "b"),
        partial(continuation, "c"),
        events=(Event("text", "ab"),),
    )
    yield _illegal(
        "continuation-after-ping",
        "5.4",
        partial(ping, b"p"),
        partial(continuation, "a"),
        events=(Event("ping", b"p"),),
    )
    for kind, build in (("text", text), ("binary", binary)):
        yield _illegal(f"{kind}-inside-message", "5.4", start, partial(build))
        yield _illegal(f"unfinished-{kind}-inside-message", "5.4", start, partial(build, fin=False))
    yield _illegal(
        "text-inside-message-after-ping",
        "5.4",
        start,
        partial(ping, b"p"),
        partial(text, "b"),
        events=(Event("ping", b"p"),),
    )


def _masking() -> Iterator[FrameCase]:
    parts = {
        "text": partial(text, "hi"),
        "empty-binary": partial(binary),
        "ping": partial(ping),
        "close": partial(close, 1000),
        "header-only": partial(binary, declared_length=1000),
    }
    for kind, part in parts.items():
        yield FrameCase(f"wrong-masking-of-{kind}", "5.1", (part,), (), 1002, wrong_masking=True)


def _closing() -> Iterator[FrameCase]:
    yield _illegal("close-of-1-byte", "5.5.1", partial(frame, 8, b"\x03"))
    for code in (0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535):
        yield _illegal(f"close-code-{code}", "7.4", partial(close, code))
    yield _illegal("close-code-1005-with-reason", "7.4", partial(close, 1005, "why"))
    for name, bad in (*_INVALID_UTF8.items(), *_TRUNCATED_UTF8.items()):
        part = partial(close, 1000, b"why: " + bad)
        yield _illegal(f"close-reason-{name}", "5.5.1", part, code=1007)


def _utf8() -> Iterator[FrameCase]:
    for name, bad in (*_INVALID_UTF8.items(), *_TRUNCATED_UTF8.items()):
        payload = "κόσμε".encode() + bad
        yield _illegal(f"text-{name}", "8.1", partial(text, payload), code=1007)
        single = [partial(continuation, bytes([byte]), fin=False) for byte in bad]
        parts = (partial(text, "κόσμε", fin=False), *single, partial(continuation))
        yield _illegal(f"text-{name}-in-fragments", "8.1", *parts, code=1007)
    for name, bad in _INVALID_UTF8.items():
        unfinished = partial(text, b"ab" + bad, fin=False)
        yield _illegal(f"text-{name}-in-unfinished-message", "8.1", unfinished, code=1007)
        cut = partial(text, b"ab" + bad, declared_length=1000)
        yield _illegal(f"text-{name}-in-partial-frame", "8.1", cut, code=1007)
    for name, bad in _TRUNCATED_UTF8.items():
        parts = (partial(text, bad, fin=False), partial(continuation, "a", fin=False))
        yield _illegal(f"text-{name}-then-ascii", "8.1", *parts, code=1007)
    yield _illegal(
        "text-invalid-after-ping",
        "8.1",
        partial(text, b"\xe2", fin=False),
        partial(ping, b"p"),
        partial(continuation, b"("),
        events=(Event("ping", b"p"),),
        code=1007,
    )


ILLEGAL_FRAMES: Final[tuple[FrameCase, ...]] = (
    *_reserved(),
    *_lengths(),
    *_control_frames(),
    *_fragments(),
    *_masking(),
    *_closing(),
    *_utf8(),
)
"""What has to fail the connection (RFC 6455 sections 5 to 8), with the close code to fail it with."""


def _legal(name: str, section: str, parts: tuple[_Part, ...], *events: Event) -> FrameCase:
    return FrameCase(name, section, parts, events)


def _messages() -> Iterator[FrameCase]:
    for size in (0, 1, 125, 126, 127, 65535, 65536, 65537):
        ascii_text, data = "*" * size, bytes(range(256)) * (size // 256 + 1)
        yield _legal(f"text-of-{size}", "5.6", (partial(text, ascii_text),), Event("text", ascii_text))
        yield _legal(
            f"binary-of-{size}", "5.6", (partial(binary, data[:size]),), Event("binary", data[:size])
        )
    borders = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0010ffff"
    yield _legal("text-of-border-code-points", "8.1", (partial(text, borders),), Event("text", borders))
    single = [partial(continuation, bytes([byte]), fin=False) for byte in borders.encode()]
    yield _legal(
        "text-of-border-code-points-in-fragments-of-1-byte",
        "5.4",
        (partial(text, fin=False), *single, partial(continuation)),
        Event("text", borders),
    )
    yield _legal(
        "binary-that-is-not-utf8", "5.6", (partial(binary, b"\xff\xfe"),), Event("binary", b"\xff\xfe")
    )
    yield _legal(
        "two-messages",
        "5.4",
        (partial(text, "one"), partial(binary, b"two")),
        Event("text", "one"),
        Event("binary", b"two"),
    )


def _fragmented_messages() -> Iterator[FrameCase]:
    starts = {Event("text", "abc"): partial(text, "a"), Event("binary", b"abc"): partial(binary, b"a")}
    for event, start in starts.items():
        kind, ends = event.kind, (partial(start, fin=False), partial(continuation, "bc"))
        yield _legal(f"fragmented-{kind}", "5.4", ends, event)
        control = (ends[0], partial(ping, b"p"), partial(pong, b"q"), ends[1])
        yield _legal(
            f"control-frames-inside-fragmented-{kind}",
            "5.4",
            control,
            Event("ping", b"p"),
            Event("pong", b"q"),
            event,
        )
    empty = partial(continuation, fin=False)
    yield _legal(
        "empty-fragments",
        "5.4",
        (partial(text, fin=False), *[empty] * 100, partial(continuation)),
        Event("text", ""),
    )
    yield _legal(
        "code-point-across-fragments-and-ping",
        "5.4",
        (partial(text, b"\xf0\x9f", fin=False), partial(ping), partial(continuation, b"\x98\x80")),
        Event("ping", b""),
        Event("text", "\U0001f600"),
    )


def _legal_control_frames() -> Iterator[FrameCase]:
    full = bytes(range(125))
    yield _legal("ping-empty", "5.5.2", (partial(ping),), Event("ping", b""))
    yield _legal("ping-of-125-bytes", "5.5.2", (partial(ping, full),), Event("ping", full))
    yield _legal("pong-unsolicited", "5.5.3", (partial(pong, full),), Event("pong", full))
    many = [b"%d" % number for number in range(10)]
    yield _legal(
        "ten-pings",
        "5.5.2",
        tuple(partial(ping, payload) for payload in many),
        *[Event("ping", payload) for payload in many],
    )


def _legal_closes() -> Iterator[FrameCase]:
    yield _legal("close-empty", "5.5.1", (partial(close),), Event("close", (1005, "")))
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3999, 4000, 4999):
        yield _legal(f"close-{code}", "7.4", (partial(close, code),), Event("close", (code, "")))
    reason = "\U0001f600" * 30 + "abc"
    yield _legal(
        "close-with-reason-of-123-bytes",
        "5.5.1",
        (partial(close, 1000, reason),),
        Event("close", (1000, reason)),
    )
    yield _legal(
        "close-inside-message",
        "5.4",
        (partial(text, "a", fin=False), partial(close, 1001)),
        Event("close", (1001, "")),
    )
    after = {"text": partial(text, "late"), "ping": partial(ping), "illegal": partial(frame, 3)}
    for kind, part in after.items():
        parts = (partial(text, "hi"), partial(close, 1000), part)
        yield _legal(f"{kind}-after-close", "5.5.1", parts, Event("text", "hi"), Event("close", (1000, "")))


LEGAL_SEQUENCES: Final[tuple[FrameCase, ...]] = (
    *_messages(),
    *_fragmented_messages(),
    *_legal_control_frames(),
    *_legal_closes(),
)
"""What has to be accepted, with what has to be seen of it. What follows a Close is not seen."""
