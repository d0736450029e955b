"""The durable record of a partial file: which file it is, and how many of its bytes are safe."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass, fields
from typing import Any

from wsstream.files.errors import TransferError
from wsstream.files.storage.folder import Folder, sync_file
from wsstream.files.storage.names import record_name, temporary_name

__all__ = ["MAX_TEXT", "Record", "check_text", "read_record", "write_record"]

MAX_TEXT = 4096  # characters of a text in a record
_MAX_SIZE = 64 * 1024  # bytes: with all texts at their longest, and escaped
_MAX_NUMBER = 2**63 - 1
_VERSION = 1


@dataclass(frozen=True, slots=True)
class Record:
    """What is known of a partial file after a crash. All texts have at most `MAX_TEXT` characters.

    Attributes:
        name: the last part of the file's name: the record lies beside it.
        size: the file's size in bytes, or ``None`` if the sender does not know it.
        etag: the version of the sender's file, or ``None``. Without one, nothing can be resumed.
        identity: who sends it, or ``None``. Nobody else may go on with it.
        durable: how many bytes are on stable storage. Later ones may be anything.
        fence: the number of the fence under which this was written; 0 for none.
        part: the number in the name of the partial file.
        complete: whether `durable` bytes are the whole file, which was about to get its name.
        inode: of the partial file when it was complete; else 0.
    """

    name: str
    size: int | None
    etag: str | None
    identity: str | None
    durable: int = 0
    fence: int = 0
    part: int = 0
    complete: bool = False
    inode: int = 0


_FIELDS = frozenset(field.name for field in fields(Record))
_OPTIONAL = frozenset({"size", "etag", "identity"})
_TEXTS = frozenset({"name", "etag", "identity"})


def check_text(name: str, value: str | None) -> str | None:
    """Return `value`, if a record can have it.

    Raises:
        TransferError: ``protocol``.
    """
    if value is not None and len(value) > MAX_TEXT:
        raise TransferError("protocol", f"the {name} has more than {MAX_TEXT} characters")
    return value


def read_record(folder: Folder, token: str) -> Record | None:
    """Return the record, or ``None`` if it is missing or is not one, whoever may have written it."""
    try:
        fd = folder.open_file(record_name(token))
    except (FileNotFoundError, TransferError):
        return None
    try:
        data = os.pread(fd, _MAX_SIZE + 1, 0)
    finally:
        os.close(fd)
    return _parse(data)


def write_record(folder: Folder, token: str, record: Record) -> None:
    """Put the record in place of the former one, durably. After a crash, one of the two is found whole."""
    temporary = temporary_name(token, record.fence)
    text = json.dumps({"version": _VERSION, **asdict(record)}, ensure_ascii=True)
    fd = folder.create(temporary, os.O_WRONLY, 0o600)
    try:
        data = memoryview(text.encode())
        while data:
            data = data[os.write(fd, data) :]
        sync_file(fd)
    except BaseException:
        folder.remove(temporary)
        raise
    finally:
        os.close(fd)
    folder.rename(temporary, record_name(token))
    folder.sync()


def _parse(data: bytes) -> Record | None:
    if len(data) > _MAX_SIZE:
        return None
    try:
        values = json.loads(data.decode())
    except (ValueError, RecursionError):
        return None
    if not isinstance(values, dict) or values.pop("version", None) != _VERSION or values.keys() != _FIELDS:
        return None
    return Record(**values) if all(_is_valid(*item) for item in values.items()) else None


def _is_valid(name: str, value: Any) -> bool:
    if value is None:
        return name in _OPTIONAL
    if name == "complete":
        return type(value) is bool
    if name in _TEXTS:
        return type(value) is str and len(value) <= MAX_TEXT
    return type(value) is int and 0 <= value <= _MAX_NUMBER
