"""The close codes of RFC 6455 section 7.4."""

from __future__ import annotations

import pytest

from wsstream.close_codes import CloseCode, is_close_code


def test_exactly_the_registered_and_the_free_codes_may_be_on_the_wire() -> None:
    allowed = {1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)}
    assert {code for code in range(1 << 16) if is_close_code(code)} == allowed


@pytest.mark.parametrize("code", CloseCode, ids=lambda code: code.name)
def test_only_the_two_codes_that_stand_for_nothing_are_never_on_the_wire(code: CloseCode) -> None:
    assert is_close_code(code) is (code not in (CloseCode.NO_CODE, CloseCode.ABNORMAL))
