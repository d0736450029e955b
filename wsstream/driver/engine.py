"""Who calls the steps of a connection: what its two engines have in common.

A step is synchronous and waits for nothing. The driver has three of them, for reading, for writing and for
what the clock has due; an engine calls them when the transport is ready or the time has come. It knows
neither messages nor phases. `driver.tasks` calls them from tasks of the event loop, `driver.callbacks` from
callbacks.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from enum import Enum, auto
from typing import Final, Protocol

from wsstream.log import Log

__all__ = ["NO_FAILURES", "Engine", "Failures", "Next", "Output", "Steps"]

log = Log("wsstream.connection")


class Next(Enum):
    """What the reading side needs next."""

    READ = auto()
    """Another read: the transport may have more."""
    DECODE = auto()
    """Another step, to decode bytes that were read earlier. It needs no read."""
    WAIT = auto()
    """The transport, which had no more."""
    SLEEP = auto()
    """`Engine.resume_reading`: reading has stopped."""


class Output(Enum):
    """What the writing side needs next."""

    NOTHING = auto()
    """Output to send."""
    SOON = auto()
    """A step, soon: a batch of messages is growing."""
    BLOCKED = auto()
    """The transport, which takes no more now."""


class Failures(Protocol):
    """Who ends the connection when something goes wrong."""

    def reading_failed(self, error: Exception) -> None:
        """Waiting for the transport, or a step of reading, raised `error`."""

    def writing_failed(self, error: Exception) -> None:
        """As `reading_failed`, on the writing side."""


class _NoFailures:
    """In place of a driver of which nothing is left, and that nothing refers to any more."""

    def reading_failed(self, error: Exception) -> None:
        """It should not happen, and nobody else would tell."""
        log.error("wsstream failed after the end of a connection", cause=error)

    def writing_failed(self, error: Exception) -> None:
        """As `reading_failed`."""
        self.reading_failed(error)


NO_FAILURES: Final = _NoFailures()
"""For a connection of which nothing is left."""


class Steps(Failures, Protocol):
    """The steps of a driver, for its engine."""

    def read(self) -> Next:
        """Take a step of reading."""
        ...

    def write(self) -> None:
        """Take a step of sending."""

    @property
    def output(self) -> Output:
        """What the writing side needs."""
        ...

    @property
    def deadline(self) -> float:
        """When `tick` is to be called next, in the clock's seconds."""
        ...

    def tick(self) -> None:
        """Do what the clock has due."""

    def stopped(self) -> None:
        """The engine will call no more steps. If the connection has not ended, it ends now."""

    async def release(self) -> None:
        """Release the transport, which was closed. Raises nothing but cancellation."""

    def finish(self) -> None:
        """Nothing of the engine is left, and the transport is released."""


class Engine(ABC):
    """Calls the steps of one connection."""

    __slots__ = ()

    @abstractmethod
    def start(self) -> None:
        """Begin to read and to keep the time."""

    @abstractmethod
    def resume_reading(self) -> None:
        """Call `read` again, which has returned `Next.SLEEP`."""

    @abstractmethod
    def step_was_taken(self, after: Next) -> None:
        """A receiving task took a step of reading itself and is about to yield.

        The engine leaves the next one to it: if both took turns, each would read little at a time.
        """

    @abstractmethod
    def step_is_over(self) -> None:
        """The receiving task goes on."""

    @abstractmethod
    def decode_soon(self) -> None:
        """Call `read` soon, which has bytes to decode, whether or not the transport has more."""

    @abstractmethod
    def write_soon(self) -> None:
        """Call `write` when the transport takes more."""

    @abstractmethod
    def wake_at(self, deadline: float) -> None:
        """Call `tick` at `deadline` at the latest. An earlier call does no harm."""

    @abstractmethod
    def stop(self) -> None:
        """Call no more steps; `finish` when nothing is left. The transport has been closed."""
