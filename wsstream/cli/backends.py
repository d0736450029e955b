"""Running a coroutine function on the chosen backend."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from importlib.util import find_spec
from typing import TypeVar

import anyio

from wsstream.cli.exits import CommandFailed, Exit

__all__ = ["describe_backend", "require", "run"]

T = TypeVar("T")


def require(package: str, *, extra: str, what: str) -> None:
    """Make sure that `package` is installed, which `what` needs.

    Raises:
        CommandFailed: it is not; the message says how to install it.
    """
    if find_spec(package) is None:
        raise CommandFailed(
            Exit.USAGE, f"{what} needs {package}, which is not installed: pip install 'wsstream[{extra}]'"
        )


def run(function: Callable[[], Awaitable[T]], backend: str) -> T:
    """Run `function` on ``"asyncio"`` (with uvloop if it is installed) or ``"trio"``; return its result."""
    options = {"use_uvloop": True} if _has_uvloop(backend) else {}
    return anyio.run(function, backend=backend, backend_options=options)


def describe_backend(backend: str) -> str:
    """Return the event loop that :func:`run` uses: ``"asyncio"``, ``"asyncio (uvloop)"`` or ``"trio"``."""
    return f"{backend} (uvloop)" if _has_uvloop(backend) else backend


def _has_uvloop(backend: str) -> bool:
    if backend != "asyncio":
        return False
    try:
        import uvloop  # noqa: F401 - is it installed?
    except ImportError:
        return False
    return True
