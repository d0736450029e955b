"""Every public asynchronous call says what it raises and what cancellation leaves behind."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

import wsstream


def asynchronous_calls() -> Iterator[tuple[str, object]]:
    for name in wsstream.__all__:
        value = getattr(wsstream, name)
        members = vars(value).items() if isinstance(value, type) else [(None, value)]
        for member, call in members:
            if inspect.iscoroutinefunction(call) and not (member or "").startswith("_"):
                yield (f"{name}.{member}" if member else name), call


CALLS = dict(asynchronous_calls())


def test_the_calls_are_found() -> None:
    assert {"pipe", "WebSocketStream.aclose", "MessageReader.receive", "Writable.send_file"} <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("word", ["cancel", "[Rr]aise"])
def test_a_contract_says(name: str, word: str) -> None:
    text = inspect.getdoc(CALLS[name]) or ""
    assert re.search(word, text), f"{name} says nothing about that"
