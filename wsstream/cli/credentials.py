"""Secrets that a command is given: from files and from the environment, never from the command line."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from wsstream.arguments import is_word
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.report import hide

__all__ = ["VARIABLE", "header_fields", "read_token"]

VARIABLE = "WSSTREAM_TOKEN"
"""The variable of the environment that has the token, where no ``--token-file`` is given."""

_MAX_FILE = 64 * 1024  # bytes
_SECRET_FIELDS = ("authorization", "cookie", "proxy-authorization")


def read_token(options: argparse.Namespace) -> str | None:
    """Return the token of `options` or of the environment, and hide it from logs; ``None``: there is none.

    Raises:
        CommandFailed: the file cannot be read, or has no token in it.
    """
    if options.token_file is None:
        token, where = os.environ.get(VARIABLE), VARIABLE
        if not token:
            return None
    else:
        token, where = _read(options.token_file), options.token_file
    token = token.strip()
    if not is_word(token):
        raise CommandFailed(Exit.USAGE, f"{where}: not a token: it must be one word of printable ASCII")
    hide(token)
    return token


def header_fields(options: argparse.Namespace) -> list[tuple[str, str]]:
    """Return the fields of ``-H``, and ``Authorization`` with the token, unless ``-H`` has that field.

    Raises:
        CommandFailed: a file cannot be read, or a line has no colon.
    """
    lines = []
    for text in options.headers:
        if text.startswith("@"):
            lines += [line for line in _read(text[1:]).splitlines() if line.strip()]
        else:
            lines.append(text)
    fields = []
    for line in lines:
        name, colon, value = line.partition(":")
        if not colon:
            raise CommandFailed(Exit.USAGE, "a header field must be 'NAME: VALUE'")
        fields.append((name.strip(), value.strip()))
    for name, value in fields:
        if name.lower() in _SECRET_FIELDS:
            hide(value)
    return fields


def _read(path: str) -> str:
    try:
        with Path(path).open("rb") as file:
            data = file.read(_MAX_FILE + 1)
        if len(data) > _MAX_FILE:
            raise CommandFailed(Exit.USAGE, f"{path}: larger than 64 KiB")
        return data.decode()
    except OSError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{path}: {error.strerror or error}") from None
    except UnicodeDecodeError:
        raise CommandFailed(Exit.USAGE, f"{path}: not UTF-8") from None
