"""The table of states: complete, closed, and with no way back."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.protocol.state import DELIVERS, RECEIVES, TRANSITIONS, Input, State, WrongState, next_state

PAIRS = [
    pytest.param(state, happening, id=f"{state.name}-{happening.name}")
    for state, happening in product(State, Input)
]
RECEIVING = {Input.RECEIVE_DATA, Input.RECEIVE_CONTROL, Input.RECEIVE_CLOSE}
SENDING = {Input.SEND_DATA, Input.SEND_CONTROL, Input.SEND_CLOSE}


@pytest.mark.parametrize(("state", "happening"), PAIRS)
def test_every_input_in_every_state_leads_to_a_state_or_is_refused(state: State, happening: Input) -> None:
    if (state, happening) in TRANSITIONS:
        assert next_state(state, happening) in State
    else:
        with pytest.raises(WrongState, match=f"{happening.name} is not possible in state {state.name}"):
            next_state(state, happening)


def allowed(state: State) -> set[Input]:
    return {happening for start, happening in TRANSITIONS if start is state}


def test_an_open_connection_allows_everything() -> None:
    assert allowed(State.OPEN) == set(Input)


def test_the_end_of_the_transport_is_possible_everywhere_and_the_end_of_everything() -> None:
    assert {next_state(state, Input.EOF) for state in State} == {State.CLOSED}
    assert allowed(State.CLOSED) == {Input.EOF}


@pytest.mark.parametrize("state", list(State)[2:], ids=lambda s: s.name)
def test_neither_data_nor_pings_are_sent_once_the_closing_handshake_began(state: State) -> None:
    assert not allowed(state) & {Input.SEND_DATA, Input.SEND_CONTROL}


def test_close_is_sent_once_and_received_once() -> None:
    for first, second in ((Input.SEND_CLOSE, Input.RECEIVE_CLOSE), (Input.RECEIVE_CLOSE, Input.SEND_CLOSE)):
        state = next_state(State.OPEN, first)
        assert first not in allowed(state)
        state = next_state(state, second)
        assert state is State.CLOSE_DONE
        assert not allowed(state) & (RECEIVING | SENDING)


def test_nothing_is_received_after_the_peers_close_or_a_violation() -> None:
    for state in (State.VIOLATED, State.CLOSE_RECEIVED, State.CLOSE_DONE, State.FAILED, State.CLOSED):
        assert not allowed(state) & RECEIVING


def test_a_violation_lets_messages_be_answered_until_the_connection_fails() -> None:
    assert allowed(State.VIOLATED) >= {Input.SEND_DATA, Input.SEND_CONTROL, Input.FAIL}
    assert Input.SEND_CLOSE not in allowed(State.VIOLATED), "its Close comes with failing"
    assert next_state(State.CLOSE_SENT, Input.VIOLATION) is State.FAILED, "nothing is left to be answered"


def test_the_sets_of_states_follow_from_the_table() -> None:
    assert {State.OPEN} == DELIVERS
    assert {State.OPEN, State.CLOSE_SENT} == RECEIVES


def test_every_state_can_be_reached() -> None:
    reached = {State.OPEN}
    for _ in State:
        reached |= {target for (state, _), target in TRANSITIONS.items() if state in reached}
    assert reached == set(State)


def test_there_is_no_way_back() -> None:
    order = list(State)
    for (state, _), target in TRANSITIONS.items():
        assert order.index(target) >= order.index(state)


@given(st.lists(st.sampled_from(Input), max_size=12))
def test_any_inputs_leave_the_machine_in_a_known_state(inputs: list[Input]) -> None:
    state = State.OPEN
    for happening in inputs:
        try:
            state = next_state(state, happening)
        except WrongState:
            assert (state, happening) not in TRANSITIONS
        assert state in State
