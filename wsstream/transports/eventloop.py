"""The one thing that anyio does not offer: an event loop that calls back.

A task that waits for a socket costs a switch for each read, and anyio's calls to wait cost two system calls
each. asyncio's loops keep a callback until it is removed, which is half the work for small messages.
"""

from __future__ import annotations

from typing import Any

import anyio

__all__ = ["asyncio_loop"]


def asyncio_loop() -> Any:
    """The running event loop if it is one of asyncio's, ``None`` on trio."""
    if anyio.get_cancelled_exc_class().__module__.startswith("trio"):
        return None
    from asyncio import get_running_loop  # noqa: TID251 - see the module's docstring

    return get_running_loop()
