"""What can only be entered with ``async with``, and says so to those who use it otherwise."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import NoReturn, TypeVar

__all__ = ["AsyncBlock"]

_T = TypeVar("_T", covariant=True)


class AsyncBlock(AbstractAsyncContextManager[_T]):
    """An asynchronous context manager; `usage` is the line that its user should have written."""

    usage: str

    def _misused(self) -> NoReturn:
        raise TypeError(f"use it as a block: {self.usage}")

    def __await__(self) -> NoReturn:
        self._misused()

    def __enter__(self) -> NoReturn:
        self._misused()

    def __exit__(self, *exc: object) -> NoReturn:
        self._misused()

    def __aiter__(self) -> NoReturn:
        self._misused()
