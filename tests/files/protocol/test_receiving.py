"""The receiver's side: what arrives has to fit to the offer, and what this end says, too."""

from __future__ import annotations

from dataclasses import replace

import pytest
from kit.file_messages import DIGEST, hello

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Accept, Done, End, Offer, Prefix
from wsstream.files.protocol.receiving import Receiving

HELLO = hello(max_segment=300)
OFFER = Offer(1, "a.bin", 1000, None, ("blake3", "sha256"), "v1", DIGEST)
ACCEPT = Accept(1, 0, "sha256", 900, 300, "tok")
DONE = Done(1, 1000, DIGEST, "sha256", "a (1).bin", 1000)


def accepted(offer: Offer = OFFER, accept: Accept = ACCEPT, max_size: int | None = None) -> Receiving:
    subject = Receiving(offer, max_size)
    subject.start(accept, HELLO, 1 << 20, 0.0)
    return subject


def receive(subject: Receiving, size: int) -> None:
    assert subject.grant is not None
    while size:
        step = min(size, 300)
        subject.receive_data(step)
        subject.grant.write(step, 0.0)
        subject.grant.ack(1, 0.0)
        size -= step


def resumed(offset: int) -> Accept:
    return replace(ACCEPT, offset=offset, check=Prefix(0, offset, DIGEST))


@pytest.mark.parametrize(
    ("offer", "accept", "words"),
    [
        (OFFER, replace(ACCEPT, hash="sha256-tree"), "hash must be one of blake3, sha256, got sha256-tree"),
        (OFFER, replace(ACCEPT, segment=301), "segment must be at most 300, got 301"),
        (OFFER, resumed(1001), "offset must be in the file"),
        (replace(OFFER, fresh=True), resumed(5), "0 for a fresh offer"),
    ],
)
def test_an_answer_of_this_end_has_to_fit(offer: Offer, accept: Accept, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        accepted(offer, accept)


def test_an_end_that_keeps_no_parts_takes_all_of_a_file() -> None:
    with pytest.raises(ValueError, match="it keeps no parts"):
        Receiving(OFFER, None).start(resumed(5), hello(max_segment=300, resume=False), 1 << 20, 0.0)
    Receiving(OFFER, None).start(ACCEPT, hello(max_segment=300, resume=False), 1 << 20, 0.0)


@pytest.mark.parametrize("size", [1000, None])
def test_a_transfer_resumes_at_any_offset_in_the_file(size: int | None) -> None:
    grant = accepted(replace(OFFER, size=size), resumed(1000)).grant
    assert grant is not None
    assert (grant.received, grant.written, grant.durable) == (1000, 1000, 1000)


def test_a_file_that_is_too_large_is_refused_when_it_is_offered_or_when_it_grows() -> None:
    Receiving(OFFER, 1000)
    with pytest.raises(TransferError, match="too-large"):
        Receiving(OFFER, 999)
    subject = accepted(replace(OFFER, size=None), max_size=500)
    receive(subject, 500)
    with pytest.raises(TransferError, match="too-large: at most 500 bytes"):
        receive(subject, 1)


def test_more_data_than_was_offered_is_a_protocol_error() -> None:
    subject = accepted()
    receive(subject, 1000)
    with pytest.raises(TransferError, match="protocol: more data came than was offered"):
        receive(subject, 1)


@pytest.mark.parametrize(
    ("size", "received", "end", "error"),
    [
        (1000, 1000, 1000, None),
        (None, 700, 700, None),
        (None, 0, 0, None),
        (1000, 1000, 999, "protocol"),
        (1000, 999, 1000, "protocol"),
        (None, 700, 701, "protocol"),
        (1000, 999, 999, "short"),
    ],
)
def test_the_end_is_about_what_arrived_and_was_offered(
    size: int | None, received: int, end: int, error: str | None
) -> None:
    subject = accepted(replace(OFFER, size=size))
    receive(subject, received)
    if error is None:
        subject.receive_end(End(1, end, DIGEST))
        assert subject.end == End(1, end, DIGEST)
    else:
        with pytest.raises(TransferError) as caught:
            subject.receive_end(End(1, end, DIGEST))
        assert caught.value.error == error


WRONG = [replace(DONE, size=999), replace(DONE, digest="0" * 64), replace(DONE, hash="sha256-tree")]


def test_done_is_said_when_all_is_written_and_about_what_was_sent() -> None:
    subject = accepted()
    receive(subject, 900)
    subject.receive_data(100)
    subject.receive_end(End(1, 1000, DIGEST))
    with pytest.raises(ValueError, match="until all of the file is written"):
        subject.check_done(DONE)
    assert subject.grant is not None
    subject.grant.write(100, 0.0)
    subject.check_done(DONE)
    for done in WRONG:
        with pytest.raises(ValueError, match="the size and the digest of the sender"):
            subject.check_done(done)


def test_done_at_once_is_about_what_was_offered_by_the_first_digest() -> None:
    subject = Receiving(OFFER, None)
    subject.check_done(replace(DONE, hash="blake3"))
    for done in [DONE, *WRONG]:
        with pytest.raises(ValueError, match="the size and the digest of the sender"):
            subject.check_done(done)
