"""The fuzzer's targets over the kept corpus, and that each target sees a fault when there is one.

The fuzzer itself is `run.py`; nothing here needs it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from wsstream.codec.decoder import Decoder
from wsstream.codec.events import Event, Violation
from wsstream.errors import InvalidURL
from wsstream.files.errors import TransferError
from wsstream.files.protocol.events import Event as FileEvent
from wsstream.files.protocol.session import Session
from wsstream.opening.extensions import Extension, parse_extensions
from wsstream.opening.http import Request
from wsstream.opening.http1 import ClientHandshake, ServerHandshake, Upgraded
from wsstream.opening.url import URL, parse_url
from wsstream.protocol.connection import Connection
from wsstream.protocol.inflate import PythonInflater

CORPUS = Path(__file__).with_name("corpus")
NAMES = sorted(path.name for path in CORPUS.iterdir())
EACH_TARGET = pytest.mark.parametrize("name", NAMES)


def corpus(name: str) -> list[bytes]:
    return [path.read_bytes() for path in sorted((CORPUS / name).iterdir())]


def test_every_target_has_a_corpus_and_it_is_small(targets: ModuleType) -> None:
    assert sorted(targets.TARGETS) == NAMES
    files = [path for path in CORPUS.rglob("*") if path.is_file()]
    assert len(files) <= 200
    assert sum(path.stat().st_size for path in files) <= 200 * 1024


@EACH_TARGET
def test_the_kept_inputs_break_no_promise(targets: ModuleType, name: str) -> None:
    for data in corpus(name):
        targets.TARGETS[name](data)


@EACH_TARGET
def test_no_input_at_all_breaks_no_promise(targets: ModuleType, name: str) -> None:
    for size in range(10):
        targets.TARGETS[name](bytes(size))


# -- planted faults ------------------------------------------------------------------------------


class LosesAByte(Decoder):
    """Where a read ends in the middle of a payload."""

    def decode(self, data: bytes | memoryview, room: int) -> list[Event]:
        return super().decode(data[1:] if len(data) > 1 and self._left else data, room)


class GoesOn(Decoder):
    """Behind a violation."""

    def decode(self, data: bytes | memoryview, room: int) -> list[Event]:
        events = super().decode(data, room)
        if events and isinstance(events[-1], Violation):
            self.finished = False
        return events


class HasNoRoom(Decoder):
    """Hands on everything, however little is asked for."""

    def decode(self, data: bytes | memoryview, room: int) -> list[Event]:
        return super().decode(data, 1 << 62)


class SaysNothing(Connection):
    """Fails without a Close."""

    def fail(self, violation: Violation | None = None) -> None:
        super().fail(violation)
        self.queue.clear()


class SendsTwice(Connection):
    """Answers each Ping with a second Pong of its own making."""

    def receive(self, data: bytes | memoryview, room: int, **options: Any) -> list[Event]:
        events = super().receive(data, room, **options)
        if self.queue.pong_waits:
            self.queue.put_data(b"\x8a\x01!" if not self.client else b"\x8a\x81\0\0\0\0!")
        return events


class InflatesTooMuch(PythonInflater):
    """Twice what was asked for."""

    def take(self, max_bytes: int) -> bytes:
        return super().take(2 * max_bytes)


class LetsEndingsThrough(PythonInflater):
    """Inside a block, too."""

    def end(self) -> None:
        self.forget()


class BoundlessConnection(Connection):
    """With such an inflater."""

    def __init__(self, *, deflate: Any, **options: Any) -> None:
        super().__init__(deflate=deflate, **options)
        self.inflater = (
            None if deflate is None else InflatesTooMuch(deflate.receive_window, deflate.receive_takeover)
        )


class ForgetsTheRest(ServerHandshake):
    """What came behind the request."""

    @property
    def trailing(self) -> bytes:
        return b""


class ReadsOnce(ServerHandshake):
    """Refuses a request that comes in two reads."""

    def receive_data(self, data: bytes) -> Request | None:
        request = super().receive_data(data)
        assert request is not None
        return request


class TakesAnything(ClientHandshake):
    """Any answer will do."""

    def receive_data(self, data: bytes) -> Upgraded | None:
        result = super().receive_data(data)
        return result and Upgraded(result.response, "made up", result.extensions, result.trailing)


def sees_one_field(values: Any) -> tuple[Extension, ...]:
    return parse_extensions([*values][:1])


def raises_another_error(values: Any) -> tuple[Extension, ...]:
    try:
        return parse_extensions(values)
    except ValueError as error:
        raise RuntimeError from error


def keeps_the_case(text: str) -> URL:
    parsed = parse_url(text)
    return URL(parsed.secure, parsed.host.upper(), parsed.port, parsed.target, parsed.userinfo)


def lets_blanks_through(text: str) -> URL:
    try:
        return parse_url(text)
    except InvalidURL:
        return URL(False, "example.com", 80, f"/{text}")


class TakesAnyData(Session):
    """Without credit."""

    def receive_data(self, size: int, now: float) -> bool:
        if self.grant is not None and self.grant.received + size > self.grant.window:
            self.grant.received += size
            return True
        return super().receive_data(size, now)


class FailsQuietly(Session):
    """Tells the peer nothing."""

    def fail(self, error: TransferError, now: float) -> None:
        super().fail(error, now)
        self.outgoing()


class IgnoresTheTable(Session):
    """What is not possible in a state does nothing."""

    def fail(self, error: TransferError, now: float) -> None:
        if "is not possible in state" not in error.reason:
            super().fail(error, now)


class TellsTwice(Session):
    """That a transfer is over."""

    def tell(self, event: FileEvent) -> None:
        super().tell(event)
        super().tell(event)


FAULTS: list[tuple[str, dict[str, Any]]] = [
    ("decoder", {"make": LosesAByte}),
    ("decoder", {"make": GoesOn}),
    ("decoder", {"make": HasNoRoom}),
    ("connection", {"make": SaysNothing}),
    ("connection", {"make": SendsTwice}),
    ("connection", {"make": BoundlessConnection}),
    ("inflater", {"make": InflatesTooMuch}),
    ("inflater", {"make": LetsEndingsThrough}),
    ("handshake", {"server": ForgetsTheRest}),
    ("handshake", {"server": ReadsOnce}),
    ("handshake", {"client": TakesAnything}),
    ("extensions", {"parse": sees_one_field}),
    ("extensions", {"parse": raises_another_error}),
    ("files", {"make": TakesAnyData}),
    ("files", {"make": FailsQuietly}),
    ("files", {"make": IgnoresTheTable}),
    ("files", {"make": TellsTwice}),
    ("url", {"parse": keeps_the_case}),
    ("url", {"parse": lets_blanks_through}),
]


@pytest.mark.parametrize(
    ("name", "fault"), FAULTS, ids=[str(next(iter(f.values())).__name__) for _, f in FAULTS]
)
def test_the_corpus_finds_a_planted_fault(targets: ModuleType, name: str, fault: dict[str, Any]) -> None:
    target: Callable[[bytes], None] = partial(targets.TARGETS[name], **fault)
    assert any(is_rejected(target, data) for data in corpus(name))


def is_rejected(target: Callable[[bytes], None], data: bytes) -> bool:
    try:
        target(data)
    except Exception:  # as the fuzzer sees it
        return True
    return False


# -- time ----------------------------------------------------------------------------------------

GROWN = 40 * 1024  # bytes
MOST = 1.6  # seconds of CPU; in proportion it is 0.8 s at most, of tiny compressed messages


def grown(data: bytes) -> Iterator[bytes]:
    """`data` with the last of each byte in it, and with some longer parts of it, over and over."""
    for byte in sorted(set(data)):
        place = data.rindex(byte)
        yield data[:place] + bytes([byte]) * GROWN + data[place:]
    for size in (2, 3, 4):
        yield data + data[-size:] * (GROWN // size)


@pytest.mark.slow
@EACH_TARGET
def test_inputs_that_go_on_for_long_take_time_in_proportion(targets: ModuleType, name: str) -> None:
    """Of the inputs that were put there by hand; the others, named by their hashes, are many and alike."""
    target = targets.TARGETS[name]
    inputs = [path.read_bytes() for path in sorted((CORPUS / name).iterdir()) if len(path.name) != 40]
    assert inputs
    for data in inputs:
        for long in grown(data):
            before = time.process_time()
            target(long)
            assert time.process_time() - before < MOST, (data, long[:100])
