"""Tasks that run beside a block, and end with it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import anyio

__all__ = ["beside"]


@asynccontextmanager
async def beside(*tasks: Callable[[], Awaitable[object]]) -> AsyncIterator[None]:
    """Run `tasks` while the block runs, and cancel them at its end.

    What the block raises leaves it as it is, not in a group. What a task raises cancels the block and leaves
    in its place.
    """
    failures: list[Exception] = []
    async with anyio.create_task_group() as group:

        async def run(task: Callable[[], Awaitable[object]]) -> None:
            try:
                await task()
            except Exception as error:
                failures.append(error)
                group.cancel_scope.cancel()

        for task in tasks:
            group.start_soon(run, task)
        try:
            yield
        except Exception as error:
            failures.append(error)
        group.cancel_scope.cancel()
    if failures:
        raise failures[0]
