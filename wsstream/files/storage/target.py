"""The name that a partial file gets in the end, and what to do if a file has it."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, get_args

from wsstream.files.errors import TransferError
from wsstream.files.storage.folder import Folder, same_file
from wsstream.files.storage.names import numbered

__all__ = ["OnExist", "Target", "check_on_exist", "names_for"]

OnExist = Literal["fail", "skip", "overwrite", "rename"]
"""If there is a file of that name. ``"fail"`` and ``"skip"``: the error is ``exists``, and it is for the
caller to tell a failure from a file that it skips. ``"rename"``: the new one gets a number, as in ``a
(1).txt``."""


def check_on_exist(value: object) -> None:
    """Raise ValueError, unless `value` is an `OnExist`."""
    if value not in (choices := get_args(OnExist)):
        raise ValueError(f"on_exist must be one of {', '.join(choices)}, got {value!r}")


def names_for(name: str, on_exist: OnExist) -> Iterator[str]:
    """The names under which a file may be offered, in the order in which they are tried."""
    folder, slash, part = name.rpartition("/")
    for candidate in Target(part, on_exist).candidates():
        yield f"{folder}{slash}{candidate}"


@dataclass(frozen=True, slots=True)
class Target:
    """A name in a folder: `name` is the last part of a file's name."""

    name: str
    on_exist: OnExist = "fail"

    def candidates(self) -> Iterator[str]:
        """The names that the file may get, in the order in which they are tried."""
        yield self.name
        if self.on_exist == "rename":
            yield from numbered(self.name)

    def find(self, folder: Folder, file: os.stat_result) -> str | None:
        """Return the name that `file` has already, or ``None``. It is never after a free one."""
        for name in self.candidates():
            status = folder.status(name)
            if same_file(status, file):
                return name
            if status is None:
                return None
        return None

    def check(self, folder: Folder, own: os.stat_result | None) -> None:
        """Check that there is no file that must not be replaced. `own` is this transfer's, if it has one.

        Raises:
            TransferError: ``exists``.
        """
        if self.on_exist == "rename":
            return
        status = folder.status(self.name)
        if status is None or (own is not None and same_file(status, own)):
            return
        if self.on_exist != "overwrite":
            raise TransferError("exists", "there is a file of that name")
        if not stat.S_ISREG(status.st_mode):
            raise TransferError("exists", "what has that name is not a regular file")
        if folder.has_in_other_case(self.name):
            raise TransferError("exists", "there is a file whose name differs by the case of letters only")
