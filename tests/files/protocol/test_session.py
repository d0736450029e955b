"""A session: every message in every state, requests that cross, ends, timers."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from kit.file_messages import DIGEST, hello, one_of_each
from kit.file_sessions import (
    PEER_HELLO,
    SEGMENT,
    SIZE,
    accept,
    feed,
    fitting,
    in_state,
    joined,
    offer,
    pump,
    sent_by,
    session,
)

from wsstream.files.errors import TransferError
from wsstream.files.protocol.events import Failed, Stopped
from wsstream.files.protocol.messages import (
    KINDS,
    Abort,
    Ack,
    Bye,
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
from wsstream.files.protocol.session import HEARTBEAT, HELLO_TIMEOUT, PEER_TIMEOUT, Session
from wsstream.files.protocol.states import ACKS, CROSSING, HEARS, RECEIVE, SEND, SERVES, State, WrongState

S = State
OPEN = [state for state in State if state is not S.CLOSED]
SENDERS = [S.REQUESTED, S.OFFERED, S.CHECKING, S.SENDING, S.SENT]
RECEIVERS = [S.ASKED, S.DECIDING, S.RESUMING, S.RECEIVING, S.VERIFYING, S.CANCELLING]


def name_of(value: State | type) -> str:
    return value.__name__ if isinstance(value, type) else value.name


def error_of(event: object) -> TransferError:
    assert isinstance(event, Stopped | Failed)
    return event.error


def check_failed(subject: Session, error: str, code: int) -> None:
    """The connection is over, the peer was told why, and the program was."""
    assert subject.state is S.CLOSED
    assert subject.error is not None
    assert subject.error.error == error
    last = sent_by(subject)[-1]
    assert isinstance(last, Error)
    assert (last.id, last.code, last.reason) == (None, error, subject.error.reason)
    assert subject.close == (code, subject.error.reason)
    assert subject.deadline is None
    for event in subject.events():  # unless `feed` has returned them
        assert error_of(event) is subject.error


# -- every message in every state ----------------------------------------------------------------


@pytest.mark.parametrize("client", [True, False], ids=["client", "server"])
@pytest.mark.parametrize(("state", "kind"), list(product(OPEN, [*KINDS.values()])), ids=name_of)
def test_a_message_is_possible_in_the_states_of_the_table_and_breaks_the_protocol_in_others(
    state: State, kind: type, client: bool
) -> None:
    subject, id = in_state(state, client=client)
    fresh_id = 4 if client else 3  # of a new request of the peer
    wanted = id or fresh_id
    message = next(each for each in one_of_each(wanted) if type(each) is kind)
    feed(subject, fitting(subject, message))
    if kind is Bye and state is not S.HELLO:
        assert subject.state is state
    elif (state, kind) in RECEIVE:
        assert subject.state in RECEIVE[state, kind]
        assert subject.error is None
    else:
        check_failed(subject, "protocol", 1002)


@pytest.mark.parametrize("state", OPEN, ids=name_of)
def test_data_is_possible_in_the_states_of_the_table(state: State) -> None:
    subject, _ = in_state(state)
    taken = subject.receive_data(10, 0.0)
    if (state, bytes) in RECEIVE:
        assert subject.state in RECEIVE[state, bytes]
        assert taken == (state is not S.CANCELLING)
        assert subject.error is None
    else:
        assert not taken
        check_failed(subject, "protocol", 1002)


@pytest.mark.parametrize("state", OPEN, ids=name_of)
def test_an_error_without_id_is_the_end_in_every_state(state: State) -> None:
    subject, _ = in_state(state)
    (told,) = feed(subject, Error("superseded", "a newer one", "never"))
    assert (error_of(told).error, error_of(told).reason) == ("superseded", "a newer one")
    assert (subject.state, subject.close) == (S.CLOSED, (1000, ""))
    assert subject.outgoing() == [], "it is not answered"


def test_messages_about_a_request_that_is_over_are_ignored() -> None:
    subject, _ = in_state(S.IDLE)
    feed(subject, List(2, ""))
    subject.send(Reject(2, "denied", "", "never"), 0.0)
    subject.send(Get(1, "a"), 0.0)
    feed(subject, Reject(1, "denied", "", "never"))
    subject.outgoing()
    for id, kind in product((1, 2), (Ack, Done, Abort, Cancel, Progress, End, Error, Reject, Entries)):
        feed(subject, next(each for each in one_of_each(id) if type(each) is kind))
        assert (subject.state, subject.outgoing()) == (S.IDLE, [])
    feed(subject, offer(1))
    assert subject.state is S.IDLE, "the answer to a request that was taken back"


@pytest.mark.parametrize(
    "message", [Ack(3, 0, 0), Abort(4, "io", "", True), Get(1, "a"), offer(1), List(3, "")]
)
def test_an_id_that_no_request_had_breaks_the_protocol(message) -> None:
    subject, _ = in_state(S.IDLE)
    feed(subject, message)
    check_failed(subject, "protocol", 1002)


def test_the_ids_of_requests_grow() -> None:
    subject, _ = in_state(S.IDLE)
    feed(subject, Get(6, "a"))
    subject.send(Reject(6, "not-found", "", "never"), 0.0)
    subject.outgoing()
    feed(subject, Get(6, "a"))
    check_failed(subject, "protocol", 1002)


@pytest.mark.parametrize("state", SENDERS[2:] + RECEIVERS[1:5], ids=name_of)
def test_a_second_request_during_a_transfer_breaks_the_protocol(state: State) -> None:
    subject, _ = in_state(state)
    feed(subject, Get(8, "b"))
    check_failed(subject, "protocol", 1002)


def test_after_the_end_everything_is_ignored() -> None:
    subject, _ = in_state(S.CLOSED)
    assert feed(subject, PEER_HELLO, Get(2, "a")) == []
    assert not subject.receive_data(5, 0.0)
    subject.fail(TransferError("internal"), 0.0)
    subject.tick(1e9)
    assert (subject.outgoing(), subject.deadline) == ([], None)
    with pytest.raises(WrongState):
        subject.send(Get(1, "a"), 0.0)


@pytest.mark.parametrize("text", ["", "[]", '{"t":"x"}', '{"t":"ack","id":1}', "x" * 300_000])
def test_what_is_no_message_breaks_the_protocol(text: str) -> None:
    subject, _ = in_state(S.IDLE)
    subject.receive_text(text, 0.0)
    check_failed(subject, "protocol", 1002)


# -- hello ---------------------------------------------------------------------------------------


def test_hello_comes_first_from_both_ends_and_once() -> None:
    subject = session()
    assert sent_by(subject) == [subject.hello]
    assert feed(subject, PEER_HELLO) == [PEER_HELLO]
    assert (subject.state, subject.peer) == (S.IDLE, PEER_HELLO)
    feed(subject, PEER_HELLO)
    check_failed(subject, "protocol", 1002)


def test_another_version_is_unsupported() -> None:
    subject = session()
    feed(subject, replace(PEER_HELLO, v=2))
    check_failed(subject, "unsupported", 4501)


def test_the_repr_is_short() -> None:
    assert repr(session()) == "<Session HELLO, client>"
    assert repr(in_state(S.SENT, client=False)[0]) == "<Session SENT, server>"


# -- what the program may send -------------------------------------------------------------------


@pytest.mark.parametrize(("state", "kind"), list(product(State, [*KINDS.values()])), ids=name_of)
def test_a_program_can_send_what_is_in_the_table_and_nothing_else(state: State, kind: type) -> None:
    subject, id = in_state(state)
    message = next(each for each in one_of_each(id or subject.next_id) if type(each) is kind)
    message = fitting(subject, message)
    if kind is Done and state is S.VERIFYING:
        subject.written(SIZE, 0.0)
        subject.outgoing()
    if (state, kind) in SEND:
        subject.send(message, 0.0)
        assert subject.state in SEND[state, kind]
        assert sent_by(subject) == [message]
    else:
        with pytest.raises(WrongState, match=f"{kind.__name__} cannot be sent in state {state.name}"):
            subject.send(message, 0.0)
        assert (subject.state, subject.outgoing()) == (state, [])


@pytest.mark.parametrize("message", [Get(3, "a"), Get(2, "a"), List(5, ""), offer(7)])
def test_a_request_has_the_next_id(message) -> None:
    subject, _ = in_state(S.IDLE)
    with pytest.raises(ValueError, match="id must be 1, got "):
        subject.send(message, 0.0)
    subject.send(replace(message, id=1), 0.0)
    assert subject.next_id == 3


def test_other_messages_have_the_id_of_the_active_request() -> None:
    subject, id = in_state(S.SENDING)
    with pytest.raises(ValueError, match=f"id must be {id}, got 9"):
        subject.send(Abort(9, "io", "", True), 0.0)


@pytest.mark.parametrize(("message", "op"), [(Get(1, "a"), "get"), (List(1, ""), "list"), (offer(1), "put")])
def test_what_the_peer_does_not_take_is_not_asked(message, op: str) -> None:
    subject = session()
    feed(subject, replace(PEER_HELLO, ops=tuple({"get", "list", "put"} - {op})))
    with pytest.raises(TransferError, match=f"denied: the peer does not take `{op}`"):
        subject.send(message, 0.0)
    assert (subject.state, subject.next_id) == (S.IDLE, 1)


@pytest.mark.parametrize("message", [Get(2, "a"), List(2, ""), offer(2)])
def test_what_this_end_does_not_take_is_rejected_by_itself(message) -> None:
    subject = session(ops=())
    feed(subject, PEER_HELLO)
    subject.outgoing()
    assert feed(subject, message) == []
    (reject,) = sent_by(subject)
    assert isinstance(reject, Reject)
    assert (reject.id, reject.code, reject.retry) == (2, "denied", "never")
    assert subject.state is S.IDLE


def test_a_file_that_is_too_large_is_not_offered() -> None:
    subject = session()
    feed(subject, replace(PEER_HELLO, max_size=SIZE - 1))
    with pytest.raises(TransferError, match="too-large: the peer takes at most 999 bytes"):
        subject.send(offer(1), 0.0)
    subject.send(offer(1, size=None, digest=None), 0.0)


# -- a whole transfer ----------------------------------------------------------------------------


def send_all(sender: Session, receiver: Session, now: float = 0.0) -> None:
    while size := sender.may_send():
        sender.sent(size, now)
        assert receiver.receive_data(size, now)
        receiver.written(size, now)
        for text in receiver.outgoing():
            sender.receive_text(text, now)


def test_a_file_is_sent_by_the_client() -> None:
    client, server = joined()
    client.send(offer(1, size=3 * SEGMENT), 0.0)
    assert pump(client, server) == ([], [offer(1, size=3 * SEGMENT)])
    server.send(accept(1), 0.0)
    assert pump(client, server) == ([accept(1)], [])
    send_all(client, server)
    end = End(1, 3 * SEGMENT, DIGEST)
    client.send(end, 0.0)
    told = pump(client, server)
    assert told[1] == [end]
    assert server.verify(DIGEST, 0.0)
    server.durable(3 * SEGMENT)
    done = Done(1, 3 * SEGMENT, DIGEST, "sha256", "a.bin", 3 * SEGMENT)
    server.send(done, 0.0)
    assert pump(client, server) == ([done], [])
    assert (client.state, server.state) == (S.IDLE, S.IDLE)


def test_a_file_is_asked_for_by_the_client_and_then_another_one() -> None:
    client, server = joined()
    for id in (1, 3):
        client.send(Get(id, "a.bin"), 0.0)
        assert pump(client, server)[1] == [Get(id, "a.bin")]
        server.send(offer(id), 0.0)
        pump(client, server)
        client.send(accept(id), 0.0)
        pump(client, server)
        send_all(server, client)
        server.send(End(id, SIZE, DIGEST), 0.0)
        pump(client, server)
        assert client.verify(DIGEST, 0.0)
        client.send(Done(id, SIZE, DIGEST, "sha256", "a.bin", 0), 0.0)
        assert pump(client, server) == ([], [Done(id, SIZE, DIGEST, "sha256", "a.bin", 0)])


def test_a_folder_is_listed_page_by_page() -> None:
    client, server = joined()
    for id, cursor, following in ((1, None, "b"), (3, "b", None)):
        client.send(List(id, "sub", cursor), 0.0)
        assert pump(client, server)[1] == [List(id, "sub", cursor)]
        server.send(Progress(id, "waiting", 0, None), 0.0)
        server.send(Entries(id, (), following), 0.0)
        assert pump(client, server)[0] == [Progress(id, "waiting", 0, None), Entries(id, (), following)]


def test_an_offer_of_what_is_there_is_done_at_once() -> None:
    client, server = joined()
    client.send(offer(1), 0.0)
    pump(client, server)
    done = Done(1, SIZE, DIGEST, "sha256", "a.bin", SIZE)
    with pytest.raises(ValueError, match="done must have the size and the digest of the sender"):
        server.send(replace(done, digest="0" * 64), 0.0)
    server.send(done, 0.0)
    assert pump(client, server) == ([done], [])


def test_a_transfer_whose_check_passed_goes_on_at_the_offset() -> None:
    client, id = in_state(S.CHECKING)
    assert client.may_send() == 0
    with pytest.raises(WrongState, match="data cannot be sent in state CHECKING"):
        client.sent(1, 0.0)
    client.check_passed()
    assert client.may_send() == 10
    client.sent(10, 0.0)
    client.send(End(id, SIZE, DIGEST), 0.0)
    with pytest.raises(WrongState, match="nothing to check in state SENT"):
        client.check_passed()


def test_a_transfer_whose_check_failed_starts_again_at_0() -> None:
    client, server = joined()
    client.send(offer(1, token="tok"), 0.0)
    pump(client, server)
    server.send(accept(1, 990), 0.0)
    pump(client, server)
    assert (client.state, server.state) == (S.CHECKING, S.RESUMING)
    server.tick(10.0)  # an ack, which crosses the second offer
    again = offer(1, fresh=True)
    client.send(again, 10.0)
    assert pump(client, server, 10.0) == ([], [again])
    assert (client.state, server.state) == (S.OFFERED, S.DECIDING)
    with pytest.raises(ValueError, match="0 for a fresh offer"):
        server.send(accept(1, 990), 10.0)
    server.send(accept(1), 10.0)
    pump(client, server, 10.0)
    send_all(client, server)
    assert client.credit is not None
    assert client.credit.sent == SIZE


@pytest.mark.parametrize("second", [offer(1), offer(1, fresh=True, name="b.bin")])
def test_a_second_offer_has_the_same_name_and_is_fresh(second: Offer) -> None:
    client, _ = in_state(S.CHECKING)
    with pytest.raises(ValueError, match="the second offer of a transfer must"):
        client.send(second, 0.0)
    server, id = in_state(S.RESUMING)
    feed(server, replace(second, id=id))
    check_failed(server, "protocol", 1002)


# -- ends without success ------------------------------------------------------------------------


@pytest.mark.parametrize("state", [*SENDERS, S.LOOKING, S.DELETING], ids=name_of)
def test_a_cancel_is_answered_by_abort(state: State) -> None:
    subject, id = in_state(state)
    (told,) = feed(subject, Cancel(id, "no-space", "full", True))
    assert isinstance(told, Stopped)
    assert (told.id, told.error.error, told.error.reason, told.keep) == (id, "no-space", "full", True)
    assert sent_by(subject) == [Abort(id, "no-space", "", True)]
    assert (subject.state, subject.may_send()) == (S.IDLE, 0)


@pytest.mark.parametrize(
    "state", [*SENDERS, *RECEIVERS[:5], S.LISTED, S.LOOKING, S.DELETED, S.DELETING], ids=name_of
)
def test_an_error_with_id_is_a_cancel_or_an_abort(state: State) -> None:
    subject, id = in_state(state)
    (told,) = feed(subject, Error("io", "broken", "now", id))
    assert isinstance(told, Stopped)
    assert (told.error.error, told.error.reason, told.error.retry, told.keep) == ("io", "broken", "now", True)
    assert sent_by(subject) == ([Abort(id, "io", "", True)] if state in SERVES else [])
    assert subject.state is S.IDLE


def test_an_abort_and_a_reject_are_told() -> None:
    subject, id = in_state(S.RECEIVING)
    assert subject.receive_data(5, 0.0)
    (told,) = feed(subject, Abort(id, "changed", "it grew", False))
    assert isinstance(told, Stopped)
    assert (told.error.error, told.error.retry, told.keep) == ("changed", "now", False)
    subject.written(5, 0.0)
    subject.durable(5)
    assert not subject.verify(DIGEST, 0.0), "workers that are late do not count"
    assert (subject.state, subject.outgoing()) == (S.IDLE, [])
    subject, id = in_state(S.OFFERED)
    (told,) = feed(subject, Reject(id, "quota", "", "later"))
    assert (error_of(told).error, error_of(told).retry) == ("quota", "later")


def test_data_after_a_cancel_is_dropped_until_the_abort() -> None:
    subject, id = in_state(S.CANCELLING)
    assert not subject.receive_data(SEGMENT, 0.0)
    for message in (Progress(id, "waiting", 5, None), End(id, 5, DIGEST), offer(id)):
        assert feed(subject, message) == []
    assert not subject.receive_data(SEGMENT, 0.0)
    assert feed(subject, Abort(id, "no-space", "", True)) == []
    assert (subject.state, subject.error) == (S.IDLE, None)
    subject.receive_data(1, 0.0)
    check_failed(subject, "protocol", 1002)


def test_no_more_data_comes_after_a_cancel_than_there_was_credit() -> None:
    subject, _ = in_state(S.CANCELLING)
    for _ in range(2):
        assert not subject.receive_data(SEGMENT, 0.0)
        assert subject.error is None
    subject.receive_data(1, 0.0)
    check_failed(subject, "protocol", 1002)


def test_no_data_comes_for_a_get_that_was_cancelled_before_it_was_accepted() -> None:
    subject, id = in_state(S.ASKED)
    subject.send(Cancel(id, "cancelled", "", False), 0.0)
    subject.receive_data(1, 0.0)
    check_failed(subject, "protocol", 1002)


def test_another_digest_cancels_the_transfer() -> None:
    subject, id = in_state(S.VERIFYING)
    subject.written(SIZE, 0.0)
    subject.outgoing()
    assert not subject.verify("0" * 64, 0.0)
    (cancel,) = sent_by(subject)
    assert isinstance(cancel, Cancel)
    assert (cancel.id, cancel.code, cancel.keep) == (id, "digest-mismatch", False)
    (told,) = subject.events()
    assert (error_of(told).error, subject.state) == ("digest-mismatch", S.CANCELLING)
    assert not subject.verify(DIGEST, 0.0)


def test_a_file_that_ends_before_its_size_is_cancelled() -> None:
    subject, id = in_state(S.RECEIVING)
    (told,) = feed(subject, End(id, 990, DIGEST))
    assert error_of(told).error == "short"
    assert sent_by(subject) == [Cancel(id, "short", "990 of 1000 bytes came", False)]


def test_a_file_that_grows_too_large_is_cancelled() -> None:
    subject, _ = in_state(S.IDLE, max_size=SIZE)
    assert feed(subject, offer(2)) != []
    subject.send(Reject(2, "busy", "", "later"), 0.0)
    subject.outgoing()
    assert feed(subject, offer(4, size=SIZE + 1)) == []
    assert [(each.code, each.id) for each in sent_by(subject) if isinstance(each, Reject)] == [
        ("too-large", 4)
    ]
    feed(subject, offer(6, size=None))
    subject.send(accept(6), 0.0)
    subject.outgoing()
    assert subject.receive_data(SIZE, 0.0)
    assert not subject.receive_data(1, 0.0)
    (told,) = subject.events()
    assert (error_of(told).error, subject.state) == ("too-large", S.CANCELLING)


def test_an_answer_to_get_that_is_too_large_is_rejected() -> None:
    subject, id = in_state(S.ASKED, max_size=SIZE)
    (told,) = feed(subject, offer(id, size=SIZE + 1))
    assert error_of(told).error == "too-large"
    assert [type(each) for each in sent_by(subject)] == [Reject]
    assert subject.state is S.IDLE


def test_the_end_of_the_connection_is_told() -> None:
    subject, _ = in_state(S.RECEIVING)
    (told,) = feed(subject, Get(1, "a"))
    assert isinstance(told, Failed)
    assert told.error is subject.error


def test_the_connection_can_be_failed_by_the_program() -> None:
    for name, code in (("superseded", 4409), ("protocol", 1002), ("shutdown", 1012), ("unauthorized", 4401)):
        subject, _ = in_state(S.RECEIVING)
        subject.fail(TransferError(name, "why"), 0.0)
        assert subject.receiving is None
        check_failed(subject, name, code)


# -- a file that is deleted ----------------------------------------------------------------------


def test_a_file_is_deleted_and_the_next_request_may_follow() -> None:
    client, server = joined()
    for id, name in ((1, "a.bin"), (3, "b.bin")):
        client.send(Delete(id, name, "v1"), 0.0)
        assert pump(client, server) == ([], [Delete(id, name, "v1")])
        assert (client.state, server.state) == (S.DELETED, S.DELETING)
        done = Done(id, 5, None, None, name, 5)
        server.send(done, 0.0)
        assert pump(client, server) == ([done], [])
        assert (client.state, server.state) == (S.IDLE, S.IDLE)


def test_nothing_is_deleted_where_it_is_not_allowed() -> None:
    client, server = session(client=True), session(client=False, ops=("get", "put"))
    pump(client, server)
    with pytest.raises(TransferError, match="denied: the peer does not take `delete`"):
        client.send(Delete(1, "a.bin"), 0.0)
    assert feed(server, Delete(1, "a.bin")) == []
    assert sent_by(server) == [Reject(1, "denied", "`delete` is not allowed here", "never")]


def test_done_has_a_digest_after_a_transfer_and_only_then() -> None:
    deleting, id = in_state(S.DELETING)
    with pytest.raises(ValueError, match="the answer to Delete has no digest"):
        deleting.send(Done(id, SIZE, DIGEST, "sha256", "a.bin", SIZE), 0.0)
    deleted, id = in_state(S.DELETED)
    feed(deleted, Done(id, SIZE, DIGEST, "sha256", "a.bin", SIZE))
    check_failed(deleted, "protocol", 1002)
    sender, id = in_state(S.SENT)
    feed(sender, Done(id, SIZE, None, None, "a.bin", SIZE))
    check_failed(sender, "protocol", 1002)


# -- requests that cross -------------------------------------------------------------------------

CROSS = {
    S.ASKED: lambda id: Get(id, "a.bin"),
    S.LISTED: lambda id: List(id, ""),
    S.DELETED: lambda id: Delete(id, "a.bin"),
    S.OFFERED: lambda id: offer(id),
}


@pytest.mark.parametrize(("here", "there"), list(product(CROSS, CROSS)), ids=name_of)
def test_of_two_requests_that_cross_the_clients_is_answered(here: State, there: State) -> None:
    client, server = joined()
    ours, theirs = CROSS[here](1), CROSS[there](2)
    client.send(ours, 0.0)
    server.send(theirs, 0.0)
    told_client, told_server = pump(client, server)
    assert told_client == []
    stopped, request = told_server
    assert isinstance(stopped, Stopped)
    assert (stopped.id, stopped.error.error, stopped.error.retry) == (2, "busy", "now")
    assert request == ours
    answers = {S.REQUESTED, S.LOOKING, S.DELETING, S.DECIDING}
    assert (client.state, server.state in answers) == (here, True)
    server.send(Reject(1, "denied", "", "never"), 0.0)
    pump(client, server)
    server.send(CROSS[there](4), 0.0)
    assert pump(client, server)[0] == [CROSS[there](4)], "it may be asked again"


@pytest.mark.parametrize("there", CROSS, ids=name_of)
def test_a_request_that_crosses_one_that_was_given_up_is_taken_back_as_well(there: State) -> None:
    client, server = joined()
    client.send(offer(1), 0.0)
    client.send(Abort(1, "cancelled", "", False), 0.0)
    server.send(CROSS[there](2), 0.0)
    for text in server.outgoing():
        client.receive_text(text, 0.0)
    assert client.events() == [CROSS[there](2)]
    pump(client, server)
    assert (client.state, server.state, client.error, server.error) == (S.IDLE, S.IDLE, None, None)


def test_a_get_that_the_server_has_cancelled_is_over_when_the_client_asks() -> None:
    client, server = joined()
    server.send(Get(2, "a"), 0.0)
    server.send(Cancel(2, "cancelled", "", False), 0.0)
    client.send(Get(1, "b"), 0.0)
    assert pump(client, server) == ([], [Get(1, "b")])
    assert (client.state, server.state) == (S.ASKED, S.REQUESTED)


def test_the_client_ignores_a_request_while_it_waits_for_an_abort() -> None:
    client, _ = in_state(S.CANCELLING)
    assert feed(client, Get(2, "x"), Cancel(2, "busy", "", True)) == []
    assert (client.state, client.outgoing()) == (S.CANCELLING, [])
    assert S.CANCELLING in CROSSING


# -- bye -----------------------------------------------------------------------------------------


def test_bye_ends_an_idle_connection_at_once() -> None:
    subject, _ = in_state(S.IDLE)
    bye = Bye("a new version", 500)
    subject.leave(bye, 0.0)
    assert sent_by(subject) == [bye]
    assert (subject.state, subject.close) == (S.CLOSED, (1012, "a new version"))
    with pytest.raises(WrongState, match="Bye cannot be sent in state CLOSED, nor twice"):
        subject.leave(bye, 0.0)


def test_bye_lets_the_active_transfer_end_and_nothing_begin() -> None:
    client, server = joined()
    client.send(offer(1), 0.0)
    pump(client, server)
    server.leave(Bye("soon"), 0.0)
    with pytest.raises(WrongState, match="nor twice"):
        server.leave(Bye("soon"), 0.0)
    assert pump(client, server)[0] == [Bye("soon")]
    assert client.peer_bye == Bye("soon")
    server.send(accept(1), 0.0)
    pump(client, server)
    send_all(client, server)
    client.send(End(1, SIZE, DIGEST), 0.0)
    pump(client, server)
    assert server.close is None
    server.send(Done(1, SIZE, DIGEST, "sha256", "a.bin", 0), 0.0)
    assert server.close == (1012, "soon")
    pump(client, server)
    with pytest.raises(TransferError, match="shutdown: soon"):
        client.send(Get(3, "a"), 0.0)


def test_a_request_that_crosses_bye_is_not_answered() -> None:
    client, server = joined()
    server.send(Get(2, "a"), 0.0)
    server.leave(Bye("soon"), 0.0)
    client.send(Get(1, "b"), 0.0)
    told_client, told_server = pump(client, server)
    assert [type(each) for each in told_client] == [Bye]
    assert [type(each) for each in told_server] == [Stopped]
    assert server.close == (1012, "soon")


def test_bye_waits_for_hello() -> None:
    with pytest.raises(WrongState, match="state HELLO"):
        session().leave(Bye(""), 0.0)


# -- timers --------------------------------------------------------------------------------------


def test_hello_must_come_within_10_seconds() -> None:
    subject = session(now=5.0)
    subject.outgoing()
    assert subject.deadline == 5 + HELLO_TIMEOUT
    subject.tick(14.9)
    assert subject.state is S.HELLO
    subject.tick(15.0)
    check_failed(subject, "timeout", 4408)


@pytest.mark.parametrize("state", sorted(HEARS, key=name_of), ids=name_of)
def test_a_peer_that_owes_something_and_says_nothing_for_60_seconds_is_given_up(state: State) -> None:
    subject, id = in_state(state, now=5.0)
    feed(subject, Progress(id, "hashing", 1, None), now=7.0)
    subject.tick(66.9)
    assert subject.error is None
    subject.tick(7 + PEER_TIMEOUT)
    check_failed(subject, "timeout", 4408)


@pytest.mark.parametrize("state", [S.IDLE, S.REQUESTED, S.DECIDING, S.LOOKING, S.DELETING], ids=name_of)
def test_the_end_whose_turn_it_is_has_no_timer(state: State) -> None:
    subject, _ = in_state(state)
    assert subject.deadline is None
    subject.tick(1e6)
    assert (subject.state, subject.outgoing()) == (state, [])


def test_the_time_begins_when_the_peer_begins_to_owe_something() -> None:
    subject, id = in_state(S.DECIDING)
    subject.send(accept(id), 1000.0)
    assert subject.deadline == 1010
    subject.tick(1059.9)
    assert subject.state is S.RECEIVING
    subject.receive_data(10, 1059.9)
    subject.tick(1060.1)
    assert subject.state is S.RECEIVING


@pytest.mark.parametrize("state", sorted(ACKS, key=name_of), ids=name_of)
def test_a_receiver_sends_an_ack_every_10_seconds(state: State) -> None:
    subject, id = in_state(state)
    grant = subject.grant
    assert grant is not None
    for now in (10.0, 20.0, 30.0):
        assert subject.deadline == now
        subject.tick(now - 0.1)
        assert subject.outgoing() == []
        subject.tick(now)
        assert sent_by(subject) == [Ack(id, grant.written, grant.durable)]


@pytest.mark.parametrize("state", [S.CHECKING, S.SENDING], ids=name_of)
def test_a_sender_that_sends_nothing_says_so_every_10_seconds(state: State) -> None:
    subject, id = in_state(state)
    credit = subject.credit
    assert credit is not None
    for now in (10.0, 20.0, 30.0):
        assert subject.deadline == now
        subject.tick(now - 0.1)
        assert subject.outgoing() == []
        subject.tick(now)
        assert sent_by(subject) == [Progress(id, "waiting", credit.sent, SIZE)]
    assert HEARTBEAT == 10


def test_data_is_a_heartbeat() -> None:
    subject, _ = in_state(S.CHECKING)
    subject.check_passed()
    subject.sent(1, 7.0)
    assert subject.deadline == 17


def test_acks_follow_what_is_written() -> None:
    subject, id = in_state(S.RECEIVING)
    subject.written(10, 0.5)
    assert subject.deadline == 1
    subject.durable(10)
    subject.tick(1.0)
    assert sent_by(subject) == [Ack(id, 10, 10)]
    subject.window_limit = 0
    assert subject.grant is not None
    subject.tick(11.0)
    assert subject.grant.limit == 0
    with pytest.raises(ValueError, match="at most 980 bytes"):
        subject.written(981, 11.0)
    with pytest.raises(ValueError, match="durable must be 10 to 10"):
        subject.durable(5)


def test_hello_has_what_this_end_takes() -> None:
    assert isinstance(hello(), Hello)
    subject, id = in_state(S.DECIDING, max_segment=1000)
    with pytest.raises(ValueError, match=r"accept\.segment must be at most 1000"):
        subject.send(accept(id), 0.0)
