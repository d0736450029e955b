from __future__ import annotations

import pytest

from wsstream.cli.terminal import Escaper, printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("plain ä €", "plain ä €"),
        ("\x1b[2J", "\\x1b[2J"),
        ("a\r\nb\tc", "a\\r\\nb\\tc"),
        ("\x9b31m", "\\x9b31m"),  # CSI in one character
        ("\u202eright to left", "\\u202eright to left"),
    ],
)
def test_a_line_is_printable(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_a_message_keeps_its_lines_and_may_be_cut_anywhere() -> None:
    data = "a\nb\tä€\x1b[2J\r\x9b😀".encode()
    whole = Escaper(text=True).feed(data, last=True)
    assert whole == "a\nb\tä€\\x1b[2J\\r\\x9b😀".encode()
    for cut in range(len(data)):
        escaper = Escaper(text=True)
        assert escaper.feed(data[:cut]) + escaper.feed(data[cut:], last=True) == whole


def test_a_binary_message_has_its_bytes_escaped() -> None:
    assert Escaper(text=False).feed(b"a\n\x00\xff\x1b", last=True) == b"a\\x0a\\x00\\xff\\x1b"
