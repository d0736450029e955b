"""The states of one end of a connection, and the messages that may pass in each: two tables.

A received message that is not in `RECEIVE` breaks the protocol. To send one that is not in `SEND` is a
mistake of this end's program. Some are not in the tables, as they may pass in every state from `IDLE` on:
`Bye`, an `Error` without id, and messages about a request that is over, which are ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from typing import Any, Final

from wsstream.files.protocol.messages import (
    Abort,
    Accept,
    Ack,
    Cancel,
    Delete,
    Done,
    End,
    Entries,
    Error,
    Get,
    Hello,
    List,
    Offer,
    Progress,
    Reject,
)

__all__ = ["ACKS", "CROSSING", "HEARS", "RECEIVE", "REQUESTS", "SEND", "SERVES", "State", "WrongState"]


class State(Enum):
    """What one end does at present. At most one request is active, so this is all there is to know."""

    HELLO = auto()
    """It has sent its Hello and waits for the peer's."""
    IDLE = auto()
    """No request is active: either end may make one."""
    # the end that lists
    LISTED = auto()
    """It has sent List and waits for the page."""
    LOOKING = auto()
    """It has received List and owes the page."""
    # the end that deletes
    DELETED = auto()
    """It has sent Delete and waits for Done."""
    DELETING = auto()
    """It has received Delete and owes Done."""
    # the sender
    REQUESTED = auto()
    """It has received Get and owes an offer."""
    OFFERED = auto()
    """It has sent Offer and waits for the decision."""
    CHECKING = auto()
    """It was asked to resume and compares what the receiver has with its own file."""
    SENDING = auto()
    """It sends data, as far as there is credit."""
    SENT = auto()
    """It has sent End and waits for Done."""
    # the receiver
    ASKED = auto()
    """It has sent Get and waits for the offer."""
    DECIDING = auto()
    """It has received Offer and owes the decision."""
    RESUMING = auto()
    """It has asked to resume and has received nothing since."""
    RECEIVING = auto()
    """It receives data."""
    VERIFYING = auto()
    """It has received End and owes Done."""
    CANCELLING = auto()
    """It has sent Cancel, drops all data, and waits for Abort."""
    # both
    CLOSED = auto()
    """The connection is over: nothing is sent, and what arrives is ignored."""

    __hash__ = object.__hash__  # members are compared by identity; that of Enum is a function in Python


class WrongState(Exception):
    """The program asked for something that the state of the session does not allow."""


REQUESTS: Final = (Get, List, Delete, Offer)
SERVES: Final = frozenset(
    {
        *(State.REQUESTED, State.OFFERED, State.CHECKING, State.SENDING, State.SENT),
        *(State.LOOKING, State.DELETING),
    }
)
"""The states of the end that sends a file or a page, or deletes: it answers Cancel by Abort."""
CROSSING: Final = frozenset({State.ASKED, State.LISTED, State.DELETED, State.OFFERED, State.CANCELLING})
"""The states in which a request of the peer may arrive that was sent before the peer saw this end's."""
HEARS: Final = frozenset(
    {State.CHECKING, State.SENDING, State.SENT, State.RESUMING, State.RECEIVING}
) | CROSSING  # fmt: skip
"""The states in which the peer owes a sign of life."""

ACKS: Final = frozenset({State.RESUMING, State.RECEIVING, State.VERIFYING})
"""The states in which this end sends acks."""

_Table = Mapping[tuple[State, type[Any]], tuple[State, ...]]
S = State

RECEIVE: Final[_Table] = {
    (S.HELLO, Hello): (S.IDLE, S.CLOSED),
    (S.IDLE, Get): (S.REQUESTED, S.IDLE),
    (S.IDLE, List): (S.LOOKING, S.IDLE),
    (S.IDLE, Delete): (S.DELETING, S.IDLE),
    (S.IDLE, Offer): (S.DECIDING, S.IDLE),
    (S.LISTED, Entries): (S.IDLE,),
    (S.LISTED, Reject): (S.IDLE,),
    (S.LISTED, Progress): (S.LISTED,),
    (S.LISTED, Abort): (S.IDLE,),
    (S.LISTED, Error): (S.IDLE,),
    (S.LOOKING, Cancel): (S.IDLE,),
    (S.LOOKING, Error): (S.IDLE,),
    (S.DELETED, Done): (S.IDLE,),
    (S.DELETED, Reject): (S.IDLE,),
    (S.DELETED, Progress): (S.DELETED,),
    (S.DELETED, Abort): (S.IDLE,),
    (S.DELETED, Error): (S.IDLE,),
    (S.DELETING, Cancel): (S.IDLE,),
    (S.DELETING, Error): (S.IDLE,),
    # the sender
    (S.REQUESTED, Cancel): (S.IDLE,),
    (S.REQUESTED, Error): (S.IDLE,),
    (S.OFFERED, Accept): (S.SENDING, S.CHECKING),
    (S.OFFERED, Reject): (S.IDLE,),
    (S.OFFERED, Done): (S.IDLE,),
    (S.OFFERED, Ack): (S.OFFERED,),  # of the attempt to resume that this end refused
    (S.OFFERED, Progress): (S.OFFERED,),
    (S.OFFERED, Cancel): (S.IDLE,),
    (S.OFFERED, Error): (S.IDLE,),
    (S.CHECKING, Ack): (S.CHECKING,),
    (S.CHECKING, Progress): (S.CHECKING,),
    (S.CHECKING, Cancel): (S.IDLE,),
    (S.CHECKING, Error): (S.IDLE,),
    (S.SENDING, Ack): (S.SENDING,),
    (S.SENDING, Progress): (S.SENDING,),
    (S.SENDING, Cancel): (S.IDLE,),
    (S.SENDING, Error): (S.IDLE,),
    (S.SENT, Ack): (S.SENT,),
    (S.SENT, Progress): (S.SENT,),
    (S.SENT, Done): (S.IDLE,),
    (S.SENT, Cancel): (S.IDLE,),
    (S.SENT, Error): (S.IDLE,),
    # the receiver; `bytes` is a binary message
    (S.ASKED, Offer): (S.DECIDING, S.IDLE),
    (S.ASKED, Reject): (S.IDLE,),
    (S.ASKED, Progress): (S.ASKED,),
    (S.ASKED, Abort): (S.IDLE,),
    (S.ASKED, Error): (S.IDLE,),
    (S.DECIDING, Progress): (S.DECIDING,),
    (S.DECIDING, Abort): (S.IDLE,),
    (S.DECIDING, Error): (S.IDLE,),
    (S.RESUMING, Offer): (S.DECIDING,),  # from 0, as the check failed
    (S.RESUMING, bytes): (S.RECEIVING, S.CANCELLING),
    (S.RESUMING, End): (S.VERIFYING, S.CANCELLING),
    (S.RESUMING, Progress): (S.RESUMING,),
    (S.RESUMING, Abort): (S.IDLE,),
    (S.RESUMING, Error): (S.IDLE,),
    (S.RECEIVING, bytes): (S.RECEIVING, S.CANCELLING),
    (S.RECEIVING, End): (S.VERIFYING, S.CANCELLING),
    (S.RECEIVING, Progress): (S.RECEIVING,),
    (S.RECEIVING, Abort): (S.IDLE,),
    (S.RECEIVING, Error): (S.IDLE,),
    (S.VERIFYING, Progress): (S.VERIFYING,),
    (S.VERIFYING, Abort): (S.IDLE,),
    (S.VERIFYING, Error): (S.IDLE,),
    # what the peer sent before it saw Cancel is dropped, and an end is an end
    (S.CANCELLING, bytes): (S.CANCELLING,),
    (S.CANCELLING, Offer): (S.CANCELLING,),
    (S.CANCELLING, Entries): (S.IDLE,),
    (S.CANCELLING, Done): (S.IDLE,),
    (S.CANCELLING, End): (S.CANCELLING,),
    (S.CANCELLING, Progress): (S.CANCELLING,),
    (S.CANCELLING, Reject): (S.IDLE,),
    (S.CANCELLING, Abort): (S.IDLE,),
    (S.CANCELLING, Error): (S.IDLE,),
}
"""The states that a received message leads to. A request that crosses one of this end is not in the table."""

SEND: Final[_Table] = {
    (S.IDLE, Get): (S.ASKED,),
    (S.IDLE, List): (S.LISTED,),
    (S.IDLE, Delete): (S.DELETED,),
    (S.IDLE, Offer): (S.OFFERED,),
    (S.LISTED, Cancel): (S.CANCELLING,),
    (S.LOOKING, Entries): (S.IDLE,),
    (S.LOOKING, Reject): (S.IDLE,),
    (S.LOOKING, Progress): (S.LOOKING,),
    (S.DELETED, Cancel): (S.CANCELLING,),
    (S.DELETING, Done): (S.IDLE,),
    (S.DELETING, Reject): (S.IDLE,),
    (S.DELETING, Progress): (S.DELETING,),
    # the sender
    (S.REQUESTED, Offer): (S.OFFERED,),
    (S.REQUESTED, Reject): (S.IDLE,),
    (S.REQUESTED, Progress): (S.REQUESTED,),
    (S.OFFERED, Progress): (S.OFFERED,),
    (S.OFFERED, Abort): (S.IDLE,),
    (S.CHECKING, Offer): (S.OFFERED,),
    (S.CHECKING, Progress): (S.CHECKING,),
    (S.CHECKING, Abort): (S.IDLE,),
    (S.SENDING, bytes): (S.SENDING,),
    (S.SENDING, End): (S.SENT,),
    (S.SENDING, Progress): (S.SENDING,),
    (S.SENDING, Abort): (S.IDLE,),
    (S.SENT, Progress): (S.SENT,),
    (S.SENT, Abort): (S.IDLE,),
    # the receiver
    (S.ASKED, Cancel): (S.CANCELLING,),
    (S.DECIDING, Accept): (S.RECEIVING, S.RESUMING),
    (S.DECIDING, Reject): (S.IDLE,),
    (S.DECIDING, Done): (S.IDLE,),
    (S.DECIDING, Progress): (S.DECIDING,),
    (S.RESUMING, Progress): (S.RESUMING,),
    (S.RESUMING, Cancel): (S.CANCELLING,),
    (S.RECEIVING, Progress): (S.RECEIVING,),
    (S.RECEIVING, Cancel): (S.CANCELLING,),
    (S.VERIFYING, Progress): (S.VERIFYING,),
    (S.VERIFYING, Cancel): (S.CANCELLING,),
    (S.VERIFYING, Done): (S.IDLE,),
}
"""The states that a sent message leads to. The session sends acks by itself, in `ACKS`."""
