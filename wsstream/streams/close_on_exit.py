"""How a connection ends when the code that used it is left, and what an exception that leaves it means.

One judgement serves a server's handler, ``process_request``, and the blocks of ``connect``, ``accept`` and
``async with ws``. The exception comes from the application and may be anything: a group, an instance whose
``__init__`` was never called, one whose attributes raise. So nothing of it is trusted, and judging never
raises.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import inf
from typing import NamedTuple, TypeGuard, TypeVar

import anyio

from wsstream.close_codes import CloseCode
from wsstream.driver.ending import Ending
from wsstream.errors import ConnectionClosed, WebSocketError, check_close_arguments

__all__ = ["Verdict", "in_cancelled_scope", "is_closing", "judge", "leave", "program_end"]

_E = TypeVar("_E", bound=BaseException)

_CANCELLED_CLOSE_TIMEOUT = 0.25  # seconds for the closing handshake of a block that was cancelled


class Verdict(NamedTuple):
    """What becomes of a connection whose block was left."""

    code: int
    """The code of the Close frame."""
    reason: str = ""
    decided_by: BaseException | None = None
    """The exception that this code comes from: in a group, one of those that it holds."""
    failed: bool = False
    """It was left by an error that nobody expected: worth a traceback in the log."""
    cancelled: bool = False
    """It was left by a cancellation, perhaps among other exceptions."""
    patience: float = inf
    """The most seconds for the closing handshake, whatever ``close_timeout`` is. 0: do not await."""


_NORMAL = Verdict(CloseCode.NORMAL)


def judge(error: BaseException | None) -> Verdict:
    """Judge the exception that left a block, ``None`` if the block ended normally.

    A group is judged by the exceptions in it, and in the groups in it:

    - any that is neither an ``Exception`` nor a cancellation (``GeneratorExit``, ``KeyboardInterrupt``,
      ``SystemExit``): 1001, if that needs no waiting;
    - any error that is not listed below: 1011, and it `failed`;
    - a :class:`WebSocketError` that has a code to send: the first one's code and reason;
    - a cancellation: 1001, at once;
    - only :class:`ConnectionClosed`: the code of the first, if that may be sent. Mostly it is this connection
      that has ended, and the code means nothing; it may also be another one's.
    """
    if error is None:
        return _NORMAL
    leaves = list(_leaves(error))
    patience = min(map(_patience, leaves))
    cancelled = 0 < patience < inf
    if not patience:
        return Verdict(CloseCode.GOING_AWAY, "", error, failed=program_end(error) is None, patience=0)
    chosen = [leaf for leaf in leaves if _is_a(leaf, Exception) and not _is_a(leaf, ConnectionClosed)]
    if not all(map(_words, chosen)):
        return Verdict(
            CloseCode.INTERNAL_ERROR, "", error, failed=True, cancelled=cancelled, patience=patience
        )
    if cancelled and not chosen:
        return Verdict(CloseCode.GOING_AWAY, "", error, cancelled=True, patience=patience)
    first = (chosen or leaves)[0]
    return Verdict(
        *_words(first) or (CloseCode.INTERNAL_ERROR, ""), first, cancelled=cancelled, patience=patience
    )


def _leaves(error: BaseException) -> Iterator[BaseException]:
    """The exceptions in a group, and in the groups in it; of another exception, itself."""
    waiting = [error]
    while waiting:
        error = waiting.pop()
        if _is_a(error, BaseExceptionGroup):
            # Not `error.exceptions`, which a class can override.
            waiting.extend(reversed(BaseExceptionGroup.exceptions.__get__(error)))
        else:
            yield error


def _is_a(error: BaseException, kind: type[_E]) -> TypeGuard[_E]:
    """As ``isinstance``, which asks the exception itself, too."""
    return issubclass(type(error), kind)


def _patience(leaf: BaseException) -> float:
    if _is_a(leaf, Exception):
        return inf
    # First those that may come where no event loop runs, so that anyio cannot be asked.
    if is_closing(leaf) or program_end(leaf) is not None:
        return 0
    return _CANCELLED_CLOSE_TIMEOUT if _is_a(leaf, anyio.get_cancelled_exc_class()) else 0


def _words(error: BaseException) -> tuple[int, str] | None:
    """Code and reason of a :class:`WebSocketError`, if it has a code and a Close frame can have both."""
    try:
        if not _is_a(error, WebSocketError) or error.code is None:
            return None
        check_close_arguments(error.code, error.reason)
        return error.code, error.reason
    except Exception:
        return None


def is_closing(error: BaseException | None) -> bool:
    """Whether the running generator or coroutine is being closed: then it must not await any more."""
    return error is not None and _is_a(error, GeneratorExit)


def program_end(*errors: BaseException) -> KeyboardInterrupt | SystemExit | None:
    """The first of these exceptions, or of those in groups, that is to end the program; ``None``: none is."""
    for error in errors:
        for leaf in _leaves(error):
            if _is_a(leaf, KeyboardInterrupt) or _is_a(leaf, SystemExit):
                return leaf
    return None


def in_cancelled_scope() -> bool:
    """Whether a cancel scope around the running task's code was cancelled.

    On asyncio, a cancellation can be raised where none was: by awaiting a task that somebody else
    cancelled, or by ``asyncio.current_task().cancel()``. On Trio it cannot: there are no tasks to await, and
    only Trio makes a ``Cancelled``, for code inside the scope that was cancelled. (It can be kept, though,
    and raised again elsewhere; the answer is right for that, too.)
    """
    return anyio.current_effective_deadline() == -inf


async def leave(ending: Ending, error: BaseException | None) -> None:
    """End the connection of a block that was left by `error`, as :func:`judge` says, and wait for its end.

    After a cancellation, and where nothing may be awaited, the transport is dropped right after the Close
    frame.
    If this call is cancelled, the connection is dropped, and nothing is left of it then, too.
    """
    may_await = not is_closing(error)
    try:
        await _close(ending, judge(error))
    except GeneratorExit:
        may_await = False
        raise
    finally:
        if may_await and not ending.is_done:
            with anyio.CancelScope(shield=True):
                await ending.wait_finished()  # the driver bounds this itself


async def _close(ending: Ending, verdict: Verdict) -> None:
    if verdict.patience == inf:
        ending.close(verdict.code, verdict.reason)
        if not ending.is_done:
            await ending.wait_finished()
    elif verdict.patience:
        with anyio.move_on_after(verdict.patience, shield=True):
            ending.close(verdict.code, verdict.reason)
            await ending.wait_finished()
        ending.abort()
    else:
        # Hands the Close frame to the kernel, if that takes it now.
        ending.close(verdict.code, verdict.reason)
        ending.abort()
