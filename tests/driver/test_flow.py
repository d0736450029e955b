"""The water marks: their defaults, their limits, and what is refused."""

from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest

from wsstream.driver.flow import FlowControl

NAMES = [
    "receive_high_water",
    "receive_low_water",
    "send_high_water",
    "send_low_water",
    "frame_size",
    "max_frame_size",
]


def test_the_defaults_are_those_of_the_documentation() -> None:
    flow = FlowControl()
    assert [getattr(flow, name) for name in NAMES] == [262144, 65536, 65536, 16384, 65536, 1 << 20]


def test_a_low_mark_is_a_quarter_of_its_high_mark_unless_told() -> None:
    flow = FlowControl(receive_high_water=1000, send_high_water=401)
    assert (flow.receive_low_water, flow.send_low_water) == (250, 100)
    flow = FlowControl(receive_high_water=1000, receive_low_water=0, send_high_water=1, send_low_water=0)
    assert (flow.receive_low_water, flow.send_low_water) == (0, 0)


def test_a_high_mark_of_one_byte_has_a_low_mark_of_none() -> None:
    flow = FlowControl(receive_high_water=1, send_high_water=1, frame_size=4)
    assert [getattr(flow, name) for name in NAMES] == [1, 0, 1, 0, 4, 4]


@pytest.mark.parametrize(
    ("frame_size", "largest"),
    [(4, 4), (65535, 65535), (65536, 1 << 20), (1 << 20, 1 << 20), ((1 << 20) + 1, (1 << 20) + 1)],
)
def test_frames_grow_to_a_mebibyte_unless_they_are_larger_or_have_to_be_small(
    frame_size: int, largest: int
) -> None:
    assert FlowControl(frame_size=frame_size).max_frame_size == largest
    assert FlowControl(frame_size=frame_size, max_frame_size=1 << 30).max_frame_size == 1 << 30


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("value", [True, 1.0, "1", b"1"], ids=repr)
def test_a_mark_is_an_int(name: str, value: object) -> None:
    with pytest.raises(TypeError, match=f"{name} must be an int, got {type(value).__name__}"):
        FlowControl(**{name: value})


@pytest.mark.parametrize("name", ["receive_high_water", "send_high_water", "frame_size"])
def test_there_is_no_flow_without_limits(name: str) -> None:
    with pytest.raises(TypeError, match="must be an int, got NoneType"):
        FlowControl(**{name: None})


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("receive_high_water", 0),
        ("send_high_water", 0),
        ("frame_size", 0),
        ("receive_low_water", -1),
        ("send_low_water", -1),
    ],
)
def test_a_mark_has_a_least_value(name: str, value: int) -> None:
    with pytest.raises(ValueError, match=f"{name} must .*, got {value}"):
        FlowControl(**{name: value})


@pytest.mark.parametrize("way", ["receive", "send"])
def test_a_low_mark_is_below_its_high_mark(way: str) -> None:
    FlowControl(**{f"{way}_high_water": 100, f"{way}_low_water": 99})
    for low in (100, 101):
        with pytest.raises(ValueError, match=f"{way}_low_water must be below {way}_high_water"):
            FlowControl(**{f"{way}_high_water": 100, f"{way}_low_water": low})


def test_marks_are_keywords_and_values_that_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        FlowControl(1000)
    flow = FlowControl(frame_size=5)
    assert flow == FlowControl(frame_size=5) != FlowControl()
    assert hash(flow) == hash(FlowControl(frame_size=5))
    with pytest.raises(FrozenInstanceError):
        flow.frame_size = 6
