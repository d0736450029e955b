"""The tables of sequences, checked with another implementation of the protocol."""

from __future__ import annotations

from itertools import groupby

import pytest
from wsproto.frame_protocol import FrameProtocol, Opcode, ParseFailed

from wsstream.testing import (
    EXAMPLE_KEY,
    ILLEGAL_FRAMES,
    LEGAL_SEQUENCES,
    Event,
    FrameCase,
    Role,
    binary,
    text,
)

ROLES = pytest.mark.parametrize("to", ["client", "server"])
CASES = (*ILLEGAL_FRAMES, *LEGAL_SEQUENCES)
# wsproto refuses code 1014, which was registered after the RFC (section 11.7).
KNOWN_CASES = [case for case in CASES if case.name != "close-1014"]


def seen_by_wsproto(case: FrameCase, to: Role) -> tuple[list[Event], int | None]:
    """The events, and the code it fails with. It reads small cases byte by byte and stops at a Close."""
    protocol = FrameProtocol(client=to == "client", extensions=[])
    data = case.data(to)
    step = 1 if len(data) < 1000 else len(data)
    events: list[Event] = []
    pieces: list = []
    try:
        for start in range(0, len(data), step):
            protocol.receive_bytes(data[start : start + step])
            for frame in protocol.received_frames():
                if frame.opcode in (Opcode.PING, Opcode.PONG):
                    events.append(Event(frame.opcode.name.lower(), bytes(frame.payload)))
                elif frame.opcode is Opcode.CLOSE:
                    code, reason = frame.payload
                    return [*events, Event("close", (int(code), reason or ""))], None
                else:
                    pieces.append(frame.payload)
                    if frame.message_finished:
                        events.append(message(pieces))
                        pieces = []
    except ParseFailed as error:
        return events, int(error.code)
    return events, None


def message(pieces: list) -> Event:
    if isinstance(pieces[0], str):
        return Event("text", "".join(pieces))
    return Event("binary", b"".join(pieces))


@ROLES
@pytest.mark.parametrize("case", KNOWN_CASES, ids=str)
def test_another_implementation_agrees(case: FrameCase, to: Role) -> None:
    assert seen_by_wsproto(case, to) == (list(case.events), case.code)


def test_names_are_unique_and_readable_as_test_ids() -> None:
    names = [case.name for case in CASES]
    assert [name for name, same in groupby(sorted(names)) if len(list(same)) > 1] == []
    assert all(name.replace("-", "").isalnum() and name.islower() for name in names)


def test_illegal_cases_have_a_code_and_legal_ones_have_none() -> None:
    assert {case.code for case in ILLEGAL_FRAMES} == {1002, 1007}
    assert {case.code for case in LEGAL_SEQUENCES} == {None}


def test_frames_to_a_server_are_masked_with_the_key_and_those_to_a_client_are_not() -> None:
    case = next(case for case in LEGAL_SEQUENCES if case.name == "two-messages")
    assert case.data("client") == text("one") + binary(b"two")
    assert case.data("server") == text("one", mask=EXAMPLE_KEY) + binary(b"two", mask=EXAMPLE_KEY)
    assert case.data("server", mask=b"abcd") == text("one", mask=b"abcd") + binary(b"two", mask=b"abcd")


def test_wrong_masking_is_masked_to_a_client_and_not_to_a_server() -> None:
    case = next(case for case in ILLEGAL_FRAMES if case.name == "wrong-masking-of-text")
    assert case.data("client") == text("hi", mask=EXAMPLE_KEY)
    assert case.data("server") == text("hi")
