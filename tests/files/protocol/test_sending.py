"""The sender's side: the receiver's answers have to fit to the offer."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kit.file_messages import DIGEST, hello

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Accept, Ack, Done, End, Offer, Prefix
from wsstream.files.protocol.sending import Sending

PEER = hello(max_segment=300)
OFFER = Offer(1, "a.bin", 1000, None, ("blake3", "sha256"), "v1", DIGEST)
ACCEPT = Accept(1, 0, "sha256", 900, 300, "tok")
DONE = Done(1, 1000, DIGEST, "sha256", "a (1).bin", 1000)


def accepted(offer: Offer = OFFER, accept: Accept = ACCEPT, segment: int = 256) -> Sending:
    subject = Sending(offer, segment)
    subject.receive_accept(accept, PEER)
    return subject


def resumed(offset: int) -> Accept:
    return replace(ACCEPT, offset=offset, check=Prefix(0, offset, DIGEST))


@pytest.mark.parametrize(("segment", "size"), [(256, 256), (1000, 300)])
def test_segments_are_as_large_as_both_ends_take(segment: int, size: int) -> None:
    credit = accepted(segment=segment).credit
    assert credit is not None
    assert credit.next_segment() == size


@pytest.mark.parametrize(
    ("offer", "accept", "words"),
    [
        (OFFER, replace(ACCEPT, hash="sha256-tree"), "hash was not offered"),
        (OFFER, replace(ACCEPT, segment=301), "larger than max_segment"),
        (OFFER, resumed(1001), "offset is not in the file"),
        (replace(OFFER, fresh=True), resumed(5), "not 0 for a fresh offer"),
    ],
)
def test_an_answer_that_does_not_fit_is_a_protocol_error(offer: Offer, accept: Accept, words: str) -> None:
    with pytest.raises(TransferError, match=words) as caught:
        accepted(offer, accept)
    assert caught.value.error == "protocol"


def test_a_peer_that_keeps_no_parts_takes_all_of_a_file() -> None:
    peer = hello(max_segment=300, resume=False)
    with pytest.raises(TransferError, match="the peer keeps no parts") as caught:
        Sending(OFFER).receive_accept(resumed(5), peer)
    assert caught.value.error == "protocol"
    Sending(OFFER).receive_accept(ACCEPT, peer)


@pytest.mark.parametrize("size", [1000, None])
def test_a_transfer_resumes_at_any_offset_in_the_file(size: int | None) -> None:
    credit = accepted(replace(OFFER, size=size), resumed(1000)).credit
    assert credit is not None
    assert credit.sent == 1000
    assert credit.next_segment() == (0 if size else 256)


def test_acks_wait_for_the_accept() -> None:
    with pytest.raises(TransferError, match="before accept"):
        Sending(OFFER).receive_ack(Ack(1, 0, 0))
    accepted().receive_ack(Ack(1, 0, 0))


def send(subject: Sending, size: int) -> None:
    assert subject.credit is not None
    while size:
        step = min(size, 256)
        subject.credit.send(step)
        subject.receive_ack(Ack(1, subject.credit.sent, 0))
        size -= step


@pytest.mark.parametrize(
    ("size", "sent", "end", "good"),
    [
        (1000, 1000, 1000, True),
        (1000, 999, 999, False),
        (1000, 1000, 999, False),
        (None, 5, 5, True),
        (None, 5, 6, False),
    ],
)
def test_the_end_comes_when_all_of_the_file_is_sent(
    size: int | None, sent: int, end: int, good: bool
) -> None:
    subject = accepted(replace(OFFER, size=size))
    send(subject, sent)
    if good:
        subject.check_end(End(1, end, DIGEST))
        assert subject.end == End(1, end, DIGEST)
    else:
        with pytest.raises(ValueError, match=f"{sent} bytes are"):
            subject.check_end(End(1, end, DIGEST))


WRONG = [replace(DONE, size=999), replace(DONE, digest="0" * 64), replace(DONE, hash="sha256-tree")]


def test_done_is_about_what_was_sent() -> None:
    subject = accepted()
    send(subject, 1000)
    subject.check_end(End(1, 1000, DIGEST))
    subject.receive_done(DONE)
    for done in WRONG:
        with pytest.raises(TransferError, match="about another file"):
            subject.receive_done(done)


def test_done_at_once_is_about_what_was_offered_by_the_first_digest() -> None:
    subject = Sending(OFFER)
    subject.receive_done(replace(DONE, hash="blake3"))
    for done in [DONE, *WRONG]:
        with pytest.raises(TransferError, match="about another file"):
            subject.receive_done(done)
    with pytest.raises(TransferError, match="about another file"):
        Sending(replace(OFFER, digest=None)).receive_done(replace(DONE, hash="blake3"))
