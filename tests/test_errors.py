"""The exceptions: each one of the whole library can be copied, pickled, and sent by another process."""

from __future__ import annotations

import copy
import importlib
import pickle
import pkgutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from kit.ids import stable_repr
from kit.processes import run_program

import wsstream
from wsstream import CloseInfo, ConnectionBroken, HandshakeRejected, ProxyError, Response, WebSocketError
from wsstream.cli.exits import CommandFailed
from wsstream.codec.decoder import _Broken
from wsstream.errors import NOT_CLOSED, ClosedLocally, ConnectionClosed, StreamEnded, _Failure
from wsstream.files.errors import TransferError
from wsstream.opening.handshake_server import RequestRejected
from wsstream.upgrade.process_request import ApplicationResponse

INFO = CloseInfo(4001, "enough", True)
FIELDS = [("server", "test"), ("set-cookie", "a"), ("set-cookie", "b")]

ARGUMENTS: dict[type[BaseException], tuple[object, ...]] = {
    _Broken: (1002, "reserved bits"),
    ClosedLocally: ("closed here", NOT_CLOSED),
    CommandFailed: (9, "the digests differ"),
    ConnectionBroken: ("broken", INFO),
    ConnectionClosed: ("closed", INFO),
    HandshakeRejected: (404, FIELDS, b"no such page"),
    ProxyError: ("the proxy refuses", 407, FIELDS, b"who are you?"),
    ApplicationResponse: (Response(200, FIELDS, "fine\n"), "answered"),
    RequestRejected: (Response(403, FIELDS, "go away\n"), "go away"),
    StreamEnded: ("ended", INFO),
    TransferError: ("no-space", "the disk is full"),
}
"""What the exceptions are made with; those that are not here take a message."""

COPIES: dict[str, Callable[[Any], Any]] = {
    f"pickle {protocol}": lambda error, protocol=protocol: pickle.loads(pickle.dumps(error, protocol))
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1)
} | {"copy": copy.copy, "deepcopy": copy.deepcopy}


def exception_classes() -> list[type[BaseException]]:
    """All that are defined anywhere in the library, but for what is only a base."""
    for module in pkgutil.walk_packages(wsstream.__path__, "wsstream."):
        importlib.import_module(module.name)
    found = [cls for cls in subclasses(BaseException) if cls.__module__.partition(".")[0] == "wsstream"]
    return sorted({*found} - {_Failure}, key=lambda cls: cls.__qualname__)


def subclasses(cls: type[BaseException]) -> Iterator[type[BaseException]]:
    for each in type.__subclasses__(cls):
        yield each
        yield from subclasses(each)


def made(cls: type[BaseException]) -> BaseException:
    return cls(*ARGUMENTS.get(cls, ("what happened",)))


def content(value: object) -> object:
    """What of `value` can be compared: records without an ``==`` of their own by their attributes."""
    return (
        {name: content(each) for name, each in vars(value).items()} if isinstance(value, Response) else value
    )


def attributes(error: BaseException) -> dict[str, object]:
    return {name: content(value) for name, value in vars(error).items()}


@pytest.fixture(params=COPIES)
def copied(request: pytest.FixtureRequest) -> Callable[[Any], Any]:
    return COPIES[request.param]


def test_the_whole_tree_is_found() -> None:
    found = set(CLASSES)
    assert set(ARGUMENTS) < found
    public = {each for name in wsstream.__all__ if isinstance(each := getattr(wsstream, name), type)}
    assert {cls for cls in public if issubclass(cls, Exception)} < found
    assert len(found) > 15


CLASSES = exception_classes()


@pytest.mark.parametrize("cls", CLASSES, ids=lambda cls: cls.__qualname__)
def test_an_exception_is_the_same_after_a_copy(
    cls: type[BaseException], copied: Callable[[Any], Any]
) -> None:
    error = made(cls)
    error.user = "eve"  # type: ignore[attr-defined]
    error.add_note("while it was tested")
    twin = copied(error)
    assert twin is not error
    assert type(twin) is cls
    assert (str(twin), repr(twin)) == (str(error), repr(error))
    assert attributes(twin) == attributes(error)
    assert twin.__notes__ == ["while it was tested"]
    assert twin.__cause__ is None
    assert not twin.__suppress_context__
    assert attributes(copied(twin)) == attributes(error), "a copy of the copy"


@pytest.mark.parametrize(
    "cls", [cls for cls in CLASSES if issubclass(cls, WebSocketError)], ids=lambda cls: cls.__qualname__
)
def test_the_cause_goes_along(cls: type[WebSocketError], copied: Callable[[Any], Any]) -> None:
    error = made(cls)
    root = ConnectionResetError(104, "Connection reset by peer")
    error.__cause__ = wsstream.KeepaliveTimeout("no sign of life")
    error.__cause__.__cause__ = root
    twin = copied(error)
    assert type(twin.__cause__) is wsstream.KeepaliveTimeout
    assert twin.__cause__.code == 1011
    assert (type(twin.__cause__.__cause__), twin.__cause__.__cause__.args) == (type(root), root.args)
    assert twin.__suppress_context__


class TwoArguments(Exception):
    """As many packages have them: it can be pickled and not be read back."""

    def __init__(self, who: str, what: str) -> None:
        super().__init__(f"{who} {what}")


@pytest.mark.parametrize("cause", [TwoArguments("we", "failed"), OSError(threading.Lock())], ids=stable_repr)
def test_a_cause_that_cannot_be_copied_costs_nothing_but_itself(cause: Exception) -> None:
    error = ConnectionBroken("broken", INFO)
    error.__cause__ = cause
    for name, copied in COPIES.items():
        twin = copied(error)
        assert (str(twin), twin.info) == (str(error), INFO)
        assert twin.__cause__ is (cause if name == "copy" else None)


def test_causes_in_a_circle_end() -> None:
    error, other = WebSocketError("one"), WebSocketError("two")
    error.__cause__, other.__cause__ = other, error
    assert str(pickle.loads(pickle.dumps(error))) == "one"


class NotAllowed(WebSocketError):
    """A user's own, with other arguments."""

    __slots__ = ("realm",)

    def __init__(self, user: str, *, realm: str) -> None:
        super().__init__(f"{user} must not", code=4003, reason="not allowed")
        self.user = user
        self.realm = realm


class Forgetful(WebSocketError, KeyError):
    """A user's own that does not call ``super().__init__``."""

    def __init__(self, user: str) -> None:
        self.user = user


class Unreachable(WebSocketError, ConnectionError):
    """A user's own that is one of the system's errors too, which keep their arguments in `__init__`."""


def test_subclasses_of_users_are_copied_with_what_they_have(copied: Callable[[Any], Any]) -> None:
    twin = copied(NotAllowed("eve", realm="chat"))
    assert (type(twin), str(twin), twin.code, twin.reason) == (
        NotAllowed,
        "eve must not",
        4003,
        "not allowed",
    )
    assert (twin.user, twin.realm) == ("eve", "chat")
    twin = copied(Unreachable("nobody there", code=1014))
    assert (type(twin), str(twin), twin.code, twin.errno) == (Unreachable, "nobody there", 1014, None)
    twin = copied(Forgetful("eve"))
    assert (type(twin), twin.args, twin.user, twin.code, twin.reason) == (
        Forgetful,
        ("eve",),
        "eve",
        None,
        "",
    )


def test_groups_of_exceptions_are_pickled() -> None:
    group = ExceptionGroup("two", [ConnectionBroken("broken", INFO), HandshakeRejected(404, FIELDS, b"")])
    twin = pickle.loads(pickle.dumps(group))
    assert [str(error) for error in twin.exceptions] == [str(error) for error in group.exceptions]


def test_what_a_close_is_not_known_yet_says_no_code() -> None:
    assert str(copy.deepcopy(ClosedLocally("closed here", NOT_CLOSED))) == "closed here"
    assert str(ClosedLocally("closed here", CloseInfo(1006, "", False))) == "closed here (no Close frame)"


PROCESS = """
import anyio
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from wsstream import Response, connect, serve

async def use(url):
    async with connect(url) as ws:
        await ws.receive()

async def drop(ws):
    ws.abort()

def refuse(request):
    return Response(404, body="no such page") if request.path == "/404" else None

async def main():
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        async with serve(drop, "127.0.0.1", process_request=refuse) as server:
            for path in ("/", "/404", "/"):
                work = pool.submit(partial(anyio.run, use, server.url + path, backend=BACKEND))
                try:
                    await anyio.to_thread.run_sync(work.result, 20)
                except Exception as error:
                    print(type(error).__name__, error, getattr(error, "body", b"").decode())

if __name__ == "__main__":
    anyio.run(main, backend=BACKEND)
"""


@pytest.mark.heavy
@pytest.mark.heavy_after_first
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_worker_process_reports_how_its_connection_ended(backend: str, tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(PROCESS.replace("BACKEND", repr(backend)))
    broken, refused, again = run_program(str(program)).splitlines()
    assert broken == again == "ConnectionBroken the connection broke (no Close frame) "
    assert refused.startswith("HandshakeRejected ")
    assert refused.count("HTTP status 404") == 1
    assert refused.endswith("no such page")
