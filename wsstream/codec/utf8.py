"""Incremental validation of UTF-8 (section 8.1)."""

from __future__ import annotations

import codecs

__all__ = ["UTF8Validator", "split_point"]

_IncrementalDecoder = codecs.getincrementaldecoder("utf-8")


class UTF8Validator:
    """Checks UTF-8 that arrives in pieces, and refuses it at the first byte that proves it wrong.

    Overlong forms, surrogates and values above U+10FFFF are not UTF-8 (RFC 3629). They are refused even if
    only the first bytes of the code point have arrived.
    """

    __slots__ = ("_decoder",)

    def __init__(self) -> None:
        self._decoder = _IncrementalDecoder()

    def feed(self, piece: bytes | memoryview, *, last: bool) -> bool:
        """Return whether the text is valid up to the end of `piece`; with `last`, also that it is complete.

        A refused piece changes nothing.
        """
        before = self._decoder.getstate()
        try:
            self._decoder.decode(bytes(piece), last)
        except UnicodeDecodeError:
            return False
        waiting = self._decoder.getstate()[0]
        # a surrogate, for whose third byte Python's decoder would wait
        if waiting[:1] == b"\xed" and waiting[1:] >= b"\xa0":
            self._decoder.setstate(before)
            return False
        return True


def split_point(text: memoryview, limit: int) -> int:
    """Return the largest length, at most `limit` bytes, at which valid UTF-8 ends between code points.

    0 if the first code point of `text` is longer than `limit`.
    """
    if limit >= len(text):
        return len(text)
    for cut in range(limit, max(limit - 4, 0), -1):  # a code point has at most 4 bytes
        if text[cut] & 0xC0 != 0x80:  # the first byte of a code point
            return cut
    return 0
