"""What an error of the operating system means for a transfer."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec, TypeVar

from wsstream.files.errors import TransferError

__all__ = ["storage_call", "transfer_error"]

_P = ParamSpec("_P")
_T = TypeVar("_T")

_ERRORS = {
    errno.ENOSPC: "no-space",
    errno.EDQUOT: "no-space",
    errno.EFBIG: "too-large",
    errno.EACCES: "denied",
    errno.EPERM: "denied",
    errno.EROFS: "denied",
    errno.ELOOP: "denied",  # a symbolic link, of which none is followed
    errno.ENOTDIR: "denied",  # a file, or a symbolic link, where a folder should be
    errno.ENXIO: "denied",  # a socket
    errno.ENOENT: "not-found",
    errno.EEXIST: "exists",
    errno.EISDIR: "exists",
    errno.ENAMETOOLONG: "invalid-name",
    errno.EILSEQ: "invalid-name",  # this file system does not take such names
    errno.EMFILE: "busy",
    errno.ENFILE: "busy",
}


def transfer_error(error: OSError) -> TransferError:
    """The error to raise in place of `error`: ``io`` for what has no name of its own.

    The reason is the system's. It names no path: the peer may see it.
    """
    return TransferError(_ERRORS.get(error.errno or 0, "io"), os.strerror(error.errno or errno.EIO))


def storage_call(function: Callable[_P, _T]) -> Callable[_P, _T]:
    """Have `function` raise TransferError in place of OSError, which becomes its cause."""

    @wraps(function)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _T:
        try:
            return function(*args, **kwargs)
        except OSError as error:
            raise transfer_error(error) from error

    return call
