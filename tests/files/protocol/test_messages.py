"""The control messages: what is encoded is parsed again, what is out of its bounds is a protocol error."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import fields
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.file_messages import DIGEST, any_message, hello, one_of_each

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import (
    KINDS,
    MAX_CHECK,
    MAX_ENTRIES,
    Accept,
    Ack,
    Entries,
    Entry,
    Message,
    Prefix,
    encode,
    parse,
)

NUMBER = ["1", 1.0, True, -1, 2**53 + 1, [], {}]
WRONG: dict[str, list[Any]] = {
    # a field's name on the wire: values that it never takes
    "id": [0, *NUMBER],
    "v": [0, 1001, *NUMBER],
    "agent": [5, "x" * 201, "\ud800"],
    "max_segment": [0, (2 << 20) + 1, *NUMBER],
    "hashes": ["sha256", [], ["A"], ["a", "a"], [f"a{i}" for i in range(17)], [5], {}],
    "ops": ["get", ["GET"], ["get", "get"], [f"a{i}" for i in range(17)], [None]],
    "max_size": NUMBER,
    "resume": [1, 0, "true", []],
    "name": [5, "x" * 1025, "é" * 513, "\udfff", []],
    "etag": ["", "x" * 129, 5, []],
    "cursor": ["", "x" * 2049, 5],
    "entries": [
        {},
        "x",
        [5],
        [{"name": "", "kind": "file"}],
        [{"name": "a", "kind": "device"}],
        [{"name": "a"}],
    ],
    "size": NUMBER,
    "mtime": ["1", 1.5, True, 2**53 + 1, -(2**53) - 1],
    "digest": ["", DIGEST.upper(), DIGEST[1:], DIGEST + "0", 5],
    "token": ["", "a/b", "..", "a b", "x" * 65, 5],
    "fresh": [1, "true", []],
    "offset": [1, *NUMBER],
    "hash": ["", "SHA256", "a b", 5],
    "window": [0, (256 << 10) - 1, *NUMBER],
    "segment": [0, (2 << 20) + 1, *NUMBER],
    "check": [5, {}, {"from": 0, "to": 5, "digest": DIGEST}, {"from": 0, "to": 0, "digest": DIGEST}],
    "code": ["", "No Space", "a" * 33, 5, None],
    "reason": [5, "x" * 124, "é" * 62, "\ud800"],
    "retry": ["", "soon", True, 5],
    "written": NUMBER,
    "durable": [1, *NUMBER],
    "phase": ["", "A", 5],
    "done": NUMBER,
    "total": NUMBER,
    "keep": [1, "true", []],
    "reconnect_ms": [3_600_001, *NUMBER],
}
DURABLE_OF_DONE = NUMBER  # no other field bounds it there
WINDOW_OF_ACK = [0, *NUMBER]


def wire(message: Message) -> dict[str, Any]:
    return json.loads(encode(message))


def keys_of(kind: type[Any]) -> list[tuple[str, bool]]:
    """Each field's name on the wire, and whether it is required."""
    return [(each.key, each.default.__class__.__name__ == "_MISSING_TYPE") for each in kind.FIELDS]


EXAMPLES = one_of_each(1)
EACH = pytest.mark.parametrize("message", EXAMPLES, ids=lambda message: type(message).__name__)


@given(any_message)
def test_what_is_encoded_is_parsed_again(message: Message) -> None:
    text = encode(message)
    assert parse(text) == message
    assert "\n" not in text


@EACH
def test_a_message_is_one_object_with_its_kind_first(message: Message) -> None:
    assert encode(message).startswith(f'{{"t":"{type(message).__name__.lower()}"')
    assert parse(encode(message)) == message


@EACH
def test_unknown_fields_are_ignored(message: Message) -> None:
    more = {"later": [{"x": 1.5}], "start": 7, "FIELDS": None}
    assert parse(json.dumps(wire(message) | more)) == message


@EACH
def test_each_required_field_is_required(message: Message) -> None:
    for key, required in keys_of(type(message)):
        value = wire(message)
        value.pop(key, None)
        if required:
            with pytest.raises(TransferError, match=rf"{key} is missing") as caught:
                parse(json.dumps(value))
            assert caught.value.error == "protocol"
        elif key not in ("check",):
            assert parse(json.dumps(value | {key: None})) == parse(json.dumps(value))


@EACH
def test_each_field_is_bounded(message: Message) -> None:
    for key, _ in keys_of(type(message)):
        bad = WRONG[key]
        if (type(message).__name__, key) == ("Done", "durable"):
            bad = DURABLE_OF_DONE
        if (type(message).__name__, key) == ("Ack", "window"):
            bad = WINDOW_OF_ACK
        for value in bad:
            with pytest.raises(TransferError, match="protocol"):
                parse(json.dumps(wire(message) | {key: value}))


def test_every_field_of_every_message_is_in_the_table_above() -> None:
    used = {key for kind in KINDS.values() for key, _ in keys_of(kind)}
    assert used == set(WRONG)
    assert all(len(fields(kind)) == len(kind.FIELDS) for kind in KINDS.values())


@pytest.mark.parametrize(
    "text",
    [
        "{}",
        '{"t":5}',
        '{"t":"nothing"}',
        '{"t":"Hello"}',
        '{"t":["ack"]}',
        '{"t":null}',
        '{"t":"entry"}',
        "5",
        "x",
    ],
)
def test_an_unknown_kind_is_a_protocol_error(text: str) -> None:
    with pytest.raises(TransferError) as caught:
        parse(text)
    assert (caught.value.error, caught.value.retry) == ("protocol", "never")


def test_a_message_that_names_an_unknown_kind_shows_it_cut_and_escaped() -> None:
    with pytest.raises(TransferError) as caught:
        parse(json.dumps({"t": "\x1b[2J" + "x" * 500}))
    assert caught.value.reason.isprintable()
    assert len(caught.value.reason) < 80


def test_a_program_cannot_make_a_wrong_message_either() -> None:
    with pytest.raises(ValueError, match=r"ack\.written must be an integer"):
        Ack(1, -1, 0)
    with pytest.raises(ValueError, match="`durable` must not exceed `written`"):
        Ack(1, 5, 6)
    with pytest.raises(ValueError, match=r"hello\.hashes must be an array"):
        hello(hashes=())


@pytest.mark.parametrize(("start", "end"), [(0, 0), (5, 4), (0, MAX_CHECK + 1)])
def test_a_check_covers_at_least_one_byte_and_at_most_1_mib(start: int, end: int) -> None:
    assert Prefix(0, MAX_CHECK, DIGEST)
    with pytest.raises(ValueError, match="`to` must be 1 to 1048576 bytes after `from`"):
        Prefix(start, end, DIGEST)


def test_an_offset_that_is_not_0_needs_a_check_that_ends_there() -> None:
    def accept(offset: int, check: Prefix | None) -> Accept:
        return Accept(1, offset, "sha256", 512 << 10, 256 << 10, "tok", check)

    assert accept(0, None)
    assert accept(9, Prefix(5, 9, DIGEST))
    for offset, check in [(9, None), (0, Prefix(5, 9, DIGEST)), (8, Prefix(5, 9, DIGEST))]:
        with pytest.raises(ValueError, match="`check` must end at `offset`"):
            accept(offset, check)


def test_the_largest_page_fits_into_a_message_whatever_the_files_are_called() -> None:
    """Quotation marks take two bytes each; only control characters take more, which no name has."""
    names = [f"{number:03}{chr(34) * 1021}" for number in range(MAX_ENTRIES)]
    page = tuple(Entry(name, "folder", 2**53, -(2**53), '"' * 128) for name in names)
    message = Entries(2**53, page, '"' * 2048)
    assert parse(encode(message)) == message
    with pytest.raises(ValueError, match="array of 0 to 100"):
        Entries(1, (*page, Entry("x", "file")))


@given(
    st.text(max_size=200) | st.from_regex(r'\{"t":"[a-z]{3,8}"(,"[a-z]{2,6}":[0-9a-z"\[\]{}]{0,9}){0,5}\}')
)
def test_any_text_is_a_message_or_a_protocol_error(text: str) -> None:
    with suppress(TransferError):
        message = parse(text)
        assert parse(encode(message)) == message
