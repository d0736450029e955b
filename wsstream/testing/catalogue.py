"""Tables of frame sequences: what an endpoint must refuse, and what it must accept.

Each case is a row of data, for ``pytest.mark.parametrize("case", ILLEGAL_FRAMES, ids=str)``. All of
them hold where no extension was negotiated. Each is complete in itself: a test may send a message before
it, and should cut the data anywhere, as nothing may depend on where reads end.
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
    `proven_by` counts the bytes that prove the violation, masking keys left out; see :meth:`proof`.
    """

    name: str
    section: str
    parts: tuple[_Part, ...]
    events: tuple[Event, ...] = ()
    code: int | None = None
    wrong_masking: bool = False
    proven_by: int | None = None

    def data(self, to: Role, *, mask: bytes = EXAMPLE_KEY) -> bytes:
        """The bytes that go to an endpoint of this role: with `mask` if it is the server."""
        key = mask if self._is_masked(to) else None
        return b"".join(part(mask=key) for part in self.parts)

    def proof(self, to: Role) -> int:
        """How many bytes of ``data(to)`` have to arrive until the violation is known; all in a legal case."""
        if self.proven_by is None:
            return len(self.data(to))
        key = 4 if self._is_masked(to) and not self.wrong_masking else 0
        left, size = self.proven_by, 0
        for part in self.parts:
            plain = part(mask=None)
            taken, header = min(left, len(plain)), 2 + {126: 2, 127: 8}.get(plain[1], 0)
            # Within a header no key has come yet; an empty frame is complete only with its key.
            needs_key = taken > header or (taken == header and plain[1] == 0)
            size += taken + (key if needs_key else 0)
            left -= taken
            if not left:
                break
        return size

    def _is_masked(self, to: Role) -> bool:
        return (to == "server") is not self.wrong_masking

    def __str__(self) -> str:
        return self.name


_INVALID_UTF8: Final = {
    "lone-continuation-80": (b"\x80", 1),
    "lone-continuation-bf": (b"\xbf", 1),
    "byte-fe": (b"\xfe", 1),
    "byte-ff": (b"\xff", 1),
    "no-continuation-2": (b"\xc3(", 2),
    "no-continuation-3": (b"\xe2(", 2),
    "no-continuation-3-at-its-last": (b"\xe2\x82(", 3),
    "no-continuation-4": (b"\xf0(", 2),
    "no-continuation-4-at-its-third": (b"\xf0\x9f(", 3),
    "no-continuation-4-at-its-last": (b"\xf0\x9f\x98(", 4),
    "code-point-inside-another": (b"\xe2\x82\xe2\x82\xac", 3),
    "overlong-2-c0": (b"\xc0\x80", 1),
    "overlong-2-c1": (b"\xc1\xbf", 1),
    "overlong-3": (b"\xe0\x80\x80", 2),
    "overlong-3-highest": (b"\xe0\x9f\xbf", 2),
    "overlong-4": (b"\xf0\x80\x80\x80", 2),
    "overlong-4-highest": (b"\xf0\x8f\xbf\xbf", 2),
    "surrogate-lowest": (b"\xed\xa0\x80", 2),
    "surrogate-highest": (b"\xed\xbf\xbf", 2),
    "surrogate-pair": (b"\xed\xa0\xbd\xed\xb8\x80", 2),
    "above-10ffff": (b"\xf4\x90\x80\x80", 2),
    "byte-f5": (b"\xf5\x80\x80\x80", 1),
    "five-bytes": (b"\xf8\x88\x80\x80\x80", 1),
    "six-bytes": (b"\xfc\x84\x80\x80\x80\x80", 1),
}
"""Wrong whatever follows, and how many of the bytes prove it."""

_TRUNCATED_UTF8: Final = {
    "truncated-1-of-2": b"\xc3",
    "truncated-1-of-3": b"\xe2",
    "truncated-2-of-3": b"\xe2\x82",
    "truncated-1-of-4": b"\xf0",
    "truncated-2-of-4": b"\xf0\x9f",
    "truncated-3-of-4": b"\xf0\x9f\x98",
}
"""Wrong when the message ends there."""

_START: Final = partial(text, "a", fin=False)


def _illegal(
    name: str,
    section: str,
    *parts: _Part,
    proof: int | None = None,
    code: int = 1002,
    events: tuple[Event, ...] = (),
    at: int = -1,
) -> FrameCase:
    """The first `proof` bytes of part number `at`, without its key, prove the violation; ``None``: all."""
    at %= len(parts)
    sizes = [len(part(mask=None)) for part in parts[: at + 1]]
    proven_by = sum(sizes[:-1]) + (sizes[-1] if proof is None else proof)
    return FrameCase(name, section, parts, events, code, proven_by=proven_by)


def _reserved() -> Iterator[FrameCase]:
    kinds: dict[str, Callable[..., bytes]] = {
        "text": text,
        "binary": binary,
        "ping": ping,
        "pong": pong,
        "close": close,
    }
    bits: dict[str, FrameOptions] = {"rsv1": {"rsv1": True}, "rsv2": {"rsv2": True}, "rsv3": {"rsv3": True}}
    bits["all-rsv"] = {"rsv1": True, "rsv2": True, "rsv3": True}
    hi = Event("text", "hi")
    for bit, options in bits.items():
        for kind, build in kinds.items():
            yield _illegal(f"{bit}-in-{kind}", "5.2", partial(build, **options), proof=1)
        yield _illegal(
            f"{bit}-in-continuation", "5.2", _START, partial(continuation, "b", **options), proof=1
        )
    after = (partial(text, "hi"), partial(text, rsv2=True))
    yield _illegal("rsv2-after-message", "5.2", *after, proof=1, events=(hi,))
    for opcode in (3, 4, 5, 6, 7, 11, 12, 13, 14, 15):
        name, part = f"opcode-{opcode:x}", partial(frame, opcode, b"hi")
        yield _illegal(name, "5.2", part, proof=1)
        yield _illegal(f"{name}-empty", "5.2", partial(frame, opcode), proof=1)
        yield _illegal(f"{name}-unfinished", "5.2", partial(part, fin=False), proof=1)
        yield _illegal(f"{name}-inside-message", "5.2", _START, part, proof=1)
    after = (partial(text, "hi"), partial(frame, 11))
    yield _illegal("opcode-b-after-message", "5.2", *after, proof=1, events=(hi,))


def _lengths() -> Iterator[FrameCase]:
    for size in (0, 1, 124, 125):
        long = partial(binary, bytes(size), length_bytes=2)
        yield _illegal(f"length-{size}-in-16-bits", "5.2", long, proof=4)
    for size in (0, 125, 126, 65535):
        long = partial(binary, bytes(size), length_bytes=8)
        yield _illegal(f"length-{size}-in-64-bits", "5.2", long, proof=8)
    header = partial(binary, declared_length=125, length_bytes=2)
    yield _illegal("length-125-in-16-bits-header-only", "5.2", header, proof=4)
    after = (partial(text, "hi"), partial(binary, b"hello", length_bytes=2))
    hi = Event("text", "hi")
    yield _illegal("length-5-in-16-bits-after-message", "5.2", *after, proof=4, events=(hi,))
    yield _illegal("length-5-in-16-bits-in-ping", "5.2", partial(ping, b"hello", length_bytes=2), proof=2)
    yield _illegal("length-5-in-64-bits-in-ping", "5.2", partial(ping, b"hello", length_bytes=8), proof=2)
    yield _illegal("length-2-to-the-63", "5.2", partial(binary, declared_length=1 << 63), proof=3)
    yield _illegal("length-all-ones", "5.2", partial(binary, declared_length=(1 << 64) - 1), proof=3)


def _control_frames() -> Iterator[FrameCase]:
    for kind, opcode in (("close", 8), ("ping", 9), ("pong", 10)):
        body = b"\x03\xe8" if opcode == 8 else b""
        unfinished = partial(frame, opcode, body, fin=False)
        yield _illegal(f"fragmented-{kind}", "5.4", unfinished, proof=1)
        yield _illegal(f"fragmented-{kind}-inside-message", "5.4", _START, unfinished, proof=1)
        for size in (126, 65535, 65536):
            long = partial(frame, opcode, body.ljust(size, b"."))
            yield _illegal(f"{kind}-of-{size}-bytes", "5.5", long, proof=2)
        header = partial(frame, opcode, declared_length=126)
        yield _illegal(f"{kind}-of-126-bytes-header-only", "5.5", header, proof=2)
        yield _illegal(f"{kind}-of-126-bytes-inside-message", "5.5", _START, header, proof=2)


def _fragments() -> Iterator[FrameCase]:
    first, ping_p = partial(continuation, "a"), Event("ping", b"p")
    yield _illegal("continuation-first", "5.4", first, proof=1)
    yield _illegal("continuation-first-unfinished", "5.4", partial(first, fin=False), proof=1)
    yield _illegal("continuation-first-empty", "5.4", partial(continuation), proof=1)
    fronts: dict[str, tuple[tuple[_Part, ...], Event]] = {
        "message": ((partial(text, "whole"),), Event("text", "whole")),
        "fragmented-message": ((_START, partial(continuation, "b")), Event("text", "ab")),
        "empty-fragmented-message": ((partial(text, fin=False), partial(continuation)), Event("text", "")),
        "ping": ((partial(ping, b"p"),), ping_p),
    }
    for name, (front, event) in fronts.items():
        yield _illegal(f"continuation-after-{name}", "5.4", *front, first, proof=1, events=(event,))
    for kind, build in (("text", text), ("binary", binary)):
        yield _illegal(f"{kind}-inside-message", "5.4", _START, partial(build), proof=1)
        yield _illegal(f"unfinished-{kind}-inside-message", "5.4", _START, partial(build, fin=False), proof=1)
    after_ping = (_START, partial(ping, b"p"), partial(text, "b"))
    yield _illegal("text-inside-message-after-ping", "5.4", *after_ping, proof=1, events=(ping_p,))


def _masking() -> Iterator[FrameCase]:
    parts = {
        "text": partial(text, "hi"),
        "empty-binary": partial(binary),
        "ping": partial(ping),
        "pong": partial(pong),
        "close": partial(close, 1000),
        "header-only": partial(binary, declared_length=1000),
    }
    for kind, part in parts.items():
        name = f"wrong-masking-of-{kind}"
        yield FrameCase(name, "5.1", (part,), (), 1002, wrong_masking=True, proven_by=2)


_NEVER_SENT: Final = (1004, 1005, 1006, 1015)
_UNUSED: Final = (
    *(0, 1, 255, 256, 767, 768, 999, 1016, 1023, 1024, 1100, 1999, 2000, 2815, 2816, 2999),
    *(5000, 5119, 5120, 65535),
)
_FIRST_BYTES: Final = {1000 >> 8, *range(3000 >> 8, (4999 >> 8) + 1)}
"""The first bytes of the codes that may be sent."""


def _closing() -> Iterator[FrameCase]:
    one = partial(frame, 8, b"\x03")
    yield _illegal("close-of-1-byte", "5.5.1", one, proof=2)
    yield _illegal("close-of-1-byte-inside-message", "5.5.1", _START, one, proof=2)
    for code in (*_NEVER_SENT, *_UNUSED):
        section, proof = ("7.4.1" if code in _NEVER_SENT else "7.4.2"), 4 if code >> 8 in _FIRST_BYTES else 3
        yield _illegal(f"close-code-{code}", section, partial(close, code, "why"), proof=proof)
    yield _illegal("close-code-1005-without-reason", "7.4.1", partial(close, 1005))
    yield _illegal("close-code-1006-inside-message", "7.4.1", _START, partial(close, 1006))
    for name, (bad, proof) in _INVALID_UTF8.items():
        part = partial(close, 1000, b"why: " + bad + b"...")
        yield _illegal(f"close-reason-{name}", "5.5.1", part, proof=9 + proof, code=1007)
    for name, bad in _TRUNCATED_UTF8.items():
        yield _illegal(f"close-reason-{name}", "5.5.1", partial(close, 1000, b"why: " + bad), code=1007)


def _fragments_of(bad: bytes) -> list[_Part]:
    start = partial(text, "κόσμε", fin=False)
    return [start, *(partial(continuation, bytes([byte]), fin=False) for byte in bad)]


def _utf8() -> Iterator[FrameCase]:
    good = "κόσμε".encode()
    for name, (bad, proof) in _INVALID_UTF8.items():
        yield _illegal(
            f"text-{name}", "8.1", partial(text, good + bad), proof=2 + len(good) + proof, code=1007
        )
        fragments = (*_fragments_of(bad), partial(continuation))
        yield _illegal(f"text-{name}-in-fragments", "8.1", *fragments, at=proof, code=1007)
        unfinished = partial(text, b"ab" + bad, fin=False)
        yield _illegal(f"text-{name}-in-unfinished-message", "8.1", unfinished, proof=4 + proof, code=1007)
        cut = partial(text, b"ab" + bad, declared_length=1000)
        yield _illegal(f"text-{name}-in-partial-frame", "8.1", cut, proof=6 + proof, code=1007)
    for name, bad in _TRUNCATED_UTF8.items():
        yield _illegal(f"text-{name}", "8.1", partial(text, good + bad), code=1007)
        fragments = (*_fragments_of(bad), partial(continuation))
        yield _illegal(f"text-{name}-in-fragments", "8.1", *fragments, code=1007)
        parts = (partial(text, bad, fin=False), partial(continuation, "a", fin=False))
        yield _illegal(f"text-{name}-then-ascii", "8.1", *parts, code=1007)
    yield _illegal(
        "text-invalid-after-ping",
        "8.1",
        partial(text, b"\xe2", fin=False),
        partial(ping, b"p"),
        partial(continuation, b"(..."),
        proof=3,
        events=(Event("ping", b"p"),),
        code=1007,
    )
    huge = partial(text, b"ab\xffcd", declared_length=1 << 40)
    yield _illegal("text-invalid-in-a-huge-frame", "8.1", huge, proof=13, code=1007)
    after = (partial(text, "hi"), partial(text, b"\xff", declared_length=9))
    yield _illegal("text-invalid-after-message", "8.1", *after, events=(Event("text", "hi"),), code=1007)


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
    for size in (0, 1, 125, 126, 127, 255, 256, 65535, 65536, 65537):
        ascii_text, data = "*" * size, bytes(range(256)) * (size // 256 + 1)
        yield _legal(f"text-of-{size}", "5.6", (partial(text, ascii_text),), Event("text", ascii_text))
        yield _legal(
            f"binary-of-{size}", "5.6", (partial(binary, data[:size]),), Event("binary", data[:size])
        )
    boundaries = "\x00\x7f\x80\u07ff\u0800\ud7ff\ue000\ufeff\ufffe\uffff\U00010000\U0010ffff"
    yield _legal(
        "text-of-boundary-code-points", "8.1", (partial(text, boundaries),), Event("text", boundaries)
    )
    single = [partial(continuation, bytes([byte]), fin=False) for byte in boundaries.encode()]
    yield _legal(
        "text-of-boundary-code-points-in-fragments-of-1-byte",
        "5.4",
        (partial(text, fin=False), *single, partial(continuation)),
        Event("text", boundaries),
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
    for code in (1000, 1001, 1002, 1003, *range(1007, 1015), 3000, 3001, 3999, 4000, 4999):
        section = "7.4.1" if code < 3000 else "7.4.2"
        yield _legal(f"close-{code}", section, (partial(close, code),), Event("close", (code, "")))
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
