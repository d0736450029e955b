"""The phases of a connection's end, and what moves it from one to the next.

============  ========================  ==========================  =====================================
phase         reading                   sending                     deadline
============  ========================  ==========================  =====================================
``RUNNING``   by the water marks        yes                         0.1 s, once the peer broke a rule
``LEAVING``   data is dropped           what was accepted, Close    `close_timeout`
``ENDED``     dropped, at most 1 MiB    Close only                  `close_timeout`; 2 s without progress
``DROPPED``   no                        no                          none: the transport is closed
``DONE``      no                        no                          none: no task is left
============  ========================  ==========================  =====================================
"""

from __future__ import annotations

from enum import IntEnum, auto

__all__ = ["TRANSITIONS", "Happening", "Phase", "next_phase"]


class Phase(IntEnum):
    """How far the end of a connection has come."""

    RUNNING = auto()
    LEAVING = auto()
    """This side asked for the end. What was accepted is sent, then Close."""
    ENDED = auto()
    """How the connection ends is certain. What has arrived can still be read."""
    DROPPED = auto()
    """The transport is closed."""
    DONE = auto()
    """The transport is released, and no task is left."""


class Happening(IntEnum):
    """What moves a connection towards its end."""

    LEAVE = auto()
    CONCLUDE = auto()
    DROP = auto()
    FINISH = auto()


# What is not in it never happens: `FINISH` comes after `DROP`, and the first three come at any time.
TRANSITIONS: dict[tuple[Phase, Happening], Phase] = {
    (Phase.RUNNING, Happening.LEAVE): Phase.LEAVING,
    (Phase.RUNNING, Happening.CONCLUDE): Phase.ENDED,
    (Phase.RUNNING, Happening.DROP): Phase.DROPPED,
    (Phase.LEAVING, Happening.LEAVE): Phase.LEAVING,
    (Phase.LEAVING, Happening.CONCLUDE): Phase.ENDED,
    (Phase.LEAVING, Happening.DROP): Phase.DROPPED,
    (Phase.ENDED, Happening.LEAVE): Phase.ENDED,
    (Phase.ENDED, Happening.CONCLUDE): Phase.ENDED,
    (Phase.ENDED, Happening.DROP): Phase.DROPPED,
    (Phase.DROPPED, Happening.LEAVE): Phase.DROPPED,
    (Phase.DROPPED, Happening.CONCLUDE): Phase.DROPPED,
    (Phase.DROPPED, Happening.DROP): Phase.DROPPED,
    (Phase.DROPPED, Happening.FINISH): Phase.DONE,
    (Phase.DONE, Happening.LEAVE): Phase.DONE,
    (Phase.DONE, Happening.CONCLUDE): Phase.DONE,
    (Phase.DONE, Happening.DROP): Phase.DONE,
    (Phase.DONE, Happening.FINISH): Phase.DONE,
}


def next_phase(phase: Phase, happening: Happening) -> Phase:
    """The phase after `happening`. It never goes back."""
    return TRANSITIONS[phase, happening]
