"""The tables of states: complete, closed, and the same seen from both ends."""

from __future__ import annotations

from itertools import product

import pytest

from wsstream.files.protocol.messages import (
    KINDS,
    Abort,
    Accept,
    Ack,
    Bye,
    Cancel,
    Error,
    Hello,
    List,
    Progress,
)
from wsstream.files.protocol.states import ACKS, CROSSING, HEARS, RECEIVE, REQUESTS, SEND, SERVES, State

S = State
RECEIVERS = {S.ASKED, S.DECIDING, S.RESUMING, S.RECEIVING, S.VERIFYING, S.CANCELLING}
SENDERS = {S.REQUESTED, S.OFFERED, S.CHECKING, S.SENDING, S.SENT}
LISTERS = {S.LISTED, S.LOOKING}
DELETERS = {S.DELETED, S.DELETING}


def test_every_state_has_a_role() -> None:
    assert RECEIVERS | SENDERS | LISTERS | DELETERS | {S.HELLO, S.IDLE, S.CLOSED} == set(State)
    assert SENDERS | {S.LOOKING, S.DELETING} == SERVES
    assert HEARS >= CROSSING


def test_every_kind_of_message_is_in_the_tables() -> None:
    received, sent = {kind for _, kind in RECEIVE}, {kind for _, kind in SEND}
    assert received == {*KINDS.values(), bytes} - {Bye}
    assert sent == {*KINDS.values(), bytes} - {Bye, Hello, Ack, Error}


def test_every_state_can_be_reached_and_left() -> None:
    moves = {
        (state, target)
        for table in (RECEIVE, SEND)
        for (state, _), targets in table.items()
        for target in targets
    }
    moves |= {(S.CHECKING, S.SENDING)}  # a check that has passed is no message
    reached = {S.HELLO}
    for _ in State:
        reached |= {target for state, target in moves if state in reached}
    assert reached == set(State)
    back = {S.IDLE}
    for _ in State:
        back |= {state for state, target in moves if target in back}
    assert back == set(State) - {S.CLOSED}


def name_of(state: State) -> str:
    return state.name


@pytest.mark.parametrize("state", sorted(SENDERS | {S.LOOKING, S.DELETING}, key=name_of), ids=name_of)
def test_whoever_serves_can_be_cancelled_at_any_time(state: State) -> None:
    assert RECEIVE[state, Cancel] == (S.IDLE,)
    assert RECEIVE[state, Error] == (S.IDLE,)


@pytest.mark.parametrize("state", sorted(RECEIVERS | {S.LISTED, S.DELETED}, key=name_of), ids=name_of)
def test_whoever_receives_can_be_told_of_the_end_at_any_time(state: State) -> None:
    assert RECEIVE[state, Abort] == (S.IDLE,)
    assert RECEIVE[state, Error] == (S.IDLE,)
    assert RECEIVE[state, Progress] == (state,)


def test_data_is_possible_only_after_an_accept() -> None:
    assert {state for state, kind in RECEIVE if kind is bytes} == {S.RESUMING, S.RECEIVING, S.CANCELLING}
    assert {state for state, kind in SEND if kind is bytes} == {S.SENDING}
    assert {state for (state, kind) in SEND if kind is Accept} == {S.DECIDING}


def test_acks_are_sent_by_receivers_and_taken_by_senders() -> None:
    assert {S.RESUMING, S.RECEIVING, S.VERIFYING} == ACKS
    assert {state for state, kind in RECEIVE if kind is Ack} == SENDERS - {S.REQUESTED}


def test_requests_start_from_idle_or_answer_one() -> None:
    starts = {(state, kind) for state, kind in SEND if kind in REQUESTS}
    assert {state for state, kind in starts} == {S.IDLE, S.REQUESTED, S.CHECKING}
    assert {(state, kind) for state, kind in starts if kind is List} == {(S.IDLE, List)}


# -- seen from both ends: what one may send, the other can receive -------------------------------

PAIRS = [
    # the states of the two ends that belong together when nothing is under way between them
    (S.LISTED, S.LOOKING),
    (S.DELETED, S.DELETING),
    (S.ASKED, S.REQUESTED),
    (S.DECIDING, S.OFFERED),
    (S.RESUMING, S.CHECKING),
    (S.RESUMING, S.SENDING),
    (S.RECEIVING, S.SENDING),
    (S.VERIFYING, S.SENT),
]


@pytest.mark.parametrize(
    "pair", [*PAIRS, *((b, a) for a, b in PAIRS)], ids=lambda pair: "-".join(s.name for s in pair)
)
def test_what_one_end_may_send_the_other_may_receive(pair: tuple[State, State]) -> None:
    here, there = pair
    for (state, kind), targets in SEND.items():
        if state is here:
            assert (there, kind) in RECEIVE, kind
            results = RECEIVE[there, kind]
            together = {*PAIRS, *((b, a) for a, b in PAIRS), (S.IDLE, S.IDLE), (S.CANCELLING, S.IDLE)}
            assert any(each in together for each in product(targets, results)), kind
