"""How far the opening of a connection has come, for the message of a timeout."""

from __future__ import annotations

__all__ = ["Progress"]


class Progress:
    """The step at which the opening of a connection to `url` is: a timeout's message names it."""

    __slots__ = ("_missing", "_reached", "url")

    def __init__(self, url: str) -> None:
        self.url = url
        self._missing = f"connection to {url}"
        self._reached = ""

    def wait_for(self, missing: str, reached: str = "") -> None:
        """A step begins, which waits for `missing`. `reached` is a sentence about the step before it."""
        self._missing = missing
        self._reached = reached

    def timed_out(self, seconds: float) -> TimeoutError:
        """Return the error for a timeout after `seconds`."""
        reached = f" ({self._reached})" if self._reached else ""
        return TimeoutError(f"no {self._missing} within {seconds:g} s{reached}")
