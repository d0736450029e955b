"""The repr of every object: one line, without secrets, at any time of its life."""

from __future__ import annotations

import gc
import inspect

import pytest
from sync.conftest import echo

import wsstream.sync
from wsstream.sync import connect, reconnect, serve
from wsstream.sync.background import background
from wsstream.sync.link import Link

SECRET = "s3cr3t"
CLASSES = [
    name
    for name in wsstream.sync.__all__
    if inspect.isclass(getattr(wsstream.sync, name)) and not name.endswith("Options")
]


def test_every_object_is_shown_in_one_line_without_secrets() -> None:
    serving = serve(echo, "127.0.0.1")
    shown = [serving]
    with serving as server, connect(f"{server.url}/?token={SECRET}") as ws:
        ws.send("x")
        with ws.writable.message("text") as writer:
            shown += [serving, server, ws, ws.readable, ws.writable, ws._link, writer]
        with ws.readable.message() as reader:
            shown += [reader, ws.readable.messages(), ws.readable.only(str), ws.readable.message()]
            shown += [ws.writable.message(), reconnect(server.url), connect(server.url)]
            texts = [*map(repr, shown)]
        texts += map(repr, shown)
    texts += map(repr, shown)
    for text in texts:
        assert "\n" not in text
        assert SECRET not in text
        assert " at 0x" not in text
        assert "_" not in text.partition(" ")[0], text


@pytest.mark.heavy
@pytest.mark.parametrize("name", CLASSES)
def test_an_object_whose_making_failed_can_be_shown_and_forgotten(name: str) -> None:
    kind = getattr(wsstream.sync, name)
    half_made = kind.__new__(kind)
    assert repr(half_made) == f"<{name}>"
    del half_made
    gc.collect()


def test_a_link_whose_making_failed_can_be_forgotten() -> None:
    with pytest.raises(AttributeError):
        Link(background(), None)  # type: ignore[arg-type]
    gc.collect()
