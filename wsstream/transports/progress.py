"""How far the opening of a connection has come."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """What is waited for while a connection to `url` opens: when the time is up, the error says it."""

    __slots__ = ("_missing", "_reached", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self._missing = f"connection to {url}"
        self._reached = ""

    def wait_for(self, missing: str, reached: str = "") -> None:
        """A step begins: there is no `missing` yet. `reached` is a sentence about what there was by then."""
        self._missing = missing
        self._reached = reached

    def timed_out(self, seconds: float) -> TimeoutError:
        """The error for a time that is up."""
        reached = f" ({self._reached})" if self._reached else ""
        return TimeoutError(f"no {self._missing} within {seconds:g} s{reached}")
