"""`reconnect` with a function for the URL, and with one for the transport."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import anyio
import pytest
from anyio.abc import ByteStream, TaskGroup

from wsstream import (
    HandshakeError,
    HandshakeRejected,
    InvalidURL,
    Request,
    Response,
    Target,
    WebSocketStream,
    accept,
    connect,
    reconnect,
    serve,
)
from wsstream.testing import memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]


# -- a server in memory ----------------------------------------------------------------------


class Server:
    """A server that needs no network: `open` gives a stream to it, as often as one wants.

    `requests` are those that came, `refusals` the answers to the next ones.
    """

    def __init__(self, tasks: TaskGroup) -> None:
        self.requests: list[Request] = []
        self.refusals: list[Response] = []
        self.opened: list[float] = []
        self._tasks = tasks

    async def open(self) -> ByteStream:
        await anyio.lowlevel.checkpoint()
        return self.open_at_once()

    def open_at_once(self) -> ByteStream:
        ours, theirs = memory_pair()
        self.opened.append(anyio.current_time())
        self._tasks.start_soon(self._serve, theirs)
        return ours

    async def _serve(self, stream: ByteStream) -> None:
        with suppress(HandshakeError, anyio.BrokenResourceError):  # it refused, or the client left
            async with accept(
                stream, process_request=self._process, subprotocols=["a", "b"], origins=None
            ) as ws:
                await ws.aclose()

    def _process(self, request: Request) -> Response | None:
        self.requests.append(request)
        return self.refusals.pop(0) if self.refusals else None


@asynccontextmanager
async def serving() -> AsyncIterator[Server]:
    async with anyio.create_task_group() as tasks:
        yield Server(tasks)
        tasks.cancel_scope.cancel()


async def turns(count: int, source: Any, **options: Any) -> list[WebSocketStream]:
    """Go on until there were so many connections."""
    seen: list[WebSocketStream] = []
    async for ws in reconnect(source, **{"delays": [2] * 99, **options}):
        seen.append(ws)
        await ws.wait_closed()
        if len(seen) == count:
            break
    return seen


# -- a function for the URL ------------------------------------------------------------------


def counting(give: Callable[[int], Any]) -> tuple[Callable[[], Any], list[float]]:
    """A function that gives something else each time, and the times of its calls."""
    calls: list[float] = []

    def source() -> Any:
        calls.append(anyio.current_time())
        return give(len(calls))

    return source, calls


async def later(value: Any) -> Any:
    await anyio.sleep(1)
    return value


@pytest.mark.parametrize("asynchronous", [False, True])
async def test_each_attempt_asks_for_its_url_after_the_delay(asynchronous: bool) -> None:
    def give(number: int) -> Any:
        url = f"ws://h/{number}"
        return later(url) if asynchronous else url

    source, calls = counting(give)
    async with serving() as server:
        server.refusals = [Response(503)]
        await turns(2, source, transport=server.open)
    assert [request.path for request in server.requests] == ["/1", "/2", "/3"]
    gap = 3 if asynchronous else 2
    assert calls == pytest.approx([0, gap, 2 * gap], abs=0.1)


async def test_a_target_has_options_of_its_own_for_one_attempt() -> None:
    targets = {
        1: Target("ws://h/1", headers={"Authorization": "Bearer 1"}, subprotocols=["a"]),
        2: Target("ws://h/2", headers=[("Authorization", "Bearer 2")], origin="https://page.example"),
        3: "ws://h/3",
    }
    source, _ = counting(targets.__getitem__)
    async with serving() as server:
        seen = await turns(
            3, source, transport=server.open, headers={"Authorization": "Bearer 0"}, subprotocols=["b"]
        )
    assert [request.headers["authorization"] for request in server.requests] == [
        "Bearer 1",
        "Bearer 2",
        "Bearer 0",
    ]
    assert [request.origin for request in server.requests] == [None, "https://page.example", None]
    assert [ws.subprotocol for ws in seen] == ["a", "b", "b"]


async def test_a_token_is_renewed_where_the_server_refuses_the_old_one() -> None:
    async def source() -> Target:
        return Target("ws://h/", headers={"Authorization": f"Bearer {len(server.requests)}"})

    def retry(error: Exception) -> bool | None:
        return True if isinstance(error, HandshakeRejected) and error.status == 401 else None

    async with serving() as server:
        server.refusals = [Response(401)]
        await turns(1, source, transport=server.open, retry=retry)
    assert [request.headers["authorization"] for request in server.requests] == ["Bearer 0", "Bearer 1"]


class Unavailable(OSError):
    """What a function of an application may raise."""


@pytest.mark.parametrize("error", [Unavailable("no token"), ZeroDivisionError()])
async def test_an_exception_of_the_function_leaves_the_loop(error: Exception) -> None:
    """Also an OSError: it is not the connection that failed."""

    async def source() -> str:
        raise error

    connections = reconnect(source)
    with pytest.raises(type(error)) as caught:
        await anext(connections)
    assert caught.value is error
    assert [ws async for ws in connections] == []


async def test_an_exception_of_the_function_is_tried_again_if_retry_says_so(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def give(number: int) -> Any:
        if number < 3:
            raise Unavailable("no token")
        return "ws://h/"

    source, calls = counting(give)
    seen: list[Exception] = []

    def retry(error: Exception) -> bool:
        seen.append(error)
        return True

    with caplog.at_level(logging.INFO, "wsstream.client"):
        async with serving() as server:
            await turns(1, source, transport=server.open, retry=retry)
    assert calls == pytest.approx([0, 2, 4], abs=0.1)
    assert [type(error) for error in seen] == [Unavailable, Unavailable]
    assert caplog.messages[0] == ("connecting to the next URL again in 2.0 s after Unavailable: no token")


async def test_a_function_that_takes_too_long_is_a_timeout_and_asked_again() -> None:
    async def give(number: int) -> str:
        if number == 1:
            await anyio.sleep_forever()
        return "ws://h/"

    source, calls = counting(give)
    seen: list[Exception] = []
    async with serving() as server:
        await turns(1, source, transport=server.open, retry=seen.append, open_timeout=7)
    assert calls == pytest.approx([0, 9], abs=0.1)
    assert [str(error) for error in seen] == ["no URL from the function that returns it within 7 s"]


async def test_the_function_has_the_open_timeout_of_connect_by_default() -> None:
    with pytest.raises(TimeoutError, match="within 10 s"):
        await anext(reconnect(anyio.sleep_forever, delays=[]))
    assert anyio.current_time() == pytest.approx(10, abs=0.1)


@pytest.mark.parametrize(
    ("given", "kind", "complaint"),
    [
        (b"ws://h/", TypeError, "url must return a str or a Target, got bytes"),
        (None, TypeError, "got NoneType"),
        ("ftp://h/", InvalidURL, "scheme"),
        (Target("ws://h/", ping_interval=0), ValueError, "ping_interval"),
    ],
    ids=repr,
)
async def test_a_wrong_value_of_the_function_leaves_the_loop(
    given: Any, kind: type[Exception], complaint: str
) -> None:
    with pytest.raises(kind, match=complaint):
        await anext(reconnect(lambda: given))


async def test_after_cancellation_in_the_function_the_next_call_calls_it_again() -> None:
    source, calls = counting(lambda number: anyio.sleep_forever() if number == 1 else "ws://h/")
    async with serving() as server:
        connections = reconnect(source, transport=server.open)
        with anyio.move_on_after(3) as scope:
            await anext(connections)
        assert scope.cancelled_caught
        async with await anext(connections):
            assert calls == pytest.approx([0, 3], abs=0.1)


def test_the_options_beside_a_function_are_checked_by_the_call_itself() -> None:
    wrong: list[dict[str, Any]] = [{"ssl": True}, {"headers": {"X": 5}}, {"transport": 5}, {"nonsense": 1}]
    for options in wrong:
        with pytest.raises(TypeError):
            reconnect(lambda: "ws://h/", **options)


def test_a_target_is_checked_when_it_is_made_and_shows_no_secret() -> None:
    with pytest.raises(InvalidURL):
        Target("ftp://h/")
    with pytest.raises(TypeError):
        Target(b"ws://h/")  # type: ignore[arg-type]
    target = Target("ws://user:secret@h/path?token=secret", headers={"Authorization": "secret"})
    assert repr(target) == "<Target ws://h/path>"


async def test_the_log_names_the_url_of_each_attempt_without_its_secrets(
    caplog: pytest.LogCaptureFixture,
) -> None:
    source, _ = counting(lambda number: f"ws://user:secret@h/{number}?secret")
    with caplog.at_level(logging.INFO, "wsstream.client"):
        async with serving() as server:
            server.refusals = [Response(503)]
            await turns(2, source, transport=server.open)
    lines = [record.message for record in caplog.records if record.name == "wsstream.client"]
    assert [line.partition(" again")[0] for line in lines] == [
        "connecting to ws://h/1",
        "connecting to ws://h/2",
    ]
    assert "secret" not in caplog.text


# -- a function for the transport ------------------------------------------------------------


async def test_reconnect_opens_a_stream_for_each_attempt() -> None:
    async with serving() as server:
        server.refusals = [Response(503)]
        await turns(2, "ws://h/", transport=server.open)
    assert server.opened == pytest.approx([0, 2, 4], abs=0.1)
    assert len(server.requests) == 3


async def test_connect_takes_a_function_too_asynchronous_or_not() -> None:
    async with serving() as server:
        for open_stream in (server.open, server.open_at_once):
            async with connect("ws://h/", transport=open_stream) as ws:
                await ws.wait_closed()
        assert len(server.opened) == 2
        connect("ws://h/", transport=server.open)
        assert len(server.opened) == 2, "opened before it was entered"


async def test_a_stream_that_cannot_be_opened_is_judged_as_a_connection_that_failed() -> None:
    async with serving() as server:
        failures: list[Exception] = [ConnectionRefusedError(111, "nobody"), ZeroDivisionError()]

        async def open_stream() -> ByteStream:
            if len(server.opened) in (0, 1) and failures:
                server.opened.append(anyio.current_time())
                raise failures.pop(0)
            return await server.open()

        with pytest.raises(ZeroDivisionError) as caught:
            await turns(1, "ws://h/", transport=open_stream)
        assert server.opened == pytest.approx([0, 2], abs=0.1)
        assert caught.value.__notes__ == ["This was on the way to ws://h/."]


async def test_a_stream_that_breaks_before_the_answer_is_tried_again() -> None:
    async with serving() as server:

        async def open_stream() -> ByteStream:
            if not server.opened:
                ours, theirs = memory_pair()
                server.opened.append(anyio.current_time())
                await theirs.aclose()
                return ours
            return await server.open()

        await turns(1, "ws://h/", transport=open_stream)
    assert server.opened == pytest.approx([0, 2], abs=0.1)


async def test_a_transport_function_that_returns_no_stream_is_a_type_error() -> None:
    for opened in (5, None):
        with pytest.raises(
            TypeError, match=f"transport must return a ByteStream, got {type(opened).__name__}"
        ):
            await anext(reconnect("ws://h/", transport=lambda opened=opened: opened))


async def test_an_opened_stream_is_closed_if_the_handshake_fails() -> None:
    streams: list[ByteStream] = []

    async def open_stream() -> ByteStream:
        ours, theirs = memory_pair()
        streams.extend((ours, theirs))
        return ours

    with pytest.raises(TimeoutError):
        async with connect("ws://h/", transport=open_stream, open_timeout=3):
            pytest.fail("entered")
    with pytest.raises(anyio.EndOfStream):
        while True:
            await streams[1].receive()


# -- Unix sockets ----------------------------------------------------------------------------


async def test_reconnect_goes_on_where_a_server_on_a_unix_socket_comes_back(tmp_path: Path) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send("hello")
        await ws.wait_closed()

    path = tmp_path / "s"
    seen = 0
    async with serve(handler, path=path) as server:
        connections = reconnect(f"{server.url}:/x", delays=[5] * 9)
        async with await anext(connections) as ws:
            assert await ws.receive() == "hello"
    async with anyio.create_task_group() as tasks:

        async def go_on() -> None:
            nonlocal seen
            async with await anext(connections) as ws:
                assert await ws.receive() == "hello"
                seen += 1

        tasks.start_soon(go_on)
        await anyio.sleep(7)  # nobody is there at the next attempt
        assert not seen
        async with serve(handler, path=path):
            while not seen:
                await anyio.sleep(1)
