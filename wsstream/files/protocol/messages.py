"""The control messages of ``wsstream.file.v1``: each a frozen dataclass, to and from JSON text.

A message is checked when it is made, by :func:`parse` or by a program of this end, so every message that
exists keeps to the bounds. All sizes and offsets are bytes of the file, from its start. Fields with a default
may be absent or null on the wire. Unknown fields are ignored, so that version 1 can grow; an unknown `t` is
an error.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from wsstream.display import quoted
from wsstream.files.errors import Retry, TransferError
from wsstream.files.protocol import fields as kinds
from wsstream.files.protocol.strict_json import dump, load

__all__ = [
    "KINDS",
    "MAX_CHECK",
    "MAX_ENTRIES",
    "MAX_SEGMENT",
    "PHASES",
    "SUBPROTOCOL",
    "VERSION",
    "Abort",
    "Accept",
    "Ack",
    "Bye",
    "Cancel",
    "Delete",
    "Done",
    "End",
    "Entries",
    "Entry",
    "Error",
    "Get",
    "Hello",
    "List",
    "Message",
    "Offer",
    "Prefix",
    "Progress",
    "Reject",
    "encode",
    "parse",
]

SUBPROTOCOL: Final = "wsstream.file.v1"
VERSION: Final = 1
MAX_SEGMENT: Final = 2 << 20
"""The largest binary message that a receiver may ask for."""
MAX_CHECK: Final = 1 << 20
"""The most bytes that the check of a resumed transfer covers."""
MAX_ENTRIES: Final = 100
"""The most entries in one page: so many fit into one text message, whatever they are called."""
PHASES: Final = ("hashing", "verifying", "syncing", "waiting")


class Message(kinds.Checked):
    """One control message. Its `id`, if it has one, is that of the request it belongs to."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Hello(Message):
    """The first message of each end: what it takes, and what the other end may ask for."""

    v: int = field(metadata=kinds.of(kinds.integer(1, 1000)))
    """`VERSION`."""
    agent: str = field(metadata=kinds.of(kinds.text(0, 200)))
    """The program and its version, for logs."""
    max_segment: int = field(metadata=kinds.of(kinds.integer(1, MAX_SEGMENT)))
    """The largest binary message that this end takes."""
    hashes: tuple[str, ...] = field(metadata=kinds.of(kinds.listing(kinds.WORD, 1, 16)))
    """The digests that this end can make, the preferred first."""
    ops: tuple[str, ...] = field(metadata=kinds.of(kinds.listing(kinds.WORD, 0, 16)))
    """What the other end may ask of this one: ``get``, ``list``, ``delete``, and ``put`` for an offer."""
    max_size: int | None = field(metadata=kinds.of(kinds.NUMBER_OR_NULL))
    """The largest file that this end takes; ``None``: no limit."""
    resume: bool = field(metadata=kinds.of(kinds.boolean))
    """Whether this end keeps the parts of transfers that did not end; if not, it accepts from 0 only."""


@dataclass(frozen=True, slots=True)
class Get(Message):
    """Asks for a file. The answer is an `Offer` or a `Reject` with the same id."""

    id: int = field(metadata=kinds.of(kinds.ID))
    name: str = field(metadata=kinds.of(kinds.NAME))
    etag: str | None = field(default=None, metadata=kinds.of(kinds.ETAG))
    """The version that is wanted, of which this end has a part."""


@dataclass(frozen=True, slots=True)
class List(Message):
    """Asks for a page of the names in a folder. The answer is an `Entries` or a `Reject` with the same id."""

    id: int = field(metadata=kinds.of(kinds.ID))
    name: str = field(metadata=kinds.of(kinds.NAME))
    """The folder; ``""`` for the root."""
    cursor: str | None = field(default=None, metadata=kinds.of(kinds.CURSOR))
    """That of the page before; ``None`` for the first page."""


@dataclass(frozen=True, slots=True)
class Delete(Message):
    """Asks for the end of a file. The answer is a `Done` or a `Reject` with the same id."""

    id: int = field(metadata=kinds.of(kinds.ID))
    name: str = field(metadata=kinds.of(kinds.NAME))
    etag: str | None = field(default=None, metadata=kinds.of(kinds.ETAG))
    """The version that is meant; another one stays."""


@dataclass(frozen=True, slots=True)
class Entry(kinds.Checked):
    """One name in a folder."""

    name: str = field(metadata=kinds.of(kinds.text(1, 1024)))
    kind: str = field(metadata=kinds.of(kinds.one_of("file", "folder")))
    size: int | None = field(default=None, metadata=kinds.of(kinds.NUMBER))
    mtime: int | None = field(default=None, metadata=kinds.of(kinds.MTIME))
    """Milliseconds since 1970-01-01 UTC."""
    etag: str | None = field(default=None, metadata=kinds.of(kinds.ETAG))


@dataclass(frozen=True, slots=True)
class Entries(Message):
    """A page of the names in a folder."""

    id: int = field(metadata=kinds.of(kinds.ID))
    entries: tuple[Entry, ...] = field(metadata=kinds.of(kinds.listing(kinds.nested(Entry), 0, MAX_ENTRIES)))
    cursor: str | None = field(default=None, metadata=kinds.of(kinds.CURSOR))
    """For the `List` that asks for the next page; ``None``: this is the last."""


@dataclass(frozen=True, slots=True)
class Offer(Message):
    """Offers a file. The answer is an `Accept`, a `Reject`, or `Done` if the receiver has it already."""

    id: int = field(metadata=kinds.of(kinds.ID))
    name: str = field(metadata=kinds.of(kinds.NAME))
    """A proposal: the receiver decides on the final name."""
    size: int | None = field(metadata=kinds.of(kinds.NUMBER_OR_NULL))
    """``None``: not known before the end."""
    mtime: int | None = field(metadata=kinds.of(kinds.MTIME))
    """Milliseconds since 1970-01-01 UTC; ``None``: not known."""
    hashes: tuple[str, ...] = field(metadata=kinds.of(kinds.listing(kinds.WORD, 1, 16)))
    """The digests that the sender can make of this file, the preferred first."""
    etag: str = field(metadata=kinds.of(kinds.ETAG))
    """Names this version of the content: two offers with one etag have the same bytes."""
    digest: str | None = field(default=None, metadata=kinds.of(kinds.DIGEST))
    """That of the whole file by the first of `hashes`, if it is known."""
    token: str | None = field(default=None, metadata=kinds.of(kinds.TOKEN))
    """The one in the `Accept` of an earlier attempt, to resume it."""
    fresh: bool = field(default=False, metadata=kinds.of(kinds.boolean))
    """The transfer has to start at 0."""
    keep: bool = field(default=False, metadata=kinds.of(kinds.boolean))
    """A file of that name must not be replaced, even where the receiver would."""


@dataclass(frozen=True, slots=True)
class Prefix(kinds.Checked):
    """What the receiver has before the offset: the last bytes of it, as a digest."""

    start: int = field(metadata=kinds.of(kinds.NUMBER, "from"))
    end: int = field(metadata=kinds.of(kinds.NUMBER, "to"))
    digest: str = field(metadata=kinds.of(kinds.DIGEST))
    """Of the bytes from `start` up to and without `end`, as if they were a whole file."""

    def _misfit(self) -> str:
        fits = 0 < self.end - self.start <= MAX_CHECK
        return "" if fits else f"`to` must be 1 to {MAX_CHECK} bytes after `from`"


@dataclass(frozen=True, slots=True)
class Accept(Message):
    """Takes an offer: the sender may send from `offset` on."""

    id: int = field(metadata=kinds.of(kinds.ID))
    offset: int = field(metadata=kinds.of(kinds.NUMBER))
    hash: str = field(metadata=kinds.of(kinds.WORD))
    """One of the offer's `hashes`, for all digests of this transfer."""
    window: int = field(metadata=kinds.of(kinds.integer(1, kinds.MAX_NUMBER)))
    """How far the sender may be ahead of `Ack.written`; at least `segment`."""
    segment: int = field(metadata=kinds.of(kinds.integer(1, MAX_SEGMENT)))
    """The most bytes in one binary message."""
    token: str = field(metadata=kinds.of(kinds.TOKEN))
    """Names the receiver's part of this file, for a later attempt."""
    check: Prefix | None = field(default=None, metadata=kinds.of(kinds.nested(Prefix)))
    """Given if and only if `offset` is not 0; it ends at `offset`."""

    def _misfit(self) -> str:
        if self.window < self.segment:
            return "`window` must be at least `segment`"
        if (0 if self.check is None else self.check.end) != self.offset:
            return "`check` must end at `offset`, and be absent at 0"
        return ""


@dataclass(frozen=True, slots=True)
class Reject(Message):
    """Answers a `Get`, a `List`, a `Delete` or an `Offer`: it is over."""

    id: int = field(metadata=kinds.of(kinds.ID))
    code: str = field(metadata=kinds.of(kinds.WORD))
    reason: str = field(metadata=kinds.of(kinds.REASON))
    retry: Retry = field(metadata=kinds.of(kinds.RETRY))


@dataclass(frozen=True, slots=True)
class Ack(Message):
    """How far the receiver is. It is the credit and the heartbeat, too."""

    id: int = field(metadata=kinds.of(kinds.ID))
    written: int = field(metadata=kinds.of(kinds.NUMBER))
    """The receiver holds no bytes before this offset in memory."""
    durable: int = field(metadata=kinds.of(kinds.NUMBER))
    """Bytes before this offset are on stable storage: a later attempt starts here, or after it."""
    window: int | None = field(default=None, metadata=kinds.of(kinds.integer(1, kinds.MAX_NUMBER)))
    """The window from now on; ``None``: unchanged."""

    def _misfit(self) -> str:
        return "`durable` must not exceed `written`" if self.durable > self.written else ""


@dataclass(frozen=True, slots=True)
class End(Message):
    """The sender has no more bytes."""

    id: int = field(metadata=kinds.of(kinds.ID))
    size: int = field(metadata=kinds.of(kinds.NUMBER))
    digest: str = field(metadata=kinds.of(kinds.DIGEST))
    """Of the whole file, from 0, by `Accept.hash`."""


@dataclass(frozen=True, slots=True)
class Progress(Message):
    """The one who sends this is at work, though nothing else is to be seen of it."""

    id: int = field(metadata=kinds.of(kinds.ID))
    phase: str = field(metadata=kinds.of(kinds.WORD))
    """One of `PHASES`, or of a later version."""
    done: int = field(metadata=kinds.of(kinds.NUMBER))
    total: int | None = field(metadata=kinds.of(kinds.NUMBER_OR_NULL))
    """``None``: not known."""


@dataclass(frozen=True, slots=True)
class Done(Message):
    """The receiver has the whole file under its final name. Or, in answer to `Delete`: the file is gone."""

    id: int = field(metadata=kinds.of(kinds.ID))
    size: int = field(metadata=kinds.of(kinds.NUMBER))
    digest: str | None = field(metadata=kinds.of(kinds.or_null(kinds.DIGEST)))
    """``None`` in answer to `Delete`, and only there; `hash`, too."""
    hash: str | None = field(metadata=kinds.of(kinds.or_null(kinds.WORD)))
    name: str = field(metadata=kinds.of(kinds.NAME))
    """The final name."""
    durable: int = field(metadata=kinds.of(kinds.NUMBER))
    """`size` if that is on stable storage; 0 if this end cannot tell."""

    def _misfit(self) -> str:
        return "" if (self.digest is None) == (self.hash is None) else "`digest` and `hash` go together"


@dataclass(frozen=True, slots=True)
class Abort(Message):
    """The sender ends the transfer, by itself or in answer to `Cancel`. No data of it follows."""

    id: int = field(metadata=kinds.of(kinds.ID))
    code: str = field(metadata=kinds.of(kinds.WORD))
    reason: str = field(metadata=kinds.of(kinds.REASON))
    keep: bool = field(metadata=kinds.of(kinds.boolean))
    """Whether a part of the file is worth keeping."""


@dataclass(frozen=True, slots=True)
class Cancel(Message):
    """The receiver ends the transfer, or takes back a `Get`, `List` or `Delete`. The answer is `Abort`."""

    id: int = field(metadata=kinds.of(kinds.ID))
    code: str = field(metadata=kinds.of(kinds.WORD))
    reason: str = field(metadata=kinds.of(kinds.REASON))
    keep: bool = field(metadata=kinds.of(kinds.boolean))
    """Whether the receiver keeps its part."""


@dataclass(frozen=True, slots=True)
class Error(Message):
    """With an id: `Abort` or `Cancel`, from whichever side, with `retry`. Without: the connection is over."""

    code: str = field(metadata=kinds.of(kinds.WORD))
    reason: str = field(metadata=kinds.of(kinds.REASON))
    retry: Retry = field(metadata=kinds.of(kinds.RETRY))
    id: int | None = field(default=None, metadata=kinds.of(kinds.ID))


@dataclass(frozen=True, slots=True)
class Bye(Message):
    """This end is about to end: it takes no more requests, and closes after the transfer that is active."""

    reason: str = field(metadata=kinds.of(kinds.REASON))
    reconnect_ms: int | None = field(default=None, metadata=kinds.of(kinds.integer(0, 3_600_000)))
    """Come back after this many milliseconds."""


KINDS: Final[Mapping[str, type[Any]]] = {
    cls.__name__.lower(): cls
    for cls in (
        *(Hello, Get, List, Entries, Delete, Offer, Accept, Reject),
        *(Ack, End, Progress, Done, Abort, Cancel, Error, Bye),
    )
}
"""The class of each `t`."""

_cls: Any
for _cls in (*KINDS.values(), Entry, Prefix):
    _cls.FIELDS = kinds.fields_of(_cls)


def parse(text: str) -> Message:
    """The message that `text` is.

    Raises:
        TransferError: it is none (``protocol``).
    """
    try:
        value = load(text)
        t = value.pop("t", None)
        if type(t) is not str or t not in KINDS:
            raise ValueError(f"an unknown message, t is {quoted(str(t), 20)}")
        message: Message = kinds.from_json(KINDS[t], value)
    except ValueError as error:
        raise TransferError("protocol", str(error)) from None
    return message


def encode(message: Message) -> str:
    """`message` as JSON text.

    Raises:
        ValueError: it is longer than a text message may be. Only `Entries` can be, with names that consist of
            control characters.
    """
    return dump({"t": type(message).__name__.lower(), **kinds.to_json(message)})
