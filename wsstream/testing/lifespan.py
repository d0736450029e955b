"""The lifespan of an ASGI application, as a server runs it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import anyio

__all__ = ["Lifespan"]

_MODES = ("auto", "on", "off")


class Lifespan:
    """Calls an application with the scope ``lifespan``, once.

    Args:
        app: the application.
        state: what it may fill in startup; each connection gets a copy.
        mode: see `asgi_connect`.

    Attributes:
        error: what went wrong; what the application raised comes before what it only reported.
    """

    def __init__(self, app: Any, state: dict[str, Any], mode: str) -> None:
        if mode not in _MODES:
            raise ValueError(f"lifespan must be one of {', '.join(_MODES)}, got {mode!r}")
        self.error: Exception | None = None
        self._app = app
        self._state = state
        self._mode = mode
        self._asked = 0  # how many messages the application has received
        self._answer = ""  # the last one it has sent
        self._answered = anyio.Event()  # startup is over, in whatever way
        self._leaving = anyio.Event()  # shutdown is due

    @asynccontextmanager
    async def around(self) -> AsyncIterator[dict[str, Any]]:
        """Startup before the block, which gets the state; shutdown after it. Raises an error of startup."""
        if self._mode == "off":
            yield self._state
            return
        started = False
        async with anyio.create_task_group() as group:
            group.start_soon(self._run)
            await self._answered.wait()
            if started := self.error is None:
                yield self._state
            self._leaving.set()
        if not started:
            assert self.error is not None
            raise self.error

    async def _run(self) -> None:
        scope = {
            "type": "lifespan",
            "asgi": {"version": "3.0", "spec_version": "2.0"},
            "state": self._state,
        }
        try:
            await self._app(scope, self._receive, self._send)
        except Exception as error:
            if self._answer or self._mode == "on":
                self.error = error
        else:
            if self._mode == "on" and not self._answer:
                self.error = RuntimeError('the application did not answer to "lifespan.startup"')
        finally:
            self._answered.set()

    async def _receive(self) -> dict[str, Any]:
        self._asked += 1
        if self._asked == 1:
            return {"type": "lifespan.startup"}
        if self._asked > 2:
            raise RuntimeError('"lifespan.shutdown" was received already; nothing can follow it')
        await self._leaving.wait()
        return {"type": "lifespan.shutdown"}

    async def _send(self, message: dict[str, Any]) -> None:
        kind = message["type"]
        phase = "startup" if not self._answer else "shutdown" if self._leaving.is_set() else ""
        if not phase or kind not in (f"lifespan.{phase}.complete", f"lifespan.{phase}.failed"):
            raise RuntimeError(f"{kind!r} is not what a lifespan can send now")
        self._answer = kind
        if kind.endswith("failed"):
            self.error = RuntimeError(f"{kind}: {message.get('message', '')}")
        self._answered.set()
