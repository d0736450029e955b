"""Messages of ``wsstream.file.v1`` for tests: one of each kind, and strategies of all that may be made."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st

from wsstream.files.errors import ERRORS, RETRIES
from wsstream.files.protocol.messages import (
    KINDS,
    MAX_SEGMENT,
    PHASES,
    Abort,
    Accept,
    Ack,
    Bye,
    Cancel,
    Delete,
    Done,
    End,
    Entries,
    Entry,
    Error,
    Get,
    Hello,
    List,
    Message,
    Offer,
    Prefix,
    Progress,
    Reject,
)

__all__ = ["DIGEST", "any_message", "hello", "one_of_each"]

DIGEST = "0123456789abcdef" * 4


def hello(**changes: Any) -> Hello:
    """The Hello of an end that takes everything."""
    fields: dict[str, Any] = {
        "v": 1,
        "agent": "test/1",
        "max_segment": 256 << 10,
        "hashes": ("sha256", "sha256-tree"),
        "ops": ("get", "list", "put", "delete"),
        "max_size": None,
        "resume": True,
    }
    return Hello(**fields | changes)


def one_of_each(id: int) -> list[Message]:
    """A message of each kind, those that have one with this id. They fit to an offer of 1,000 bytes."""
    return [
        hello(),
        Get(id, "a.bin", "v1"),
        List(id, "", "next"),
        Entries(id, (Entry("a.bin", "file", 1000, 5, "v1"), Entry("sub", "folder")), "next"),
        Delete(id, "a.bin", "v1"),
        Offer(id, "a.bin", 1000, 5, ("sha256",), "v1", DIGEST, "tok", True),
        Accept(id, 0, "sha256", 512 << 10, 256 << 10, "tok"),
        Reject(id, "exists", "it is there", "never"),
        Ack(id, 0, 0, 512 << 10),
        End(id, 1000, DIGEST),
        Progress(id, "hashing", 5, 1000),
        Done(id, 1000, DIGEST, "sha256", "a.bin", 1000),
        Abort(id, "changed", "", False),
        Cancel(id, "no-space", "", True),
        Error("io", "", "later", id),
        Bye("soon", 500),
    ]


numbers = st.integers(0, 2**53)
ids = st.integers(1, 2**53)
short = st.text(st.characters(codec="utf-8"), max_size=30)
words = st.from_regex(r"[a-z][a-z0-9-]{0,31}", fullmatch=True)
tokens = st.from_regex(r"[A-Za-z0-9_-]{1,64}", fullmatch=True)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
etags = st.text(st.characters(codec="utf-8"), min_size=1, max_size=32)
times = st.none() | st.integers(-(2**53), 2**53)
codes = st.sampled_from([*ERRORS]) | words
retries = st.sampled_from(RETRIES)
several = st.lists(words, min_size=1, max_size=16, unique=True).map(tuple)
entries = st.builds(
    Entry, etags, st.sampled_from(["file", "folder"]), st.none() | numbers, times, st.none() | etags
)


@st.composite
def accepts(draw: st.DrawFn) -> Accept:
    start, size = draw(st.integers(0, 2**50)), draw(st.integers(0, 1 << 20))
    segment = draw(st.integers(1, MAX_SEGMENT))
    check = Prefix(start, start + size, draw(digests)) if size else None
    offset = start + size if size else 0
    window = segment + draw(st.integers(0, 64 << 20))
    return Accept(draw(ids), offset, draw(words), window, segment, draw(tokens), check)


@st.composite
def acks(draw: st.DrawFn) -> Ack:
    durable, written = sorted(draw(st.tuples(numbers, numbers)))
    return Ack(draw(ids), written, durable, draw(st.none() | ids))


any_message: st.SearchStrategy[Message] = st.one_of(
    st.builds(
        Hello,
        st.integers(1, 1000),
        short,
        st.integers(1, MAX_SEGMENT),
        several,
        st.just(()) | several,
        st.none() | numbers,
        st.booleans(),
    ),
    st.builds(Get, ids, short, st.none() | etags),
    st.builds(List, ids, short, st.none() | etags),
    st.builds(Entries, ids, st.lists(entries, max_size=3, unique=True).map(tuple), st.none() | etags),
    st.builds(
        Offer,
        ids,
        short,
        st.none() | numbers,
        times,
        several,
        etags,
        st.none() | digests,
        st.none() | tokens,
        st.booleans(),
    ),
    accepts(),
    st.builds(Reject, ids, codes, short, retries),
    acks(),
    st.builds(End, ids, numbers, digests),
    st.builds(Progress, ids, st.sampled_from(PHASES), numbers, st.none() | numbers),
    st.builds(Delete, ids, short, st.none() | etags),
    st.builds(Done, ids, numbers, digests, words, short, numbers),
    st.builds(Done, ids, numbers, st.none(), st.none(), short, numbers),
    st.builds(Abort, ids, codes, short, st.booleans()),
    st.builds(Cancel, ids, codes, short, st.booleans()),
    st.builds(Error, codes, short, retries, st.none() | ids),
    st.builds(Bye, short, st.none() | st.integers(0, 3_600_000)),
)

assert {type(each) for each in one_of_each(1)} == set(KINDS.values())
