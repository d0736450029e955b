"""Sessions of ``wsstream.file.v1`` for tests: alone in any state, and two that are joined."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from kit.file_messages import DIGEST, hello

from wsstream.files.protocol.events import Event
from wsstream.files.protocol.messages import (
    Accept,
    Ack,
    Cancel,
    Delete,
    Done,
    End,
    Get,
    List,
    Message,
    Offer,
    Prefix,
    encode,
    parse,
)
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.states import State

__all__ = [
    "PEER_HELLO",
    "SEGMENT",
    "SIZE",
    "accept",
    "feed",
    "fitting",
    "in_state",
    "joined",
    "offer",
    "pump",
    "sent_by",
    "session",
]

SIZE = 1000
OFFSET = 990  # where the transfers of `in_state` that are resumed start
SEGMENT = 256 << 10
PEER_HELLO = hello(agent="peer/1")


def session(*, client: bool = True, now: float = 0.0, **changes: Any) -> Session:
    """A session that has said Hello; `changes` of its Hello."""
    options = {name: changes.pop(name) for name in ("window_limit", "segment") if name in changes}
    return Session(hello(**changes), client=client, now=now, **options)


def feed(subject: Session, *messages: Message, now: float = 0.0) -> list[Event]:
    """Let messages of the peer arrive; what the session tells."""
    for message in messages:
        subject.receive_text(encode(message), now)
    return subject.events()


def sent_by(subject: Session) -> list[Message]:
    """What the session has to send."""
    return [parse(text) for text in subject.outgoing()]


def offer(id: int, **changes: Any) -> Offer:
    """An offer of 1,000 bytes."""
    return replace(Offer(id, "a.bin", SIZE, None, ("sha256",), "v1", DIGEST), **changes)


def accept(id: int, offset: int = 0) -> Accept:
    check = Prefix(0, offset, DIGEST) if offset else None
    return Accept(id, offset, "sha256", 2 * SEGMENT, SEGMENT, "tok", check)


def in_state(state: State, *, client: bool = True, now: float = 0.0, **changes: Any) -> tuple[Session, int]:
    """A session in this state, with nothing left to send or to tell, and the id of its active request.

    A sender has made its request itself; a receiver too if it waits for an answer, else the peer has. What is
    resumed starts at 990; `RECEIVING` has received 990 bytes. `OFFERED` is that of a second offer.
    """
    subject = session(client=client, now=now, **changes)
    if state is not State.HELLO:
        feed(subject, PEER_HELLO, now=now)
    ours, theirs = (1, 2) if client else (2, 1)
    id = 0 if state in (State.HELLO, State.IDLE, State.CLOSED) else ours
    match state:
        case State.CLOSED:
            subject.receive_text("x", now)
        case State.LISTED:
            subject.send(List(ours, ""), now)
        case State.DELETED:
            subject.send(Delete(ours, "a.bin"), now)
        case State.ASKED | State.CANCELLING:
            subject.send(Get(ours, "a.bin"), now)
            if state is State.CANCELLING:
                feed(subject, offer(ours), now=now)
                subject.send(accept(ours), now)
                subject.send(Cancel(ours, "no-space", "", True), now)
        case State.OFFERED | State.CHECKING | State.SENDING | State.SENT:
            subject.send(offer(ours), now)
            bring_sender(subject, state, ours, now)
        case State.REQUESTED | State.LOOKING | State.DELETING:
            request = {State.REQUESTED: Get, State.LOOKING: List, State.DELETING: Delete}[state]
            feed(subject, request(theirs, "a.bin"), now=now)
            id = theirs
        case State.DECIDING | State.RESUMING | State.RECEIVING | State.VERIFYING:
            feed(subject, offer(theirs), now=now)
            bring_receiver(subject, state, theirs, now)
            id = theirs
        case _:
            pass
    assert subject.state is state
    subject.outgoing()
    subject.events()
    return subject, id


def bring_sender(subject: Session, state: State, id: int, now: float) -> None:
    if state in (State.OFFERED, State.CHECKING):
        feed(subject, accept(id, OFFSET), now=now)
        if state is State.OFFERED:
            subject.send(offer(id, fresh=True), now)
        return
    feed(subject, accept(id), now=now)
    subject.sent(SIZE, now)
    if state is State.SENT:
        subject.send(End(id, SIZE, DIGEST), now)


def bring_receiver(subject: Session, state: State, id: int, now: float) -> None:
    if state is State.DECIDING:
        return
    subject.send(accept(id, OFFSET if state is State.RESUMING else 0), now)
    if state is State.RECEIVING:
        assert subject.receive_data(OFFSET, now)
    elif state is State.VERIFYING:
        assert subject.receive_data(SIZE, now)
        feed(subject, End(id, SIZE, DIGEST), now=now)


def fitting(subject: Session, message: Message) -> Message:
    """The message with sizes that fit to what has passed so far; Done without a digest if that answers."""
    if isinstance(message, Done) and subject.state in (State.DELETED, State.DELETING):
        return replace(message, digest=None, hash=None)
    if isinstance(message, Ack) and subject.credit is not None:
        return replace(message, written=subject.credit.sent)
    if isinstance(message, End) and subject.grant is not None:
        return replace(message, size=subject.grant.received)
    return message


def joined(now: float = 0.0, **changes: Any) -> tuple[Session, Session]:
    """A client and a server that have said Hello to each other."""
    client, server = session(client=True, now=now, **changes), session(client=False, now=now, **changes)
    pump(client, server, now)
    return client, server


def pump(client: Session, server: Session, now: float = 0.0) -> tuple[list[Event], list[Event]]:
    """Deliver all text messages, until there are none; what each end is told."""
    told: tuple[list[Event], list[Event]] = ([], [])
    moved = True
    while moved:
        moved = False
        for source, target in ((client, server), (server, client)):
            for text in source.outgoing():
                target.receive_text(text, now)
                moved = True
        told[0].extend(client.events())
        told[1].extend(server.events())
    return told
