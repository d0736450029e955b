from __future__ import annotations

import pytest

from wsstream.cli.units import format_size, mebibytes, parse_size, parse_time


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("4096", 4096),
        ("17b", 17),
        ("64k", 65536),
        ("64K", 65536),
        ("1M", 1 << 20),
        ("1MB", 1 << 20),
        ("2GiB", 2 << 30),
        ("8g", 8 << 30),
        ("3T", 3 << 40),
        (" 1k ", 1024),
        ("9223372036854775807", (1 << 63) - 1),
        ("8388607T", 8388607 << 40),
    ],
)
def test_sizes_are_read_with_binary_units(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize(
    "text", ["", "k", "-1", "+1", "1.5G", "1x", "1kk", "1 k", "0x10", "1_000", "٣k", "1e3"]
)
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a size"):
        parse_size(text)


@pytest.mark.parametrize("text", ["9223372036854775808", "8388608T", "9999999999999999999G"])
def test_more_than_a_message_can_have_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="larger than a message"):
        parse_size(text)


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1024, "1.0 KiB"),
        (1536, "1.5 KiB"),
        ((1 << 20) - 1, "1024.0 KiB"),
        (1 << 20, "1.0 MiB"),
        (1 << 30, "1.0 GiB"),
        (5 << 40, "5.0 TiB"),
        (5 << 50, "5120.0 TiB"),
    ],
)
def test_sizes_are_written_with_the_unit_that_fits(size: int, text: str) -> None:
    assert format_size(size) == text


def test_mebibytes_have_one_decimal_place() -> None:
    assert mebibytes(1.26 * (1 << 20)) == 1.3


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("10", 10), ("1.5s", 1.5), ("250ms", 0.25), ("5m", 300), ("2h", 7200), ("1d", 86400)],
)
def test_a_time_is_read_in_seconds(text: str, seconds: float) -> None:
    assert parse_time(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "-1", "1 s", "1w", "1e3", "inf", "nan", "1.s", "٣"])
def test_what_is_no_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a time"):
        parse_time(text)
