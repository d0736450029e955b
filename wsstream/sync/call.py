"""One call of a thread into the event loop: its outcome, its timeout, and Ctrl-C."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from queue import Empty, SimpleQueue
from time import monotonic
from typing import Any, Generic, TypeAlias, TypeVar

from anyio import CancelScope

from wsstream.arguments import check_number

__all__ = ["Call", "Cancelled", "check_timeout"]

T = TypeVar("T")
Post: TypeAlias = Callable[[Callable[[], object]], object]
Spawn: TypeAlias = Callable[[Callable[[], Coroutine[Any, Any, None]], Callable[[], None]], object]


class Cancelled(Exception):
    """A call was cancelled, by somebody other than the thread that waits for it."""


def check_timeout(timeout: object) -> None:
    """Raise TypeError or ValueError, unless `timeout` is seconds or ``None``."""
    check_number("timeout", timeout, optional=True)


class Call(Generic[T]):
    """A coroutine that the event loop runs while a thread waits for its outcome.

    A wait that times out or is interrupted cancels the coroutine and waits for its end, so what the
    coroutine's contract says about cancellation holds for the thread. A coroutine that succeeded all the same
    has returned its value: a timeout loses nothing.

    Args:
        function: returns the coroutine.
        attempt: called first, in the event loop; if it returns true, that was all, and no task is started.
    """

    __slots__ = (
        "_attempt",
        "_cancelled",
        "_ended",
        "_error",
        "_function",
        "_mail",
        "_scope",
        "_started",
        "_succeeded",
        "_value",
    )

    _value: T

    def __init__(
        self, function: Callable[[], Coroutine[Any, Any, T]], attempt: Callable[[], bool] | None = None
    ) -> None:
        self._function = function
        self._attempt = attempt
        self._mail: SimpleQueue[Callable[[], object] | None] = SimpleQueue()  # None: the call has ended
        self._scope: CancelScope | None = None
        self._started = self._ended = False
        self._cancelled = False
        self._succeeded = False
        self._error: BaseException | None = None

    # -- in the event loop ---------------------------------------------------------------------

    def start(self, spawn: Spawn) -> None:
        """Make the attempt or start the task."""
        self._started = True
        try:
            if self._attempt is not None and self._attempt():
                self._succeeded = True
                self.end()
                return
        except Exception as error:
            self._error = error
            self.end()
            return
        spawn(self._run, self.end)

    async def _run(self) -> None:
        try:
            with CancelScope() as self._scope:
                if self._cancelled:
                    self._scope.cancel()
                self._value = await self._function()
                self._succeeded = True
        except (Exception, KeyboardInterrupt, SystemExit) as error:  # the event loop serves others, too
            self._error = error
        finally:
            self._scope = None

    def end(self) -> None:
        """Let the thread see the outcome."""
        self._ended = True  # first: Ctrl-C may make the thread forget that it has read the mail
        self._mail.put(None)

    def tell(self, note: Callable[[], object]) -> None:
        """Have the waiting thread call `note`; what that raises cancels the call."""
        self._mail.put(note)

    def cancel(self) -> None:
        """Cancel the coroutine; unless it succeeds all the same, the thread's wait raises `Cancelled`."""
        self._cancelled = True
        if self._scope is not None:
            self._scope.cancel()
        elif not self._started:
            self.end()

    # -- in the thread -------------------------------------------------------------------------

    def wait(self, spawn: Spawn, post: Post, timeout: float | None, begun: float | None = None) -> T:
        """Start it in the event loop, and wait for the outcome.

        `post` has the event loop call a function, `spawn` starts a task there. The timeout began at `begun`,
        or else now.

        Raises:
            TimeoutError: there was none within `timeout` seconds; the coroutine was cancelled.
            RuntimeError: the event loop ended first.
        """
        try:
            begun = monotonic() if begun is None else begun
            post(lambda: self.start(spawn))
            self._read_mail(None if timeout is None else begun + timeout)
        except Empty:
            self._give_up(post)
            if not self._succeeded and self._error is None:
                raise TimeoutError(f"it took more than {timeout:g} s") from None
        except BaseException:  # Ctrl-C, or what a note raised
            self._give_up(post)
            raise
        if (error := self._error) is not None:
            self._error = None  # its traceback refers to this frame
            try:
                raise error
            finally:
                del error
        if self._cancelled and not self._succeeded:
            raise Cancelled
        if not self._succeeded:
            raise RuntimeError("the event loop has ended, as the program ends")
        return getattr(self, "_value", None)  # type: ignore[return-value]

    def _read_mail(self, deadline: float | None) -> None:
        while True:
            left = None if deadline is None else max(0.0, deadline - monotonic())
            note = self._mail.get(timeout=left)
            if note is None:
                return
            note()

    def _give_up(self, post: Post) -> None:
        try:
            post(self.cancel)
        except RuntimeError:
            return  # the event loop has ended, and so has the call
        while not self._ended:
            self._mail.get()
