"""The rules for names: what a peer may call a file."""

from __future__ import annotations

import unicodedata
from itertools import islice

import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st

from wsstream.files.errors import TransferError
from wsstream.files.storage import names
from wsstream.files.storage.names import is_part, numbered, parse_name

GOOD = [
    "a",
    "a/b/c.txt",
    ".bashrc",
    "..a",
    "...a",
    "a..b",
    " leading space",
    "10:30 log",
    "console",
    "COM10",
    "COMA",
    "NULL",
    "null.txt.d",
    "lpt",
    "~",
    "-rf",
    "$HOME",
    "%2e%2e",
    "a*?<>|\"'",
    "wsstream-1",
    ".wsstream",
    "d\u00e9j\u00e0 vu",
    "\u65e5\u672c\u8a9e.txt",
    "\U0001f469\u200d\U0001f680",  # a zero-width joiner makes one picture of two
    "x" * 255,
    "/".join(["a" * 127] * 8),
]

HOSTILE = {
    "empty": ["", "/", "//", "a//b", "a/", "/a"],
    "dots": [".", "..", "../a", "a/../../b", "a/.", "./a", "a/.."],
    "absolute": ["/etc/passwd", "//host/share/a", "C:/a", "c:a", "a/D:/b", "C:", "a:stream"],
    "backslash": ["\\", "a\\b", "..\\..\\a", "\\\\host\\share", "a/b\\"],
    "control": ["\0", "a\0b", "a\nb", "a\r", "\x1b[2J", "a\x7fb", "a\x80b", "a\x85b", "a\u2028b", "a\u2029"],
    "direction": [f"a{mark}txt.exe" for mark in "\u061c\u200e\u200f\u202a\u202b\u202c\u202d\u202e"],
    "isolates": [f"a{mark}b" for mark in "\u2066\u2067\u2068\u2069"],
    "not UTF-8": ["\ud800", "a\udcffb", "\udc80/a"],
    "devices": [
        "CON",
        "con",
        "Prn",
        "AUX",
        "NUL",
        "nul.txt",
        "NUL .txt",
        "nul  ",
        "COM0",
        "com1",
        "LPT9.a.b",
    ],
    "more devices": ["COM\u00b9", "lpt\u00b3.txt", "CONIN$", "conout$", "CLOCK$", "a/nul/b", "aux:x", "CON."],
    "ends": ["a.", "a ", "a. ", "a /b", "a./b", "...", " ", ". ."],
    "ours": [
        ".wsstream-x",
        ".wsstream-",
        ".wsstream-x.part",
        "a/.wsstream-t.json",
        ".WSStream-x",
        ".wSSTREAM-X",
    ],
    "ours in disguise": [
        ".wss\u200dtream-x",
        ".\u200cwsstream-x",
        ".wsstr\ufeffeam-x",
        ".w\u00adsstream-x",
        ".w\u017fstream-x",  # the long s is an s where case is ignored
        "\uff0ewsstream-x",
        ".\uff57sstream-x",
    ],
    "long": ["x" * 256, "a/" * 512 + "b", "\u00e9" * 128, "x" * 1025, "\ud800" * 400, "a/" + "x" * 256],
    "not normal": ["e\u0301", "a/A\u030a", "\u212b", "\u1100\u1161"],
}


@pytest.mark.parametrize("name", GOOD)
def test_an_ordinary_name_is_its_parts(name: str) -> None:
    assert parse_name(name) == tuple(name.split("/"))
    assert names.join_name(*parse_name(name)) == name


@pytest.mark.parametrize(
    "name",
    [pytest.param(name, id=f"{kind} {n}") for kind, all_ in HOSTILE.items() for n, name in enumerate(all_)],
)
def test_a_hostile_name_is_refused(name: str) -> None:
    with pytest.raises(TransferError) as caught:
        parse_name(name)
    assert caught.value.error == "invalid-name"
    assert str(caught.value).isprintable(), "the reason may go to a log"


PIECES = st.sampled_from(
    [
        "a",
        "Z",
        ".",
        "..",
        " ",
        "/",
        "\\",
        ":",
        "~",
        "\0",
        "\n",
        "con",
        "NUL",
        "com1",
        ".wsstream-",
        "e\u0301",
        "\u00e9",
        "\u202e",
        "\u200d",
        "\ud800",
        "\U0001f600",
        "-",
        "x" * 250,
        "C:",
    ]
)
TEXTS = st.one_of(st.text(max_size=40), st.lists(PIECES, max_size=12).map("".join))


@given(TEXTS)
@example("a" * 1024)
@example("\u00e9" * 512)
def test_what_passes_is_safe_whatever_it_is(name: str) -> None:
    """Stated independently: what must hold of the parts that reach the system."""
    try:
        parts = parse_name(name)
    except TransferError:
        return
    assert "/".join(parts) == name
    assert 0 < len(name.encode()) <= 1024
    assert unicodedata.normalize("NFC", name) == name
    for part in parts:
        assert part not in ("", ".", "..")
        assert not set(part) & set("/\\\0")
        assert 0 < len(part.encode()) <= 255
        assert not any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in part)
        assert not any(unicodedata.bidirectional(c) in ("LRE", "RLE", "PDF", "LRO", "RLO") for c in part)
        assert not any(unicodedata.bidirectional(c) in ("LRI", "RLI", "FSI", "PDI") for c in part)
        assert part.rstrip(". ") == part
        assert not part.lower().startswith(names.HIDDEN)
        assert part.partition(".")[0].rstrip().upper() not in {"CON", "PRN", "AUX", "NUL", "COM1", "LPT1"}
        assert part[1:2] != ":" or not (part[0].isascii() and part[0].isalpha())
        assert is_part(part)


@given(TEXTS)
def test_a_part_is_a_name_without_slashes(name: str) -> None:
    try:
        parsed = parse_name(name)
    except TransferError:
        parsed = ()
    assert (len(parsed) == 1) == (is_part(name) and "/" not in name)


# -- names with a number ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("part", "first", "second"),
    [
        ("a.txt", "a (1).txt", "a (2).txt"),
        ("a", "a (1)", "a (2)"),
        (".bashrc", ".bashrc (1)", ".bashrc (2)"),
        ("..a", "..a (1)", "..a (2)"),
        ("a.tar.gz", "a.tar (1).gz", "a.tar (2).gz"),
        ("a." + "x" * 100, "a." + "x" * 100 + " (1)", "a." + "x" * 100 + " (2)"),
        ("x" * 255, "x" * 251 + " (1)", "x" * 251 + " (2)"),
        ("\u00e9" * 125 + ".jpg", "\u00e9" * 123 + " (1).jpg", "\u00e9" * 123 + " (2).jpg"),
    ],
)
def test_a_number_goes_before_the_extension(part: str, first: str, second: str) -> None:
    found = numbered(part)
    assert [next(found), next(found)] == [first, second]


@given(TEXTS)
@example("x" * 255)
@example("x" * 250 + ".a.b")
@example("x." + "y" * 253)
def test_a_name_with_a_number_is_a_name(part: str) -> None:
    assume(is_part(part) and "/" not in part)
    found = list(islice(numbered(part), 110))
    assert len(set(found)) == 110
    for each in (found[0], found[9], found[99]):
        assert is_part(each), each


def test_the_numbers_have_an_end() -> None:
    *_, last = found = list(numbered("x" * 255))
    assert len(set(found)) == 9_999
    assert last == "x" * 248 + " (9999)"


# -- names from this side --------------------------------------------------------------------------


def test_a_local_path_becomes_a_name() -> None:
    assert names.normal_name("a\\e\u0301", "\\") == "a/\u00e9"
    assert names.normal_name("a/b") == "a/b"
    assert parse_name(names.normal_name("e\u0301"))


def test_join_leaves_out_what_is_empty() -> None:
    assert names.join_name("", "a", "", "b") == "a/b"


# -- tokens ----------------------------------------------------------------------------------------


def test_tokens_are_accepted_and_safe_as_names() -> None:
    tokens = {names.new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    for token in [*tokens, "a" * 8, "0" * 64, "a-b_c-123"]:
        assert names.check_token(token) == token
        for name in (names.part_name(token), names.part_name(token, 7), names.record_name(token)):
            assert name.startswith(names.HIDDEN)
            assert name.isascii()
            assert len(name) < 128
            assert not is_part(name), "a peer cannot name it"
    assert names.lock_name("t").startswith(names.HIDDEN)


@pytest.mark.parametrize(
    "token",
    [
        "",
        "short",
        "a" * 65,
        "UPPERCASE",
        "with space",
        "dot.dot.dot",
        "../../../../etc",
        "a/b/c/d/e",
        "\0" * 10,
        "\u0661" * 10,
        "aaaaaaaa\n",
        "\ud800" * 8,
    ],
)
def test_a_hostile_token_is_refused(token: str) -> None:
    with pytest.raises(TransferError, match="protocol"):
        names.check_token(token)


def test_the_files_of_two_fences_have_two_names() -> None:
    assert len({names.part_name("token", number) for number in range(100)}) == 100
