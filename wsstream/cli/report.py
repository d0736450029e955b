"""What a command tells its user on stderr: lines for people, or one JSON object a line with ``--json``.

Nothing here goes to stdout, which is for payload. Secrets that the command was given are replaced.
"""

from __future__ import annotations

import argparse
import sys

__all__ = ["Reporter", "hide", "redact"]

_secrets: set[str] = set()


def hide(secret: str) -> None:
    """Replace `secret` in everything that is reported or logged from now on."""
    if secret:
        _secrets.add(secret)


def redact(text: str) -> str:
    """Return `text` without the secrets."""
    for secret in _secrets:
        text = text.replace(secret, "[secret]")
    return text


class Reporter:
    """Writes to stderr. Errors are always written, notes unless ``-q``.

    Args:
        options: the command line, of which `command`, `json`, `quiet` and `verbose` matter.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._command: str = options.command
        self._json: bool = options.json
        self._quiet: bool = options.quiet
        self._verbose: int = options.verbose

    def note(self, event: str, text: str, **fields: object) -> None:
        """Report `event`: to people as `text`, with ``--json`` as an object with `fields`."""
        if not self._quiet:
            self._write(_event(event, **fields) if self._json else text)

    def error(self, status: int, text: str) -> None:
        """Report why the command ends with `status`."""
        if self._json:
            self._write(_event("error", status=int(status), message=text))
        else:
            self._write(f"wsstream {self._command}: {text}")

    def start_logging(self) -> None:
        """Log the library's messages to stderr, if ``-v`` was given: what is normal too."""
        if not self._verbose:
            return
        import logging

        class Redacting(logging.Formatter):
            def format(self, record: logging.LogRecord) -> str:
                return redact(super().format(record))

        handler = logging.StreamHandler()
        handler.setFormatter(Redacting("%(name)s: %(message)s"))
        logging.basicConfig(level=logging.DEBUG if self._verbose > 1 else logging.INFO, handlers=[handler])

    def _write(self, line: str) -> None:
        try:
            sys.stderr.write(f"{redact(line)}\n")
            sys.stderr.flush()
        except (OSError, AttributeError):
            pass  # nobody reads stderr; the work continues


def _event(event: str, **fields: object) -> str:
    import json  # not needed for --help

    return json.dumps({"event": event, **fields})
