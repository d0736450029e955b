"""Objects for one kind of statement, whose errors name it when another one is used."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import ClassVar, NoReturn, TypeVar

__all__ = ["AsyncBlock", "AsyncLoop", "Once"]

T_co = TypeVar("T_co", covariant=True)


class Once:
    """What may be entered once: the base of the blocks here and in :mod:`wsstream.sync`.

    Attributes:
        use: how it is used, for messages.
    """

    use: ClassVar[str]
    _entered = False

    def enter_once(self) -> None:
        """To be called on entering.

        Raises:
            RuntimeError: it was entered before.
        """
        if self._entered:
            name = self.use.partition("(")[0]
            raise RuntimeError(f"this {name}() was entered before; call {name}() again")
        self._entered = True


class AsyncBlock(Once, AbstractAsyncContextManager[T_co]):
    """For one ``async with``: the base of what `connect`, `serve`, `accept` and `message` return."""

    def __enter__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')

    def __exit__(self, *exc_info: object) -> None: ...

    def __await__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')

    def __aiter__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')


class AsyncLoop(AsyncIterator[T_co]):
    """For an ``async for``: the base of what `reconnect` returns.

    Attributes:
        use: how it is used, for messages.
    """

    use: ClassVar[str]

    def _refuse(self, *exc_info: object) -> NoReturn:
        raise TypeError(f'use "async for {self.use}"')

    __await__ = __enter__ = __aenter__ = __iter__ = _refuse
    __exit__ = __aexit__ = _refuse  # or the statement would complain that these are missing
