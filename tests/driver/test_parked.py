"""What `anext()` returns while it waits for a message: on asyncio the compiled one is a future itself."""

from __future__ import annotations

import asyncio  # noqa: TID251 - what its tasks and timeouts do with it
import contextvars
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest
from kit.codec import VERSIONS, Version

from wsstream.codec.unread import CLOSED_FOR_RECEIVER

RECEIVED: contextvars.ContextVar[str] = contextvars.ContextVar("RECEIVED", default="")


class Source:
    """A queue that is filled by hand, and an iterator over it."""

    def __init__(self, version: Version, loop: object = None) -> None:
        self.queue = version.UnreadQueue()
        batch, view = version.FrameBatch(), memoryview(bytearray(10))
        self.step: Any = version.ReadStep(self.queue, batch, False, False, lambda buffer, size: None, view)
        self.step.open = self.step.drained = True
        self.waited = 0
        self.future: asyncio.Future[None] | None = None
        self.messages = version.MessageIterator(self.queue, self.wait, self.step, self.park, loop)

    async def wait(self) -> str:
        self.waited += 1
        raise StopAsyncIteration

    async def park(self) -> None:
        self.future = asyncio.get_running_loop().create_future()
        await self.future

    def put(self, *messages: str, at_once: bool = False) -> None:
        self.queue.extend([*messages], sum(64 + len(message) for message in messages))
        self.wake(at_once)

    def wake(self, at_once: bool = False) -> None:
        if not self.queue.wake(at_once) and self.future is not None and not self.future.done():
            self.future.set_result(None)


@pytest.fixture(params=VERSIONS, ids=str)
def version(request: pytest.FixtureRequest) -> Version:
    return request.param


@pytest.fixture(params=["parked by a function", "parked by itself"])
def source(request: pytest.FixtureRequest, version: Version, loop: asyncio.AbstractEventLoop) -> Source:
    return Source(version, None if request.param == "parked by a function" else loop)


@pytest.fixture
def itself(version: Version, loop: asyncio.AbstractEventLoop) -> Source:
    if str(version) == "python":
        pytest.skip("only the compiled iterator parks by itself")
    return Source(version, loop)


@pytest.fixture
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


def run(loop: asyncio.AbstractEventLoop, coroutine: Coroutine[Any, Any, Any]) -> Any:
    return loop.run_until_complete(asyncio.wait_for(coroutine, 5))


def test_a_task_that_waits_gets_the_message(source: Source, loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(anext(source.messages))
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert source.queue.closed_for == CLOSED_FOR_RECEIVER
        source.put("a", "b")
        assert await task == "a"
        assert source.queue.closed_for == 0
        assert not source.queue.parked
        assert await anext(source.messages) == "b"
        assert source.waited == 0

    run(loop, main())


def test_a_cancelled_task_takes_nothing(source: Source, loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        for put_first in (False, True):
            task = asyncio.ensure_future(anext(source.messages))
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            if put_first:
                source.put("a")  # it is woken, and cancelled before it runs
            task.cancel("because")
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert caught.value.args == ("because",)
            assert source.queue.closed_for == 0
            assert not source.queue.parked
        assert await anext(source.messages) == "a"

    run(loop, main())


def test_timeouts_end_the_wait_and_nothing_else(source: Source, loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(anext(source.messages), 0.001)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.001):
                    await anext(source.messages)
        source.put("a")
        assert await asyncio.wait_for(anext(source.messages), 1) == "a"

    run(loop, main())


def test_woken_without_a_message_it_asks_its_owner(source: Source, loop: asyncio.AbstractEventLoop) -> None:
    async def main() -> None:
        loop.call_later(0.001, source.wake)
        with pytest.raises(StopAsyncIteration):
            await anext(source.messages)
        assert source.waited == 1
        assert source.queue.closed_for == 0

    run(loop, main())


@pytest.mark.parametrize("change", ["open", "drained"])
def test_it_parks_only_if_there_is_nothing_else_to_do(
    source: Source, loop: asyncio.AbstractEventLoop, change: str
) -> None:
    setattr(source.step, change, False)

    async def main() -> None:
        with pytest.raises(StopAsyncIteration):
            await anext(source.messages)

    run(loop, main())
    assert source.waited == 1


def test_it_parks_though_there_is_more_if_the_event_loop_will_call(
    itself: Source, loop: asyncio.AbstractEventLoop
) -> None:
    itself.step.drained, itself.step.watched = False, True
    waiting = anext(itself.messages)
    assert waiting.send(None) is waiting
    waiting.close()


def test_a_task_that_is_thrown_away_leaves_the_queue(itself: Source) -> None:
    waiting = anext(itself.messages)
    assert waiting.send(None) is waiting
    assert itself.queue.parked
    del waiting
    assert not itself.queue.parked
    assert itself.queue.closed_for == 0
    waiting = anext(itself.messages)
    waiting.send(None)
    waiting.close()
    assert not itself.queue.parked
    with pytest.raises(RuntimeError, match="already awaited"):
        waiting.send(None)


def test_at_once_the_task_runs_before_wake_returns_in_its_own_context(
    itself: Source, loop: asyncio.AbstractEventLoop
) -> None:
    seen: list[str] = []

    async def receive() -> None:
        RECEIVED.set("of the task")
        async for message in itself.messages:
            assert asyncio.current_task() is task
            seen.append(f"{message} {RECEIVED.get()}")

    def arrive(message: str) -> None:
        itself.put(message, at_once=True)
        seen.append(f"after {message} {RECEIVED.get()}")

    async def main() -> None:
        nonlocal task
        task = asyncio.ensure_future(receive())
        await asyncio.sleep(0.001)
        loop.call_soon(arrive, "a")
        loop.call_soon(arrive, "b")
        await asyncio.sleep(0.001)
        itself.put("c")  # this task runs: the other one has its turn later
        seen.append("c was put")
        await asyncio.sleep(0.001)
        task.cancel()

    task: asyncio.Task[None]
    run(loop, main())
    assert seen == ["a of the task", "after a ", "b of the task", "after b ", "c was put", "c of the task"]


def test_an_interrupt_in_the_task_leaves_the_callback(
    itself: Source, loop: asyncio.AbstractEventLoop
) -> None:
    async def main() -> None:
        await anext(itself.messages)
        raise KeyboardInterrupt

    loop.call_later(0.001, lambda: itself.put("a", at_once=True))
    with pytest.raises(KeyboardInterrupt):
        loop.run_until_complete(main())


def test_asyncio_takes_it_for_a_coroutine_and_never_for_a_future(itself: Source) -> None:
    waiting = anext(itself.messages)
    assert asyncio.iscoroutine(waiting)
    assert not asyncio.isfuture(waiting)
    assert waiting.done()
    assert waiting.cancel() is False
    waiting.close()


@pytest.mark.skipif(sys.version_info < (3, 12), reason="eager tasks are new in 3.12")
def test_an_eager_task_waits_as_others_do(itself: Source, loop: asyncio.AbstractEventLoop) -> None:
    loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore[attr-defined]

    async def main() -> None:
        async def receive() -> str:
            return await anext(itself.messages)

        task = asyncio.ensure_future(receive())
        assert itself.queue.parked
        loop.call_soon(lambda: itself.put("a", at_once=True))
        assert await task == "a"

    run(loop, main())
