"""Completion scripts for shells, made from the parser."""

from __future__ import annotations

import argparse
from typing import Any

from wsstream.cli.exits import CommandFailed, Exit

__all__ = ["completion"]


def completion(parser: argparse.ArgumentParser, shell: str) -> str:
    """Return the completion script of `parser` for ``"bash"``, ``"zsh"`` or ``"tcsh"``.

    Raises:
        CommandFailed: shtab is not installed.
    """
    try:
        import shtab
    except ImportError:
        raise CommandFailed(
            Exit.USAGE, "--print-completion needs shtab, which is not installed: pip install 'wsstream[cli]'"
        ) from None
    _complete_paths(parser, shtab.FILE, shtab.DIRECTORY)
    return shtab.complete(parser, shell)


def _complete_paths(parser: argparse.ArgumentParser, files: dict[str, Any], folders: dict[str, Any]) -> None:
    """Have arguments that are paths, by what they are called, completed with the names of files."""
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for inner in action.choices.values():
                _complete_paths(inner, files, folders)
        elif action.metavar in ("FILE", "PATH", "DEST"):
            action.complete = files  # type: ignore[attr-defined]
        elif action.metavar == "DIR":
            action.complete = folders  # type: ignore[attr-defined]
