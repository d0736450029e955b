"""The tables of sequences.

tests/compliance/test_differential.py holds them against other implementations of the protocol, and
tests/codec/test_decoder.py holds the byte that proves a violation against the decoder.
"""

from __future__ import annotations

from itertools import groupby

import pytest

from wsstream.testing import (
    EXAMPLE_KEY,
    ILLEGAL_FRAMES,
    LEGAL_SEQUENCES,
    binary,
    text,
)

ROLES = pytest.mark.parametrize("to", ["client", "server"])
CASES = (*ILLEGAL_FRAMES, *LEGAL_SEQUENCES)


def test_names_are_unique_and_readable_as_test_ids() -> None:
    names = [case.name for case in CASES]
    assert [name for name, same in groupby(sorted(names)) if len(list(same)) > 1] == []
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)


def test_illegal_cases_have_a_code_and_legal_ones_have_none() -> None:
    assert {case.code for case in ILLEGAL_FRAMES} == {1002, 1007}
    assert {case.code for case in LEGAL_SEQUENCES} == {None}


def test_frames_to_a_server_are_masked_with_the_key_and_those_to_a_client_are_not() -> None:
    case = next(case for case in LEGAL_SEQUENCES if case.name == "two-messages")
    assert case.data("client") == text("one") + binary(b"two")
    assert case.data("server") == text("one", mask=EXAMPLE_KEY) + binary(b"two", mask=EXAMPLE_KEY)
    assert case.data("server", mask=b"abcd") == text("one", mask=b"abcd") + binary(b"two", mask=b"abcd")


def test_wrong_masking_is_masked_to_a_client_and_not_to_a_server() -> None:
    case = next(case for case in ILLEGAL_FRAMES if case.name == "wrong-masking-of-text")
    assert case.data("client") == text("hi", mask=EXAMPLE_KEY)
    assert case.data("server") == text("hi")
