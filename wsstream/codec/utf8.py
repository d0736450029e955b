"""Incremental validation of UTF-8 (section 8.1)."""

from __future__ import annotations

import codecs

__all__ = ["UTF8Validator", "split_point"]

_IncrementalDecoder = codecs.getincrementaldecoder("utf-8")


class UTF8Validator:
    """Checks UTF-8 that arrives in pieces, and fails at the first byte that proves it wrong.

    Overlong forms, surrogates and values above U+10FFFF are refused (RFC 3629), also when only the
    first bytes of the code point are there.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _IncrementalDecoder()

    def feed(self, piece: bytes | memoryview, *, last: bool) -> bool:
        """Whether all up to the end of `piece` is valid; with `last`, also that no code point is cut off.

        A piece that is refused changes nothing.
        """
        before = self._decoder.getstate()
        try:
            self._decoder.decode(bytes(piece), last)
        except UnicodeDecodeError:
            return False
        waiting = self._decoder.getstate()[0]
        if waiting[:1] == b"\xed" and waiting[1:] >= b"\xa0":  # Python waits for a surrogate's third byte
            self._decoder.setstate(before)
            return False
        return True


def split_point(text: memoryview, limit: int) -> int:
    """The largest length up to `limit` bytes at which `text`, valid UTF-8, may be cut between code points.

    0 if not even the first code point fits.
    """
    if limit >= len(text):
        return len(text)
    for cut in range(limit, max(limit - 4, 0), -1):
        if text[cut] & 0xC0 != 0x80:
            return cut
    return 0
