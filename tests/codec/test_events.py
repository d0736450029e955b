"""The event classes: immutable values."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import pytest

from wsstream.codec.events import Chunk, Close, Ping, Pong, Violation

EVENTS = [
    Chunk("text", b"a", False),
    Ping(b"p"),
    Pong(b"p"),
    Close(1000, "why"),
    Violation(1002, "a rule"),
]
EACH = pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)


def values_of(event: Any) -> list[Any]:
    return [getattr(event, name) for name in event.__match_args__]


@EACH
def test_an_event_cannot_be_changed(event: Any) -> None:
    for name in event.__match_args__:
        with pytest.raises(AttributeError):
            setattr(event, name, None)


@EACH
def test_an_event_has_no_other_attributes(event: Any) -> None:
    assert not hasattr(event, "__dict__")
    with pytest.raises((AttributeError, TypeError)):
        event.other = 1


@EACH
def test_events_are_equal_by_class_and_value(event: Any) -> None:
    assert type(event)(*values_of(event)) == event
    assert hash(type(event)(*values_of(event))) == hash(event)
    assert [other for other in EVENTS if other == event] == [event]


@EACH
def test_an_event_can_be_copied_and_pickled(event: Any) -> None:
    for same in (copy.copy(event), copy.deepcopy(event), pickle.loads(pickle.dumps(event))):
        assert (type(same), same) == (type(event), event)


def test_the_repr_of_an_event_names_its_fields() -> None:
    assert repr(EVENTS[0]) == "Chunk(kind='text', payload=b'a', last=False, compressed=False)"
    assert repr(EVENTS[3]) == "Close(code=1000, reason='why')"


def test_ping_and_pong_are_empty_and_close_has_no_body_by_default() -> None:
    assert (Ping().payload, Pong().payload) == (b"", b"")
    assert Close() == Close(None, "")


def test_the_compiled_version_reads_the_fields_of_a_chunk_in_this_order() -> None:
    assert Chunk._fields == ("kind", "payload", "last", "compressed")
