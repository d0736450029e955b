"""What to write instead, said by objects that are made for one kind of statement."""

from __future__ import annotations

from typing import ClassVar, NoReturn

__all__ = ["ForAsyncFor", "ForAsyncWith"]


class _Usage:
    _usage: ClassVar[str]  # the statement that the object is made for

    def _refuse(self, *_: object) -> NoReturn:
        raise TypeError(f'use "{self._usage}"')


class ForAsyncWith(_Usage):
    """A context manager for ``async with``: any other statement gets a TypeError that says so."""

    __await__ = __enter__ = __exit__ = __iter__ = __aiter__ = _Usage._refuse


class ForAsyncFor(_Usage):
    """An iterator for ``async for``: any other statement gets a TypeError that says so."""

    __await__ = __enter__ = __exit__ = __iter__ = __aenter__ = __aexit__ = _Usage._refuse
