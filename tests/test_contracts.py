"""Every public asynchronous call says what it raises and what cancellation leaves; so do transports."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

import pytest

import wsstream
import wsstream.testing
from wsstream.transports.base import Transport


def asynchronous_calls() -> Iterator[tuple[str, object]]:
    for module in (wsstream, wsstream.testing):
        for name in module.__all__:
            value = getattr(module, name)
            if inspect.iscoroutinefunction(value):
                yield name, value
            for member in vars(value) if isinstance(value, type) else ():
                if not member.startswith("_") and inspect.iscoroutinefunction(getattr(value, member)):
                    yield f"{name}.{member}", getattr(value, member)
    yield "connected_pair", wsstream.testing.connected_pair
    for member in ("wait_readable", "wait_writable", "aclose"):
        yield f"Transport.{member}", getattr(Transport, member)


CALLS = dict(asynchronous_calls())


def test_the_calls_are_found() -> None:
    assert {"pipe", "WebSocketStream.aclose", "Writable.send_file", "RawPeer.as_server"} <= set(CALLS)


@pytest.mark.parametrize("name", CALLS)
@pytest.mark.parametrize("word", ["cancel", "[Rr]aise"])
def test_a_contract_says(name: str, word: str) -> None:
    text = inspect.getdoc(CALLS[name]) or ""
    assert re.search(word, text), f"{name} says nothing about that"
