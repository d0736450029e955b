"""What a peer sent, made safe for a terminal: nothing in it moves the cursor or changes a setting."""

from __future__ import annotations

import codecs

__all__ = ["Escaper", "printable"]

_KEPT = frozenset("\n\t")


def printable(text: str) -> str:
    """Return one line of `text` with everything escaped that is not printable, line ends and tabs too."""
    return text if text.isprintable() else "".join(map(_escape, text))


def _escape(character: str) -> str:
    return character if character.isprintable() else ascii(character)[1:-1]


class Escaper:
    """Makes one message printable, chunk by chunk. Line ends and tabs of a text stay as they are.

    Args:
        text: the message is text, in UTF-8 that may be cut anywhere; other bytes than ASCII are escaped in
            a message that is not.
    """

    def __init__(self, *, text: bool) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("backslashreplace") if text else None

    def feed(self, chunk: bytes, *, last: bool = False) -> bytes:
        """Return the next `chunk`, escaped, in UTF-8."""
        if self._decoder is None:
            return "".join(map(_escape_byte, chunk)).encode()
        text = self._decoder.decode(chunk, last)
        if not text.isprintable():
            text = "".join(each if each in _KEPT else _escape(each) for each in text)
        return text.encode(errors="backslashreplace")


def _escape_byte(byte: int) -> str:
    return chr(byte) if 0x20 <= byte < 0x7F else f"\\x{byte:02x}"
