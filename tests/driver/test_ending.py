"""How a connection ends: any happenings in any order leave one end, told once, and the right exceptions."""

from __future__ import annotations

from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream import (
    ClosedLocally,
    CloseInfo,
    ConnectionBroken,
    InvalidUTF8,
    MessageTooBig,
    ProtocolViolation,
    StreamEnded,
)
from wsstream.codec.events import Close, Violation
from wsstream.driver.ending import Ending
from wsstream.driver.endtimer import EndTimer
from wsstream.driver.phase import Phase
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State
from wsstream.testing import close

pytestmark = pytest.mark.anyio

UNLIMITED = 1 << 30


class Witness:
    """The listener of an ending, which notes what it is told and sends Close as a driver does."""

    def __init__(self) -> None:
        self.time = 0.0
        self.told: list[str] = []
        self.connection = Connection(client=True)
        self.ending = Ending(self.connection, EndTimer(10, lambda: self.time), self)
        self.phases = [self.ending.phase]

    def on_close(self, close: Close, *, urgent: bool) -> None:
        self.told.append("close")
        self.connection.send_close(close, urgent=urgent)

    def on_leave(self) -> None:
        self.told.append("leave")

    def on_end(self, *, discard: bool) -> None:
        self.told.append("end")

    def on_drop(self) -> None:
        self.told.append("drop")

    def wake_at(self, deadline: float) -> None:
        assert deadline == self.ending.timer.deadline

    def receive(self, data: bytes) -> None:
        """What the intake does with what has come."""
        if self.ending.phase < Phase.DROPPED:
            for event in self.connection.receive(data, UNLIMITED):
                if isinstance(event, Close):
                    self.ending.receive_close()
                elif isinstance(event, Violation):
                    self.ending.receive_violation()

    # -- what can happen -----------------------------------------------------------------------

    def they_close(self) -> None:
        self.receive(close(4000, "theirs"))

    def they_break_a_rule(self) -> None:
        self.receive(b"\x83\x00")

    def we_close(self) -> None:
        self.ending.close(1000, "ours")

    def we_close_urgently(self) -> None:
        self.ending.close(None, "", urgent=True, hurried=True)

    def we_abort(self) -> None:
        self.ending.abort()

    def we_fail(self) -> None:
        self.ending.fail(MessageTooBig("too big"))

    def we_act_on_the_violation(self) -> None:
        self.ending.fail_for_violation()

    def the_network_breaks(self) -> None:
        self.ending.drop(OSError("gone"))

    def time_passes(self) -> None:
        self.time = max(self.time, self.ending.timer.deadline if self.ending.timer.deadline < inf else 0)
        self.ending.tick(self.time, lambda: None)

    def output_is_stuck(self) -> None:
        self.ending.hurry()
        self.time += 3
        self.ending.tick(self.time, lambda: 0.0)

    def the_tasks_end(self) -> None:
        if self.ending.phase >= Phase.DROPPED:
            self.ending.finish(lambda: None)


HAPPENINGS = [name for name in vars(Witness) if name.startswith(("they_", "we_", "the_", "time_", "output_"))]


@given(st.lists(st.sampled_from(HAPPENINGS), max_size=8))
async def test_whatever_happens_in_whatever_order_there_is_one_end(names: list[str]) -> None:
    witness = Witness()
    ending, info, cause = witness.ending, None, None
    for name in names:
        before = ending.phase
        getattr(witness, name)()
        assert ending.phase >= before, "there is no way back"
        assert (ending.info is not None) == (ending.phase >= Phase.ENDED), (
            "the end is certain, and told, then"
        )
        if info is None:
            info, cause = ending.info, ending.cause
        assert (ending.info, ending.cause) == (info, cause), "how it ended never changes"
        assert ending.is_open == (ending.phase is Phase.RUNNING)
        assert ending.is_open <= (witness.connection.state in (State.OPEN, State.VIOLATED))
        assert ending.is_done == (ending.phase is Phase.DONE)
        if ending.phase >= Phase.DROPPED:
            assert witness.connection.state is State.CLOSED
            assert ending.timer.deadline == inf, "nothing is due any more"
        check_errors(ending)
    assert witness.told.count("drop") == (ending.phase >= Phase.DROPPED), "the transport is closed once"
    assert witness.told.count("close") <= 1


def check_errors(ending: Ending) -> None:
    error = ending.receive_error()
    if ending.left:
        assert isinstance(error, ClosedLocally)
        assert isinstance(ending.send_error(), ClosedLocally)
    elif ending.info is None:
        assert error is None, "data may still arrive"
        ending.check_open()
    else:
        assert isinstance(error, StreamEnded if ending.info.clean else ConnectionBroken)
        assert error.info == ending.info
        with pytest.raises(ConnectionBroken) as caught:
            ending.check_open()
        assert caught.value.__cause__ is ending.cause


@pytest.mark.parametrize(
    ("happening", "info", "cause"),
    [
        ("they_close", CloseInfo(4000, "theirs", True), type(None)),
        ("the_network_breaks", CloseInfo(1006, "", False), OSError),
        ("we_abort", CloseInfo(1006, "", False), type(None)),
        ("we_fail", CloseInfo(1009, "too big", False), MessageTooBig),
    ],
)
async def test_what_is_told_of_the_end(happening: str, info: CloseInfo, cause: type) -> None:
    witness = Witness()
    getattr(witness, happening)()
    assert witness.ending.info == info
    assert isinstance(witness.ending.cause, cause)


async def test_a_violation_leaves_a_tenth_of_a_second_to_answer_what_came_before() -> None:
    witness = Witness()
    witness.they_break_a_rule()
    assert witness.ending.is_open
    assert witness.ending.timer.deadline == 0.1
    witness.time_passes()
    assert witness.ending.phase is Phase.ENDED
    assert isinstance(witness.ending.cause, ProtocolViolation)
    assert witness.connection.close_sent == Close(1002, "opcode 3 is reserved")


async def test_a_violation_counts_though_the_network_breaks_before_it_was_acted_on() -> None:
    witness = Witness()
    witness.connection.note_violation(Violation(1007, "a text message is not UTF-8"))
    witness.the_network_breaks()
    assert witness.ending.info == CloseInfo(1007, "a text message is not UTF-8", False)
    assert isinstance(witness.ending.cause, InvalidUTF8)


async def test_after_the_end_a_mebibyte_is_read_and_no_more() -> None:
    witness = Witness()
    assert witness.ending.linger(1 << 30), "it goes on"
    witness.we_fail()
    assert witness.ending.linger(1 << 20)
    assert not witness.ending.linger(1)


async def test_waiting_for_the_end() -> None:
    witness = Witness()
    witness.they_close()
    witness.the_network_breaks()
    witness.the_tasks_end()
    assert await witness.ending.wait_closed() == CloseInfo(4000, "theirs", True)
    broken = Witness()
    broken.the_network_breaks()
    broken.we_abort()  # too late to have been what ended it
    broken.the_tasks_end()
    with pytest.raises(ConnectionBroken):
        await broken.ending.wait_closed()
    aborted = Witness()
    aborted.we_abort()
    aborted.the_tasks_end()
    assert (await aborted.ending.wait_closed()).code == 1006
