"""Objects for one ``with`` statement, whose errors name it when another one is used."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import ClassVar, NoReturn, TypeVar

__all__ = ["Block"]

T_co = TypeVar("T_co", covariant=True)


class Block(AbstractContextManager[T_co]):
    """For one ``with``: the base of what `connect`, `serve` and `message` return here.

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

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f'use "with {self.use}", or connect and serve of wsstream in async code')

    async def __aexit__(self, *exc_info: object) -> None: ...

    def __iter__(self) -> NoReturn:
        raise TypeError(f'use "with {self.use}"')
