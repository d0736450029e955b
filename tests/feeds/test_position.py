"""`Position`: its text, and what a client may send as one."""

from __future__ import annotations

from typing import Any

import pytest

from wsstream.feeds import Evict, Latest, Position
from wsstream.opening.headers import Headers
from wsstream.opening.http import Request

NO_POSITIONS = ["", "e", "e:", ":1", "e:-1", "e:01", "e:1 ", "ä:1", "e" * 65 + ":1", f"e:{1 << 53}"]


def request(target: str) -> Request:
    return Request(target, Headers())


@pytest.mark.parametrize("position", [Position("e", 0), Position("A-z_0" * 12, (1 << 53) - 1)])
def test_the_text_of_a_position_is_read_back(position: Position) -> None:
    assert Position.parse(str(position)) == position
    assert Position.parse(request(f"/prices?a=b&since={position}")) == position
    assert Position.parse(request(f"/prices?since={str(position).replace(':', '%3A')}")) == position


@pytest.mark.parametrize("text", NO_POSITIONS)
def test_a_text_that_is_no_position_is_an_error(text: str) -> None:
    with pytest.raises(ValueError, match="a position must be an epoch, a colon and an offset"):
        Position.parse(text)


def test_a_request_without_a_position_has_none_and_one_with_nonsense_has_an_unknown_one() -> None:
    assert Position.parse(request("/prices")) is None
    assert Position.parse(request("/prices?since=")) is None
    for nonsense in ("e", "e:x", "%FF:1", "e:" + "9" * 5000):
        assert Position.parse(request(f"/prices?since={nonsense}")) == Position("unknown", 0)


@pytest.mark.parametrize(
    ("epoch", "offset", "error"),
    [
        (5, 1, TypeError), ("", 1, ValueError), ("a b", 1, ValueError), ("e", "1", TypeError),
        ("e", True, TypeError), ("e", -1, ValueError), ("e", 1 << 53, ValueError),
    ],
)  # fmt: skip
def test_wrong_values_raise(epoch: Any, offset: Any, error: type[Exception]) -> None:
    with pytest.raises(error):
        Position(epoch, offset)


def test_an_eviction_needs_a_code_that_may_be_sent() -> None:
    assert Evict() == Evict(1013, "too slow for the feed")
    with pytest.raises(ValueError, match="a close code must be in"):
        Evict(1006)
    with pytest.raises(ValueError, match="at most 123 bytes"):
        Evict(1013, "x" * 124)


def test_a_key_is_a_function() -> None:
    assert Latest().key is None
    with pytest.raises(TypeError, match="key must be a function or None, got str"):
        Latest("name")  # type: ignore[arg-type]
