"""Lockers: one writer for each transfer, also among several processes; the newest one wins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol, TypeVar, runtime_checkable

from anyio import CancelScope, create_task_group, current_time, sleep, to_thread

from wsstream.arguments import check_number
from wsstream.files.errors import TransferError
from wsstream.files.storage.fence import Fence
from wsstream.files.storage.lock_file import LockFile
from wsstream.files.storage.names import check_token
from wsstream.files.storage.os_errors import storage_call
from wsstream.files.storage.safe_root import SafeRoot

__all__ = ["FileLocker", "Locker"]

_T = TypeVar("_T")

_POLL = 0.05  # seconds between two looks at whether the older holder has let go
_WATCH = 0.5  # seconds between two looks at whether a newer one asks


@runtime_checkable
class Locker(Protocol):
    """Says who may write the partial file of a token: the newest holder in all processes."""

    def hold(self, token: str) -> AbstractAsyncContextManager[Fence]:
        """Hold the right to write in the block; yield the fence.

        Entering asks the older holder to let go, and waits until it has. A holder whose process died has let
        go. One that does not answer is left behind after a bounded wait: see `Fence.barrier`.

        The block is cancelled when a newer holder asks, and the call then raises TransferError
        ``superseded``. An exception of the block itself leaves it as it is. Cancelled while it waits, the
        call holds nothing, but the older holder may have stopped.

        The block must not end while a worker thread still uses the fence: `Partial.close`, called in it
        and shielded from cancellation, waits for that.
        """
        ...


class FileLocker:
    """A :class:`Locker` for the processes of one machine that serve the same folder.

    It locks the file ``.wsstream-<token>.lock`` in the root (``flock``). A holder learns within half a second
    that a newer one asks, and at its next write.

    Args:
        root: the folder; it must stay open.
        patience: how many seconds a newer holder waits for the older one to let go. The older one may be in
            the middle of a write to a slow disk, or stopped. After that the newer one copies what is durable,
            and the older one can only write to the former file.
    """

    def __init__(self, root: SafeRoot, *, patience: float = 5.0) -> None:
        check_number("patience", patience, finite=True)
        self._root = root
        self._patience = patience

    @asynccontextmanager
    async def hold(self, token: str) -> AsyncIterator[Fence]:
        """See :meth:`Locker.hold`. Raises TransferError ``protocol`` for what is not a token."""
        lock = LockFile(self._root.folder, check_token(token))
        lost: TransferError | None = None
        failure: Exception | None = None
        finished = False

        async def watch(scope: CancelScope) -> None:
            nonlocal lost
            while lost is None:
                await sleep(_WATCH)
                try:
                    await _in_thread(lock.check)
                except TransferError as error:
                    lost = error
            scope.cancel()

        try:
            await self._acquire(lock)
            async with create_task_group() as group:
                group.start_soon(watch, group.cancel_scope)
                try:
                    yield lock
                    finished = True
                except Exception as error:  # the task group would wrap it
                    failure = error
                group.cancel_scope.cancel()
        finally:
            with CancelScope(shield=True):
                await to_thread.run_sync(lock.release)
        if failure is not None:
            raise failure
        if lost is not None and not finished:
            raise lost

    async def _acquire(self, lock: LockFile) -> None:
        deadline = current_time() + self._patience
        await _in_thread(lock.claim)
        while not await _in_thread(lock.take):
            if current_time() >= deadline:
                await _in_thread(lock.seize)
                return
            await sleep(_POLL)


async def _in_thread(call: Callable[[], _T]) -> _T:
    return await to_thread.run_sync(storage_call(call))
