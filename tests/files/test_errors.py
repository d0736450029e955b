"""The names of errors: complete, each with a close code of its own and advice on trying again."""

from __future__ import annotations

import copy
import pickle

import pytest

from wsstream import WebSocketError
from wsstream.close_codes import is_close_code
from wsstream.files.errors import ERRORS, MAX_REASON, RETRIES, TransferError, cut_reason

NAMES = [
    "protocol",
    "unsupported",
    "unauthorized",
    "denied",
    "invalid-name",
    "not-found",
    "exists",
    "too-large",
    "quota",
    "no-space",
    "busy",
    "changed",
    "short",
    "digest-mismatch",
    "io",
    "timeout",
    "superseded",
    "cancelled",
    "shutdown",
    "internal",
]


def test_there_are_these_errors_and_no_others() -> None:
    assert [*ERRORS] == NAMES


def test_each_close_code_is_for_private_use_and_stands_for_one_error() -> None:
    codes = [kind.close_code for kind in ERRORS.values()]
    assert len(set(codes)) == len(codes)
    assert all(is_close_code(code) and 4000 <= code <= 4999 for code in codes)
    assert ERRORS["protocol"].close_code == 4002
    assert ERRORS["superseded"].close_code == 4409


def test_what_another_attempt_cannot_change_is_never_tried_again() -> None:
    of = {retry: {name for name, kind in ERRORS.items() if kind.retry == retry} for retry in RETRIES}
    assert of["now"] == {"changed", "short", "digest-mismatch", "timeout"}
    assert of["later"] == {"no-space", "busy", "io", "shutdown", "internal"}
    assert of["never"] == {*NAMES} - of["now"] - of["later"]


@pytest.mark.parametrize("name", NAMES)
def test_an_error_has_the_advice_and_the_code_of_its_name(name: str) -> None:
    error = TransferError(name)
    assert isinstance(error, WebSocketError)
    assert (error.error, error.retry, error.code) == (name, ERRORS[name].retry, ERRORS[name].close_code)
    assert (error.reason, str(error)) == ("", f"{name}: {ERRORS[name].meaning}")


def test_a_reason_is_cut_to_what_fits_into_a_close_frame() -> None:
    error = TransferError("io", "é" * 100)
    assert error.reason == "é" * 61
    assert len(error.reason.encode()) <= MAX_REASON
    assert str(error) == "io: " + "é" * 100
    assert cut_reason("a\udcff") == "a?"


def test_an_unknown_name_is_a_mistake_here_and_internal_from_a_peer() -> None:
    with pytest.raises(ValueError, match=r"error must be one of protocol, .* got 'melted'"):
        TransferError("melted")
    error = TransferError.from_peer("melted", "too warm", "now")
    assert (error.error, error.retry, error.reason) == ("internal", "now", "melted: too warm")


def test_the_peers_advice_counts_more_than_the_tables() -> None:
    assert TransferError.from_peer("quota", "", "later").retry == "later"
    assert TransferError.from_peer("quota", "").retry == "never"


@pytest.mark.parametrize("copied", [copy.copy, lambda error: pickle.loads(pickle.dumps(error))])
def test_a_copy_has_the_same_attributes(copied) -> None:
    error = TransferError("busy", "three others", retry="now")
    twin = copied(error)
    assert type(twin) is TransferError
    assert (twin.error, twin.retry, twin.code, twin.reason) == ("busy", "now", 4503, "three others")
    assert str(twin) == str(error)
