"""Connecting again, without I/O: after which ends it makes sense, and how long to wait.

Sources: RFC 6455 section 7.2.3 (backoff), the registry of close codes and what their authors said of
1012 and 1013 (https://www.ietf.org/mail-archive/web/hybi/current/msg09649.html), RFC 9110 section 10.2.3
(Retry-After) and section 15 (statuses).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.utils import mktime_tz, parsedate_tz
from typing import Final, TypeAlias

from wsstream.arguments import check_number
from wsstream.close_codes import is_close_code

__all__ = [
    "MAX_RETRY_AFTER",
    "Backoff",
    "Pauses",
    "check_delay",
    "check_pauses",
    "code_may_change",
    "pause_after_code",
    "pause_after_response",
    "socks_reply_may_change",
    "status_may_change",
]

MAX_RETRY_AFTER: Final = 3600.0
"""Seconds; a longer Retry-After counts as this, so that no server can make a client wait for a year."""

# The two sides do not fit: protocol, kind of data, UTF-8, policy, extensions.
_FINAL_CODES: Final = frozenset({1002, 1003, 1007, 1008, 1010})
_PASSING_4XX: Final = frozenset({408, 429})  # Request Timeout, Too Many Requests
_FINAL_5XX: Final = frozenset({501, 505})  # Not Implemented, HTTP Version Not Supported
_PASSING_SOCKS: Final = frozenset({1, 3, 4, 5, 6})  # failure, unreachable (2), refused, TTL expired

Pauses: TypeAlias = Mapping[int, tuple[float, float]]
"""For each close code the least and the most seconds for which it keeps a client away."""

_PAUSES: Final[Pauses] = {
    1012: (5.0, 30.0),  # Service Restart: the authors' own figures
    # Try Again Later: they ask for "user action". A program that has no user comes back late.
    1013: (30.0, 120.0),
}
_MAX_DATE: Final = 64  # characters; a date of HTTP has 29 to 33


@dataclass(frozen=True, slots=True)
class Backoff:
    """Growing random delays: exponential backoff with full jitter, without an end.

    Each delay is random between 0 and a limit; the limit is `initial` seconds at first and grows by
    `factor` each time, up to `maximum` seconds. So clients that lost their connections at the same time do
    not come back at the same time. The defaults begin as RFC 6455 section 7.2.3 proposes.

    Raises:
        TypeError: a value is not a number.
        ValueError: `initial` is not greater than 0, `maximum` is less than `initial`, `factor` is less than
            1, or one of them is not finite.
    """

    initial: float = 5.0
    maximum: float = 60.0
    factor: float = 2.0

    def __post_init__(self) -> None:
        for name in ("initial", "maximum", "factor"):
            check_delay(name, getattr(self, name))
        if not 0 < self.initial <= self.maximum:
            raise ValueError(
                f"initial must be greater than 0 and at most maximum, got {self.initial} and {self.maximum}"
            )
        if self.factor < 1:
            raise ValueError(f"factor must be at least 1, got {self.factor}")

    def __iter__(self) -> Iterator[float]:
        """The delays in seconds, from the first."""
        limit = self.initial
        while True:
            yield random.uniform(0, limit)  # noqa: S311 - spreads load, guards nothing
            limit = min(limit * self.factor, self.maximum)


def check_delay(name: str, value: object) -> None:
    """Check that `value` is a finite number that is not negative.

    Raises:
        TypeError, ValueError: it is not.
    """
    check_number(name, value, finite=True)


def code_may_change(code: int) -> bool:
    """Whether another connection may fare better than one that ended with this close code."""
    return code not in _FINAL_CODES


def status_may_change(status: int) -> bool:
    """Whether another request may fare better than one that was answered with this HTTP status."""
    return status in _PASSING_4XX or (500 <= status <= 599 and status not in _FINAL_5XX)


def socks_reply_may_change(reply: object) -> bool:
    """Whether another request may fare better than one with this reply of a SOCKS proxy (RFC 1928 section 6).

    The other replies say that the proxy does not connect, whatever the state of the network.
    """
    return reply in _PASSING_SOCKS


def check_pauses(changed: object) -> Pauses:
    """Return the pauses, of which the application has `changed` some.

    Raises:
        TypeError, ValueError: it has not given a range of seconds for each code, or no close code.
    """
    if not isinstance(changed, Mapping):
        raise TypeError(f"pauses must map close codes to ranges of seconds, got {type(changed).__name__}")
    for code, pause in changed.items():
        if not isinstance(code, int) or not is_close_code(code):
            raise ValueError(f"pauses must have close codes that may be sent, got {code!r}")
        if not isinstance(pause, tuple) or len(pause) != 2:
            raise TypeError(f"the pause after {code:d} must be (least, most) in seconds, got {pause!r}")
        for seconds in pause:
            check_delay(f"the pause after {code:d}", seconds)
        if pause[0] > pause[1]:
            raise ValueError(f"the pause after {code:d} must begin with the least, got {pause!r}")
    return {**_PAUSES, **changed}


def pause_after_code(
    code: int, pauses: Pauses = _PAUSES, uniform: Callable[[float, float], float] = random.uniform
) -> float:
    """Seconds for which a close code keeps a client away, at random in its range; 0 if it has none."""
    return uniform(*pauses[code]) if code in pauses else 0.0


def pause_after_response(headers: Iterable[tuple[str, str]], now: float) -> float:
    """Seconds that a response asks a client to stay away (Retry-After), at most `MAX_RETRY_AFTER`.

    0 if it does not ask, or not in a format of RFC 9110.

    Args:
        headers: (name, value), names in lower case; of several with one name, the first counts.
        now: seconds since the epoch; a date is compared with the response's own Date if there is one,
            as the clocks of the two sides may differ.
    """
    fields = dict(reversed(list(headers)))
    value = fields.get("retry-after", "").strip(" \t")
    if value.isascii() and value.isdigit():
        # int() is slow for very many digits, and refuses more than 4300.
        return MAX_RETRY_AFTER if len(value) > 9 else min(float(value), MAX_RETRY_AFTER)
    if (date := _http_date(value)) is None:
        return 0.0
    sent = _http_date(fields.get("date", ""))
    return min(max(date - (now if sent is None else sent), 0.0), MAX_RETRY_AFTER)


def _http_date(text: str) -> float | None:
    """Seconds since the epoch. Reads the three formats of RFC 9110 section 5.6.7, and others as well."""
    parts = parsedate_tz(text) if len(text) <= _MAX_DATE else None
    try:
        return None if parts is None else mktime_tz(parts)
    except (ValueError, OverflowError):
        return None
