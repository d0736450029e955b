"""What both sides of the opening handshake share."""

from __future__ import annotations

import pytest
from kit.handshake import ACCEPT, KEY

from wsstream.opening.handshake import accept_key, validate_subprotocols


def test_the_key_of_the_rfc_is_accepted_as_in_the_rfc() -> None:
    assert accept_key(KEY) == ACCEPT


@pytest.mark.parametrize("value", [[], (), ["chat"], ["b", "a"], iter(["x", "y"]), {"a": 1}])
def test_subprotocols_are_a_tuple_of_tokens(value: object) -> None:
    names = validate_subprotocols(value)  # type: ignore[arg-type]
    assert isinstance(names, tuple)
    assert validate_subprotocols(names) == names


@pytest.mark.parametrize("value", ["hi", "", None, 5, [b"a"], ["a", None], [5]])
def test_subprotocols_of_the_wrong_type_are_a_type_error(value: object) -> None:
    with pytest.raises(TypeError):
        validate_subprotocols(value)  # type: ignore[arg-type]


@pytest.mark.parametrize("value", [["a", "a"], [""], ["a b"], ["a,b"], ["ä"], ["a\r\n"], ["a;"]])
def test_subprotocols_that_are_no_tokens_or_twice_are_a_value_error(value: list[str]) -> None:
    with pytest.raises(ValueError, match=r"RFC 6455 section 4\.1"):
        validate_subprotocols(value)
