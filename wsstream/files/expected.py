"""The digest of a file that is received, and whether it is the file that somebody expects."""

from __future__ import annotations

import hashlib

from wsstream.files.errors import TransferError
from wsstream.files.protocol.digests import new_digest

__all__ = ["FileDigest", "check_expected"]

_DIGITS = frozenset("0123456789abcdef")
_LENGTH = 64


def check_expected(expect: str | None) -> None:
    """Check the argument `expect`.

    Raises:
        TypeError, ValueError: it is not ``None``, and no digest in lower case.
    """
    if expect is None:
        return
    if not isinstance(expect, str):
        raise TypeError(f"expect must be a str or None, got {type(expect).__name__}")
    if len(expect) != _LENGTH or not _DIGITS.issuperset(expect):
        raise ValueError(f"expect must be {_LENGTH} hexadecimal digits in lower case")


class FileDigest:
    """The digest of `kind` that the protocol needs. If a file is expected, its SHA-256, too.

    Args:
        kind: that of the transfer.
        expect: the SHA-256 of the expected file, or its digest of `kind`. ``None``: any file will do.
    """

    def __init__(self, kind: str, expect: str | None) -> None:
        self._digest = new_digest(kind)
        self._expect = expect
        self._sha256 = hashlib.sha256() if expect is not None and kind != "sha256" else None

    def update(self, data: bytes | memoryview, /) -> None:
        """Take the next bytes."""
        self._digest.update(data)
        if self._sha256 is not None:
            self._sha256.update(data)

    def hexdigest(self) -> str:
        """The digest of `kind`."""
        return self._digest.hexdigest()

    def check(self) -> None:
        """Check that all bytes so far are the expected file.

        Raises:
            TransferError: ``digest-mismatch``: they are not.
        """
        found = self.hexdigest()
        sha256 = found if self._sha256 is None else self._sha256.hexdigest()
        if self._expect is not None and self._expect not in (found, sha256):
            raise TransferError(
                "digest-mismatch", f"not the expected file: its sha256 is {sha256}", retry="never"
            )
