"""The library's log.

Filters and handlers of the application run inside each call of a logger, and may raise. A log line is never
worth a connection, so such an error is printed here, as :mod:`logging` prints those of its handlers.

Some arguments come from peers: header lines, paths, close reasons. So each argument is cut, and characters
that could forge a line or move a cursor are escaped.

A line about a connection also has its facts one by one, for handlers that write JSON: the record's attribute
`wsstream` is a ``dict`` of them.
"""

from __future__ import annotations

import logging
import sys
import traceback
from collections.abc import Mapping

from wsstream.display import excerpt

__all__ = ["Log"]

_LENGTH = 300  # characters of an argument


class Log:
    """A logger whose calls raise no ``Exception``. Messages have ``%s`` for their arguments."""

    def __init__(self, name: str) -> None:
        self._logger = logging.getLogger(name)

    @property
    def wants_info(self) -> bool:
        """Whether what is normal is logged, for those who would have to gather it first."""
        return self._logger.isEnabledFor(logging.INFO)

    @property
    def wants_debug(self) -> bool:
        """As `wants_info`, for the details."""
        return self._logger.isEnabledFor(logging.DEBUG)

    def debug(self, message: str, *args: object) -> None:
        """Log a detail."""
        self._log(logging.DEBUG, message, args)

    def info(self, message: str, *args: object, facts: Mapping[str, object] | None = None) -> None:
        """Log what is normal."""
        self._log(logging.INFO, message, args, facts=facts)

    def warning(self, message: str, *args: object) -> None:
        """Log what may need attention."""
        self._log(logging.WARNING, message, args)

    def error(self, message: str, *args: object, cause: BaseException | None = None) -> None:
        """Log a failure, with the traceback of `cause`."""
        self._log(logging.ERROR, message, args, cause)

    def _log(
        self,
        level: int,
        message: str,
        args: tuple[object, ...],
        cause: BaseException | None = None,
        facts: Mapping[str, object] | None = None,
    ) -> None:
        if not self._logger.isEnabledFor(level):
            return
        try:
            extra = None if facts is None else {"wsstream": dict(facts)}
            self._logger.log(level, message, *map(_text, args), exc_info=cause, extra=extra, stacklevel=3)
        except Exception as error:
            if cause is None:
                _print(error)
            else:  # perhaps it is an exception whose traceback cannot be made
                self._log(level, f"{message} (%s)", (*args, type(cause).__name__))


def _print(error: Exception) -> None:
    if logging.raiseExceptions and sys.stderr is not None:
        try:
            traceback.print_exception(error)
        except Exception:
            print(f"logging raised {type(error).__name__}", file=sys.stderr)


def _text(value: object) -> str:
    try:
        text = str(value) or type(value).__name__
    except Exception:
        return f"<{type(value).__name__} without a text: its __str__ raised>"
    return excerpt(text, _LENGTH)
