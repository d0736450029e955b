"""For the tests of the storage of files: fences, and system calls that are noted, fail or crash."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from wsstream.files.errors import TransferError
from wsstream.files.storage import commit, copying, expiry, folder, part_file, partial, record

__all__ = ["Crash", "FakeFence", "Replaced", "SystemCalls", "ignore_case", "refused"]

_MODULES = (commit, copying, expiry, folder, part_file, partial, record)
_CHANGING = ("open", "mkdir", "write", "pwritev", "ftruncate", "copy_file_range", "fdatasync", "fsync")
_NAMING = ("fchmod", "utime", "link", "rename", "unlink")


@contextmanager
def refused(*errors: str) -> Iterator[None]:
    """Fail unless the block raises a TransferError of one of these names, whose reason shows no path."""
    with pytest.raises(TransferError) as caught:
        yield
    assert caught.value.error in errors, caught.value
    assert "pytest" not in caught.value.reason, "the peer may see the reason: it names no path"


def ignore_case(patch: pytest.MonkeyPatch) -> None:
    """As on macOS: looking for a name finds it in any case."""
    status = folder.Folder.status

    def look(self: folder.Folder, part: str) -> os.stat_result | None:
        names = (entry.name for entry in self.scan() if entry.name.lower() == part.lower())
        return status(self, next(names, part))

    patch.setattr(folder.Folder, "status", look)


class FakeFence:
    """A fence that the test supersedes."""

    def __init__(self, number: int, barrier: int = 0) -> None:
        self.number = number
        self.barrier = barrier
        self.superseded = False
        self.seized = False
        self.retired = False

    def check(self) -> None:
        if self.superseded:
            raise TransferError("superseded")

    def check_held(self) -> None:
        if self.seized:
            raise TransferError("superseded")

    def retire(self) -> None:
        self.retired = True


class Crash(BaseException):
    """The process ends here."""


class Replaced:
    """A module, some of whose functions are others."""

    def __init__(self, module: Any, **others: Callable[..., Any]) -> None:
        self._module = module
        self.__dict__.update(others)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class SystemCalls:
    """The system calls of the storage that change something, noted in `names`.

    At the call with the number `at` the process crashes, before or after the call is done. From then on every
    call raises :class:`Crash`, so that nothing is tidied up. Or that call alone fails with ``EIO``.
    """

    def __init__(self, patch: pytest.MonkeyPatch, at: int | None = None, how: str = "before") -> None:
        self.names: list[str] = []
        self._at = at
        self._how = how
        self._crashed = False
        calls = {name: self._noting(name) for name in _CHANGING + _NAMING if hasattr(os, name)}
        for module in _MODULES:
            if hasattr(module, "os"):
                patch.setattr(module, "os", Replaced(os, **calls))

    def _noting(self, name: str) -> Callable[..., Any]:
        function = getattr(os, name)

        def call(*args: Any, **options: Any) -> Any:
            if self._crashed:
                raise Crash
            if name == "open" and not args[1] & os.O_CREAT:
                return function(*args, **options)
            self.names.append(name)
            if len(self.names) - 1 != self._at:
                return function(*args, **options)
            if self._how == "fails":
                raise OSError(errno.EIO, "injected")
            self._crashed = True
            if self._how == "after":
                function(*args, **options)
            raise Crash

        return call
