"""What an exception that leaves the block of a connection means for the connection."""

from __future__ import annotations

import asyncio  # noqa: TID251 - tasks that are cancelled by themselves
import gc
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import aclosing
from typing import Any

import anyio
import pytest

from wsstream import (
    CloseInfo,
    ConnectionBroken,
    StreamEnded,
    WebSocketError,
    WebSocketStream,
    accept,
    connect,
    serve,
)
from wsstream.streams.close_on_exit import in_cancelled_scope, judge, program_end
from wsstream.testing import RawPeer, memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

ENDED = StreamEnded("ended", CloseInfo(4009, "theirs", True))
BROKEN = ConnectionBroken("broke", CloseInfo(1006, "", False))
CODE = WebSocketError(code=4001, reason="mine")


def _group(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("a group", errors)


# -- the judgement ---------------------------------------------------------------------------


async def test_nothing_that_is_raised_makes_the_judgement_fail(hostile: Any) -> None:
    verdict = judge(hostile.make())
    assert (verdict.code, verdict.failed) == (hostile.code, hostile.failed)
    assert not verdict.cancelled


@pytest.mark.parametrize(
    ("error", "code", "reason"),
    [
        (None, 1000, ""),
        (CODE, 4001, "mine"),
        (ENDED, 4009, "theirs"),
        (BROKEN, 1011, ""),
        (_group(ENDED), 4009, "theirs"),
        (_group(BROKEN, ENDED), 1011, ""),
        (_group(ENDED, CODE), 4001, "mine"),
        (_group(_group(BROKEN), _group(_group(CODE), ENDED)), 4001, "mine"),
        (_group(CODE, WebSocketError(code=4002)), 4001, "mine"),
    ],
    ids=repr,
)
async def test_what_the_peer_or_the_application_chose_is_no_failure(
    error: BaseException | None, code: int, reason: str
) -> None:
    verdict = judge(error)
    assert (verdict.code, verdict.reason, verdict.failed) == (code, reason, False)


@pytest.mark.parametrize(
    "error",
    [
        ValueError(),
        WebSocketError("no code"),
        _group(ENDED, ValueError()),
        _group(CODE, _group(ValueError())),
    ],
    ids=repr,
)
async def test_any_other_error_is_a_failure(error: Exception) -> None:
    verdict = judge(error)
    assert (verdict.code, verdict.reason, verdict.failed) == (1011, "", True)


async def test_a_cancellation_is_judged_with_what_came_with_it() -> None:
    cancelled = anyio.get_cancelled_exc_class()
    with anyio.CancelScope() as scope:
        scope.cancel()
        try:
            await anyio.sleep(1)
        except cancelled as error:
            alone, with_end = judge(error), judge(_group(error, ENDED))
            with_code, with_failure = judge(_group(CODE, error)), judge(_group(error, ValueError()))
            raise
    for verdict in (alone, with_end, with_code, with_failure):
        assert verdict.cancelled
        assert verdict.patience == 0.25
    assert (alone.code, with_end.code, with_code.code, with_failure.code) == (1001, 1001, 4001, 1011)
    assert [alone.failed, with_end.failed, with_code.failed, with_failure.failed] == [False] * 3 + [True]


@pytest.mark.parametrize("kind", [GeneratorExit, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("wrap", [lambda error: error, lambda error: _group(ValueError(), _group(error))])
async def test_what_ends_the_program_lets_nobody_wait(
    kind: type[BaseException], wrap: Callable[[BaseException], BaseException]
) -> None:
    verdict = judge(wrap(kind()))
    assert (verdict.code, verdict.patience) == (1001, 0)
    assert verdict.failed == (kind is GeneratorExit)


def test_it_can_be_judged_where_no_event_loop_runs() -> None:
    assert judge(GeneratorExit()).code == 1001
    assert judge(KeyboardInterrupt()).code == 1001
    assert judge(ValueError()).code == 1011


@pytest.mark.heavy
def test_a_group_of_any_depth_is_judged() -> None:
    error: Exception = CODE
    for _ in range(100_000):
        error = ExceptionGroup("deeper", [error])
    assert judge(error).code == 4001


def test_the_end_of_the_program_is_found_in_groups() -> None:
    end = SystemExit(3)
    assert program_end(_group(ValueError(), _group(end, KeyboardInterrupt()))) is end
    assert program_end(_group(ValueError(), GeneratorExit())) is None


async def test_whether_the_scope_was_cancelled_is_told() -> None:
    assert not in_cancelled_scope()
    with anyio.CancelScope() as scope:
        assert not in_cancelled_scope()
        scope.cancel()
        assert in_cancelled_scope()
        with anyio.CancelScope(shield=True):
            await anyio.lowlevel.checkpoint()
            assert not in_cancelled_scope()


# -- leaving, in each role -------------------------------------------------------------------

Role = Callable[[anyio.abc.ByteStream, BaseException], Coroutine[Any, Any, None]]


async def _body_of_connect(stream: anyio.abc.ByteStream, error: BaseException) -> None:
    async with connect("ws://a/", transport=stream):
        raise error


async def _body_of_accept(stream: anyio.abc.ByteStream, error: BaseException) -> None:
    async with accept(stream):
        raise error


async def _block_of_ws(stream: anyio.abc.ByteStream, error: BaseException) -> None:
    connecting = connect("ws://a/", transport=stream)
    async with await connecting.__aenter__():
        raise error


@pytest.fixture(params=[_body_of_connect, _body_of_accept, _block_of_ws])
def role(request: pytest.FixtureRequest) -> Role:
    """Opens a connection over a stream, and leaves its block by an exception."""
    return request.param  # type: ignore[no-any-return]


async def _code_that_the_peer_got(role: Role, error: BaseException) -> int | None:
    """The code of the Close frame, if there is one; the exception has to arrive as itself."""
    ours, theirs = memory_pair()
    codes: list[int | None] = []

    async def peer() -> None:
        raw = await (RawPeer.as_client if role is _body_of_accept else RawPeer.as_server)(theirs)
        try:
            frame = await raw.read_frame()
            codes.append(frame.close_code)
            await raw.close(frame.close_code)
        except (anyio.EndOfStream, anyio.BrokenResourceError):
            pass

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(peer)
        try:
            await role(ours, error)
        except BaseException as raised:
            assert raised is error  # noqa: PT017 - `pytest.raises` does not take all of them
    return codes[0] if codes else None


@pytest.mark.heavy_after_first(each=("hostile",))
async def test_the_peer_gets_the_code_and_the_exception_goes_on_unchanged(role: Role, hostile: Any) -> None:
    error = hostile.make()
    expected = hostile.code if judge(error).patience else None  # a stream in memory takes nothing at once
    assert await _code_that_the_peer_got(role, error) == expected


# -- leaving without waiting, over sockets -----------------------------------------------------


async def _messages(url: str) -> AsyncIterator[str | bytes]:
    async with connect(url) as ws:
        async for message in ws:
            yield message


async def _close_a_generator(url: str) -> None:
    async with aclosing(_messages(url)) as messages:
        async for _ in messages:
            break


async def _forget_a_generator(url: str) -> None:
    messages = _messages(url)
    await anext(messages)
    del messages
    gc.collect()  # the event loop is told to close it


async def _close_a_coroutine(url: str) -> None:
    received: list[str | bytes] = []

    async def receive() -> None:
        async with connect(url) as ws:
            while True:
                received.append(await ws.receive())

    class Closed:
        def __await__(self) -> Any:
            coroutine, value = receive(), None
            while not received:
                value = yield coroutine.send(value)
            coroutine.close()

    await Closed()


async def _raise_in_the_body(url: str, kind: type[BaseException]) -> None:
    with pytest.raises(kind):
        async with connect(url):
            raise kind


@pytest.mark.parametrize(
    "leave",
    [
        _close_a_generator,
        pytest.param(
            _forget_a_generator,
            marks=pytest.mark.filterwarnings("ignore:Async generator:ResourceWarning"),  # of Trio
        ),
        _close_a_coroutine,
        pytest.param(lambda url: _raise_in_the_body(url, KeyboardInterrupt), id="keyboard-interrupt"),
        pytest.param(lambda url: _raise_in_the_body(url, SystemExit), id="system-exit"),
        pytest.param(lambda url: _raise_in_the_body(url, pytest.fail.Exception), id="base-exception"),
    ],
)
async def test_a_body_that_must_not_wait_says_1001(leave: Callable[[str], Coroutine[Any, Any, None]]) -> None:
    ended = anyio.Event()
    infos: list[CloseInfo] = []

    async def handler(ws: WebSocketStream) -> None:
        await ws.send("tick")
        infos.append(await ws.wait_closed())
        ended.set()

    async with serve(handler, "127.0.0.1") as server:
        await leave(server.url)
        await ended.wait()
    assert infos == [CloseInfo(1001, "", True)]


async def test_a_body_that_must_not_wait_drops_a_connection_whose_output_is_blocked() -> None:
    async def handler(ws: WebSocketStream) -> None:
        await anyio.sleep_forever()

    async with serve(handler, "127.0.0.1") as server:
        with pytest.raises(SystemExit):
            async with connect(server.url) as ws:
                with anyio.move_on_after(0.1):
                    await ws.send(bytes(1 << 25))
                raise SystemExit
        assert ws.close_info == CloseInfo(1006, "", False)


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # Trio's scopes shield from everything
@pytest.mark.parametrize("cause", [None, ValueError, asyncio.CancelledError, SystemExit])
async def test_cancelling_a_task_again_and_again_does_not_keep_its_connection(
    anyio_backend: str, cause: type[BaseException] | None
) -> None:
    opened: list[WebSocketStream] = []

    async def body() -> None:
        async with connect("ws://a/", transport=ours, close_timeout=None) as ws:
            opened.append(ws)
            if cause is not None:
                raise cause

    ours, theirs = memory_pair()
    task = asyncio.create_task(body())
    await RawPeer.as_server(theirs)  # which then is mute
    while not opened:
        await asyncio.sleep(0)
    while not task.done():
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.sleep(0.1)
    assert opened[0].state == "closed"
    with pytest.raises(asyncio.CancelledError if cause is not ValueError else BaseException):
        task.result()


@pytest.mark.parametrize("error", [None, ValueError(), CODE])
async def test_when_leaving_is_cancelled_the_connection_has_ended_all_the_same(
    error: Exception | None,
) -> None:
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(RawPeer.as_server, theirs)  # which then is mute
        with anyio.move_on_after(1) as scope:
            async with connect("ws://a/", transport=ours, close_timeout=None) as ws:
                if error is not None:
                    raise error
        assert scope.cancelled_caught
        assert ws.state == "closed"
