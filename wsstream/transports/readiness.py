"""Whether something can be done now: one task that waits for that, and a callback for as long as it is so."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
from anyio.lowlevel import checkpoint

__all__ = ["Readiness"]


class Readiness:
    """What a selector is for a socket, for something that only says when it changes.

    Args:
        loop: asyncio's event loop, for its `call_soon`.
        is_ready: whether it can be done now.
    """

    __slots__ = ("_callback", "_due", "_event", "_is_ready", "_loop")

    def __init__(self, loop: Any, is_ready: Callable[[], bool]) -> None:
        self._loop = loop
        self._is_ready = is_ready
        self._callback: Callable[[], object] | None = None
        self._due = False  # the next turn of the event loop calls back
        self._event: anyio.Event | None = None

    def changed(self) -> None:
        """It is ready now, or never will be: wake the task, and call back."""
        if self._event is not None:
            self._event.set()
            self._event = None
        self._call_back()

    async def wait(self) -> None:
        """Return when it is ready, or after `changed`. Cancelling has no effect on anything."""
        if self._is_ready():
            await checkpoint()
        else:
            self._event = anyio.Event()
            await self._event.wait()

    def watch(self, callback: Callable[[], object]) -> None:
        """Call `callback` in each turn of the event loop in which it is ready, until `unwatch`."""
        self._callback = callback
        self._call_soon()

    def unwatch(self) -> None:
        """Call back no more."""
        self._callback = None

    def end(self) -> None:
        """It never will be: wake the task, call back no more, and refer to nobody."""
        self._callback = None
        self._is_ready = _never
        self.changed()

    def _call_back(self) -> None:
        if self._callback is not None and self._is_ready():
            self._callback()
            self._call_soon()

    def _call_soon(self) -> None:
        if self._callback is not None and self._is_ready() and not self._due:
            self._due = True
            self._loop.call_soon(self._on_turn)

    def _on_turn(self) -> None:
        self._due = False
        self._call_back()


def _never() -> bool:
    return False
