"""Objects that are made for one ``async with``, and say so to whoever tries something else."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import ClassVar, NoReturn, TypeVar

__all__ = ["AsyncBlock"]

T_co = TypeVar("T_co", covariant=True)


class AsyncBlock(AbstractAsyncContextManager[T_co]):
    """The base of what `serve`, `accept` and the `message` of a readable or a writable return.

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

    def __enter__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')

    def __exit__(self, *exc_info: object) -> None: ...

    def __await__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')

    def __aiter__(self) -> NoReturn:
        raise TypeError(f'use "async with {self.use}"')
