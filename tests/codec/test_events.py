"""The event classes: values, not objects with a life of their own."""

from __future__ import annotations

from dataclasses import FrozenInstanceError, fields

import pytest

from wsstream.codec.events import Chunk, Close, Ping, Pong, Violation

EVENTS = [
    Chunk("text", b"a", False),
    Ping(b"p"),
    Pong(b"p"),
    Close(1000, "why"),
    Violation(1002, "a rule"),
]
NAMES = [type(event).__name__ for event in EVENTS]


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_an_event_cannot_be_changed(event: Ping) -> None:
    for field in fields(event):
        with pytest.raises(FrozenInstanceError):
            setattr(event, field.name, None)


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_an_event_has_no_room_for_anything_else(event: Ping) -> None:
    assert not hasattr(event, "__dict__")


@pytest.mark.parametrize("event", EVENTS, ids=NAMES)
def test_events_are_equal_by_class_and_value(event: Ping) -> None:
    values = [getattr(event, field.name) for field in fields(event)]
    assert type(event)(*values) == event
    assert hash(type(event)(*values)) == hash(event)
    assert [other for other in EVENTS if other == event] == [event]


def test_ping_and_pong_are_empty_and_close_has_no_body_unless_told() -> None:
    assert (Ping().payload, Pong().payload) == (b"", b"")
    assert Close() == Close(None, "")
