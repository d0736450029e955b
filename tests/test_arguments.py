"""Checks of arguments: X must be ..., got ..."""

from __future__ import annotations

from math import inf, nan

import pytest

from wsstream.arguments import check_int, check_number, check_type


@pytest.mark.parametrize(
    ("value", "bounds", "message"),
    [
        (0, {"least": 1}, "n must be at least 1, got 0"),
        (-1, {"least": 0}, "n must not be negative, got -1"),
        (-1, {"least": 0, "optional": True}, "n must not be negative, got -1"),
        (0, {"least": 1, "optional": True}, "n must be at least 1 or None, got 0"),
        (16, {"least": 9, "most": 15}, "n must be between 9 and 15, got 16"),
        (8, {"least": 9, "most": 15, "optional": True}, "n must be between 9 and 15 or None, got 8"),
    ],
)
def test_a_number_out_of_range_is_told_with_the_range(
    value: int, bounds: dict[str, int], message: str
) -> None:
    with pytest.raises(ValueError) as caught:
        check_int("n", value, **bounds)
    assert str(caught.value) == message


def test_a_number_within_its_range_passes() -> None:
    for value in (9, 15):
        check_int("n", value, 9, 15)
    check_int("n", 1 << 100, 0)
    check_int("n", None, 1, optional=True)


@pytest.mark.parametrize("value", [1.0, True, "s3cr3t", b"s3cr3t", None])
def test_what_is_no_int_is_told_by_its_type_alone(value: object) -> None:
    with pytest.raises(TypeError) as caught:
        check_int("n", value, 0)
    assert str(caught.value) == f"n must be an int, got {type(value).__name__}"
    if value is not None:
        with pytest.raises(TypeError, match=r"^n must be an int or None, got"):
            check_int("n", value, 0, optional=True)


def test_a_number_is_not_negative_unless_it_has_to_be_greater_than_0() -> None:
    for value in (0, 0.5, 10, inf):
        check_number("t", value)
    check_number("t", None, optional=True)
    for wrong, message in ((-1, "got -1"), (-0.5, "got -0.5"), (nan, "got nan")):
        with pytest.raises(ValueError, match=rf"^t must not be negative, {message}$"):
            check_number("t", wrong)
    for wrong in (0, -1, nan):
        with pytest.raises(ValueError, match=rf"^t must be greater than 0, got {wrong}$"):
            check_number("t", wrong, positive=True)
    with pytest.raises(ValueError, match=r"^t must be finite, got inf$"):
        check_number("t", inf, finite=True)
    for kind in (None, "1", True):
        with pytest.raises(TypeError, match=rf"^t must be a number, got {type(kind).__name__}$"):
            check_number("t", kind)
    with pytest.raises(TypeError, match=r"^t must be a number or None, got str$"):
        check_number("t", "1", optional=True)


def test_a_type_is_told_in_the_words_given() -> None:
    check_type("x", None, str | None, "a str or None")
    with pytest.raises(TypeError) as caught:
        check_type("x", 5, str | None, "a str or None")
    assert str(caught.value) == "x must be a str or None, got int"
