"""The rules for the names of files and of partial files. Nothing here touches a disk.

A name comes from the peer, and must mean the same file, or none, on every system: so a name that only one
system would misread is refused by all. It is relative, its parts are separated by ``/``, and it is text in
Unicode's normal form C of at most 1,024 bytes of UTF-8.
"""

from __future__ import annotations

import re
import secrets
import unicodedata
from collections.abc import Iterator

from wsstream.files.errors import TransferError

__all__ = [
    "HIDDEN",
    "MAX_NAME",
    "check_token",
    "is_part",
    "join_name",
    "lock_name",
    "new_token",
    "normal_name",
    "numbered",
    "parse_name",
    "part_name",
    "record_name",
    "temporary_name",
]

HIDDEN = ".wsstream-"
"""Files whose name begins like this are ours. No peer may name them, and listings leave them out."""
MAX_NAME = 1024  # bytes of UTF-8
_MAX_PART = 255  # bytes of UTF-8: what file systems allow
_MAX_EXTENSION = 64  # bytes of UTF-8; a longer one is cut like the rest of a name

# Controls, and lone surrogates: those stand for bytes that are not UTF-8. The marks that change the direction
# of text can make "exe.txt" of "txt.exe", and the separators of lines and paragraphs end a line of a log.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Some file systems leave these out when they compare names.
_IGNORED = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u206f\ufe00-\ufe0f\ufeff]")
_DRIVE = re.compile(r"[A-Za-z]:")
# "NUL.txt" is the device, too (Microsoft, "Naming Files, Paths, and Namespaces").
_DEVICE = re.compile(r"(?:CON|PRN|AUX|NUL|CLOCK\$|CONIN\$|CONOUT\$|(?:COM|LPT)[0-9¹²³]) *(?:[.:].*)?", re.I)
_TOKEN = re.compile(r"[a-z0-9_-]{8,64}")  # lower case: not all file systems tell the cases apart


def parse_name(name: str) -> tuple[str, ...]:
    """Split a peer's name into its parts, each of which may be opened as it is.

    Raises:
        TransferError: ``invalid-name``, with a reason that says which rule the name breaks.
    """
    if len(name) > MAX_NAME or len(name.encode(errors="surrogatepass")) > MAX_NAME:
        raise _invalid(f"the name has more than {MAX_NAME} bytes")
    parts = tuple(name.split("/"))
    for part in parts:
        if problem := _problem(part):
            raise _invalid(problem)
    return parts


def is_part(part: str) -> bool:
    """Whether `part` may be a part of a name: what listings show."""
    return _problem(part) is None


def join_name(*parts: str) -> str:
    """The name made of `parts`, of which empty ones are left out."""
    return "/".join(filter(None, parts))


def normal_name(path: str, separator: str = "/") -> str:
    """The name by which a local relative path is offered: in normal form C, with ``/`` as its separator.

    It is not checked: the receiver of the offer does that.
    """
    return unicodedata.normalize("NFC", path.replace(separator, "/"))


def numbered(part: str) -> Iterator[str]:
    """Names to try in place of `part` where that exists: ``a (1).txt``, ``a (2).txt``, up to 9,999.

    A name that would get longer than 255 bytes is cut in front of its number.
    """
    stem, dot, ending = part.rpartition(".")
    extension = dot + ending
    if not stem.strip(".") or len(extension.encode()) > _MAX_EXTENSION:
        stem, extension = part, ""
    for number in range(1, 10_000):
        tail = f" ({number}){extension}"
        yield unicodedata.normalize("NFC", _cut(stem, _MAX_PART - len(tail.encode())) + tail)


def new_token() -> str:
    """A token that nobody can guess, for a new transfer."""
    return secrets.token_hex(16)


def check_token(token: str) -> str:
    """Return `token`, if it may be a part of a file's name.

    Tokens have 8 to 64 characters of ``a`` to ``z``, ``0`` to ``9``, ``_`` and ``-``.

    Raises:
        TransferError: ``protocol``.
    """
    if not _TOKEN.fullmatch(token):
        raise TransferError("protocol", "the token has other characters or another length than a token may")
    return token


def part_name(token: str, number: int = 0) -> str:
    """The file with the bytes that have arrived. `number` is that of the fence it was made under, if any."""
    return f"{HIDDEN}{token}.{number}.part" if number else f"{HIDDEN}{token}.part"


def record_name(token: str) -> str:
    """The file with the durable record."""
    return f"{HIDDEN}{token}.json"


def temporary_name(token: str, number: int) -> str:
    """The record while it is written. `number` is that of the writer's fence: two writers never share it."""
    return f"{HIDDEN}{token}.{number}.tmp"


def lock_name(token: str) -> str:
    """The file whose lock says who may write."""
    return f"{HIDDEN}{token}.lock"


def _invalid(reason: str) -> TransferError:
    return TransferError("invalid-name", reason)


def _problem(part: str) -> str | None:
    """The rule that `part` breaks, or ``None``."""
    if part in ("", ".", ".."):
        return "a part of the name is empty, '.' or '..'"
    if _FORBIDDEN.search(part):
        return "the name has control characters, marks of text direction, or bytes that are not UTF-8"
    if len(part.encode()) > _MAX_PART:
        return f"a part of the name has more than {_MAX_PART} bytes"
    if "\\" in part:
        return "the name has a backslash"
    if part[-1] in ". ":
        return "a part of the name ends with a dot or a space"
    if _DRIVE.match(part) or _DEVICE.fullmatch(part):
        return "a part of the name is that of a drive or a device on Windows"
    if _folded(_IGNORED.sub("", part)).startswith(HIDDEN):
        return f"a part of the name begins with {HIDDEN!r}"
    if not unicodedata.is_normalized("NFC", part):
        return "the name is not in Unicode's normal form C"
    return None


def _folded(part: str) -> str:
    return unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", part).casefold())


def _cut(text: str, most: int) -> str:
    """The start of `text`, at most `most` bytes of UTF-8."""
    return text.encode()[:most].decode(errors="ignore")
