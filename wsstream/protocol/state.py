"""The states of an open connection and what moves it from one to the next.

A pair that is not in `TRANSITIONS` is a mistake of the caller, not of the peer.
"""

from __future__ import annotations

from enum import Enum, auto

__all__ = ["DELIVERS", "RECEIVES", "TRANSITIONS", "Input", "State", "WrongState", "next_state"]


class State(Enum):
    """Where the connection is between the opening handshake and its end."""

    OPEN = auto()
    VIOLATED = auto()
    """The peer broke a rule. Nothing more is received; messages may still be sent until this endpoint fails
    the connection, so that the answers to messages before the violation can precede the Close frame."""
    CLOSE_SENT = auto()
    """This endpoint sent Close and waits for the peer's. Data of the peer is dropped."""
    CLOSE_RECEIVED = auto()
    """The peer sent Close. Ours is due at once, and no data may be sent any more."""
    CLOSE_DONE = auto()
    """Both Close frames have passed. The TCP connection is to be closed, by the server first."""
    FAILED = auto()
    """This endpoint failed the connection (section 7.1.7): a Close with the reason is queued unless one was
    sent before, and input is ignored."""
    CLOSED = auto()
    """The transport has ended."""

    __hash__ = object.__hash__  # members are compared by identity; that of Enum is a function in Python


class Input(Enum):
    """What can happen."""

    RECEIVE_DATA = auto()
    RECEIVE_CONTROL = auto()
    RECEIVE_CLOSE = auto()
    VIOLATION = auto()
    """A rule broken by the peer was found."""
    SEND_DATA = auto()
    SEND_CONTROL = auto()
    SEND_CLOSE = auto()
    FAIL = auto()
    """This endpoint fails the connection, for a violation or for a reason of its own."""
    EOF = auto()

    __hash__ = object.__hash__


TRANSITIONS: dict[tuple[State, Input], State] = {
    (State.OPEN, Input.RECEIVE_DATA): State.OPEN,
    (State.OPEN, Input.RECEIVE_CONTROL): State.OPEN,
    (State.OPEN, Input.RECEIVE_CLOSE): State.CLOSE_RECEIVED,
    (State.OPEN, Input.VIOLATION): State.VIOLATED,
    (State.OPEN, Input.SEND_DATA): State.OPEN,
    (State.OPEN, Input.SEND_CONTROL): State.OPEN,
    (State.OPEN, Input.SEND_CLOSE): State.CLOSE_SENT,
    (State.OPEN, Input.FAIL): State.FAILED,
    (State.OPEN, Input.EOF): State.CLOSED,
    (State.VIOLATED, Input.VIOLATION): State.VIOLATED,
    (State.VIOLATED, Input.SEND_DATA): State.VIOLATED,
    (State.VIOLATED, Input.SEND_CONTROL): State.VIOLATED,
    (State.VIOLATED, Input.FAIL): State.FAILED,
    (State.VIOLATED, Input.EOF): State.CLOSED,
    (State.CLOSE_SENT, Input.RECEIVE_CONTROL): State.CLOSE_SENT,
    (State.CLOSE_SENT, Input.RECEIVE_CLOSE): State.CLOSE_DONE,
    (State.CLOSE_SENT, Input.VIOLATION): State.FAILED,
    (State.CLOSE_SENT, Input.FAIL): State.FAILED,
    (State.CLOSE_SENT, Input.EOF): State.CLOSED,
    (State.CLOSE_RECEIVED, Input.SEND_CLOSE): State.CLOSE_DONE,
    (State.CLOSE_RECEIVED, Input.EOF): State.CLOSED,
    (State.CLOSE_DONE, Input.EOF): State.CLOSED,
    (State.FAILED, Input.FAIL): State.FAILED,
    (State.FAILED, Input.EOF): State.CLOSED,
    (State.CLOSED, Input.EOF): State.CLOSED,
}

DELIVERS = frozenset(state for state, happening in TRANSITIONS if happening is Input.RECEIVE_DATA)
"""The states in which messages of the peer are delivered."""

RECEIVES = frozenset(state for state, happening in TRANSITIONS if happening is Input.RECEIVE_CONTROL)
"""The states in which input is decoded at all."""


class WrongState(Exception):
    """The caller asked for something that the connection's state does not allow."""


def next_state(state: State, happening: Input) -> State:
    """The state after `happening`.

    Raises:
        WrongState: `happening` is not possible in `state`.
    """
    try:
        return TRANSITIONS[state, happening]
    except KeyError:
        raise WrongState(f"{happening.name} is not possible in state {state.name}") from None
