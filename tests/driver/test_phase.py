"""The phases of the end: the table, and that the ending of a connection follows it."""

from __future__ import annotations

from itertools import product

import pytest

from wsstream.driver.phase import TRANSITIONS, Happening, Phase, next_phase


@pytest.mark.parametrize(("phase", "happening"), [*product(Phase, Happening)], ids=lambda each: each.name)
def test_a_phase_moves_forward_or_stays(phase: Phase, happening: Happening) -> None:
    if (phase, happening) in TRANSITIONS:
        assert next_phase(phase, happening) >= phase
    else:
        assert happening is Happening.FINISH, "everything else may happen at any time"
        assert phase < Phase.DROPPED


def test_every_phase_can_be_reached() -> None:
    reached = {Phase.RUNNING}
    for _ in Phase:
        reached |= {target for (phase, _), target in TRANSITIONS.items() if phase in reached}
    assert reached == set(Phase)


def test_only_a_dropped_connection_is_done_and_a_done_one_stays() -> None:
    before_done = {phase for (phase, _), target in TRANSITIONS.items() if target is Phase.DONE}
    assert before_done == {Phase.DROPPED, Phase.DONE}
    assert {next_phase(Phase.DONE, happening) for happening in Happening} == {Phase.DONE}
