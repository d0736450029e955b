"""What happens to a follower who is too slow."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any, TypeAlias

from wsstream.errors import check_close_arguments

__all__ = ["DropOldest", "Evict", "Latest", "Policy", "Wait", "check_policy"]


@dataclass(frozen=True, slots=True)
class Wait:
    """Drop nothing: ``append`` waits while this follower has no room.

    One slow follower then slows all publishers that append, so it is for feeds with one follower. ``publish``
    does not wait. The follower gets what it missed from the history, and a gap if that is too short.
    """


@dataclass(frozen=True, slots=True)
class DropOldest:
    """Drop the items that wait longest."""


@dataclass(frozen=True, slots=True)
class Latest:
    """Keep the newest item for each key, until the follower has caught up; drop the other items.

    If those are still too many, the ones that wait longest are dropped.

    Attributes:
        key: called with a message, returns its key. By default all messages have one.

    Raises:
        TypeError: `key` is not a function.
    """

    key: Callable[[Any], Hashable] | None = None

    def __post_init__(self) -> None:
        if self.key is not None and not callable(self.key):
            raise TypeError(f"key must be a function or None, got {type(self.key).__name__}")


@dataclass(frozen=True, slots=True)
class Evict:
    """Close the connection. What waits is dropped.

    Attributes:
        code: the close code; clients that `follow` come back after a while and go on where they were.
        reason: the close reason.

    Raises:
        TypeError, ValueError: a code that must not be sent, or a reason that is too long.
    """

    code: int = 1013
    reason: str = "too slow for the feed"

    def __post_init__(self) -> None:
        check_close_arguments(self.code, self.reason)


Policy: TypeAlias = Wait | DropOldest | Latest | Evict


def check_policy(slow: object) -> None:
    """Check that `slow` is a policy.

    Raises:
        TypeError: it is not.
    """
    if not isinstance(slow, Policy):
        name = slow.__name__ if isinstance(slow, type) else type(slow).__name__
        raise TypeError(f"slow must be Wait(), DropOldest(), Latest() or Evict(), got {name}")
