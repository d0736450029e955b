"""Objects for one ``with`` statement, whose errors name it when another one is used."""

from __future__ import annotations

from contextlib import AbstractContextManager
from typing import NoReturn, TypeVar

from wsstream.streams.block import Once

__all__ = ["Block"]

T_co = TypeVar("T_co", covariant=True)


class Block(Once, AbstractContextManager[T_co]):
    """For one ``with``: the base of what `connect`, `serve` and `message` return here."""

    async def __aenter__(self) -> NoReturn:
        raise TypeError(f'use "with {self.use}", or connect and serve of wsstream in async code')

    async def __aexit__(self, *exc_info: object) -> None: ...

    def __iter__(self) -> NoReturn:
        raise TypeError(f'use "with {self.use}"')
