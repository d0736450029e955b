"""Both ends together: whatever the network and the programs do, the file arrives, nothing durable twice."""

from __future__ import annotations

import random

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from kit.effort import examples
from kit.file_ends import Disk, Network, Receiver, Sender

from wsstream.files.protocol.states import State

KIB = 1 << 10
SEGMENT = 64 * KIB
LARGEST_WINDOW = 64 << 20
CONTENT = random.Random(9).randbytes(3 << 20)


class Transfers(RuleBasedStateMachine):
    """One file, on as many connections as it takes."""

    @initialize(
        size=st.sampled_from([0, 1, SEGMENT, 10 * SEGMENT, 20 * SEGMENT + 7, len(CONTENT)]),
        size_is_known=st.booleans(),
        sender_is_client=st.booleans(),
    )
    def begin(self, size: int, size_is_known: bool, sender_is_client: bool) -> None:
        self.disk = Disk()
        self.sender = Sender(CONTENT[:size], size_is_known=size_is_known, segment=SEGMENT)
        receiver = Receiver(self.disk, segment=SEGMENT, window=2 * SEGMENT)
        self.network = Network(self.sender, receiver, sender_is_client=sender_is_client)
        self.corrupted = False

    # -- what may happen ---------------------------------------------------------------------

    @rule(count=st.integers(1, 8))
    def deliver_to_receiver(self, count: int) -> None:
        for _ in range(count):
            self.network.deliver_to_receiver()

    @rule(count=st.integers(1, 8))
    def deliver_to_sender(self, count: int) -> None:
        for _ in range(count):
            self.network.deliver_to_sender()

    @rule(count=st.integers(1, 8), most=st.sampled_from([1, SEGMENT // 2, SEGMENT]))
    def send(self, count: int, most: int) -> None:
        for _ in range(count):
            self.send_segment(most)

    def send_segment(self, most: int = SEGMENT) -> None:
        if sent := self.network.send_data(most):
            start, _ = sent
            assert start >= self.disk.durable, "a byte that is durable was sent again"
            credit = self.sender.session.credit
            assert credit is not None
            assert credit.sent - credit.written <= credit.window, "more was sent than there was credit for"

    @rule(count=st.integers(1, 8))
    def write(self, count: int) -> None:
        for _ in range(count):
            self.network.receiver.write(self.network.now)
        self.network.handle()

    @rule()
    def sync(self) -> None:
        self.network.receiver.sync()

    @rule(seconds=st.floats(0.01, 25))
    def wait(self, seconds: float) -> None:
        self.network.wait(seconds)

    @rule()
    def cut(self) -> None:
        self.network.connect()

    @rule()
    def cancel(self) -> None:
        self.network.receiver.cancel(self.network.now)
        self.network.handle()

    @rule()
    def abort(self) -> None:
        self.sender.abort(self.network.now)
        self.network.handle()

    @precondition(lambda self: not self.corrupted and self.disk.durable)
    @rule(share=st.floats(0, 0.999))
    def corrupt(self, share: float) -> None:
        """A byte on the disk changes, once."""
        self.disk.part[int(share * self.disk.durable)] ^= 1
        self.corrupted = True

    # -- what holds all the time -------------------------------------------------------------

    @invariant()
    def nobody_breaks_the_protocol(self) -> None:
        for session in (self.sender.session, self.network.receiver.session):
            if session.error is not None:
                assert session.error.error == "timeout", session.error

    @invariant()
    def the_credit_is_kept(self) -> None:
        grant, credit = self.network.receiver.session.grant, self.sender.session.credit
        in_memory = sum(map(len, self.network.receiver.memory))
        if grant is not None and credit is not None:
            if self.network.receiver.session.state is not State.CANCELLING:  # there all that comes is dropped
                assert grant.received - grant.written == in_memory
            assert credit.sent - grant.written <= LARGEST_WINDOW
            assert credit.sent - credit.written <= max(credit.window, 512 * KIB, 2 * SEGMENT)

    @invariant()
    def only_the_whole_file_is_seen(self) -> None:
        assert self.disk.complete in (None, self.sender.content)

    @invariant()
    def success_is_told_only_when_it_is_true(self) -> None:
        if self.sender.done:
            assert self.disk.complete == self.sender.content

    def teardown(self) -> None:
        """Left alone, the transfer ends, soon."""
        for _ in range(2):
            for _ in range(400):
                for _ in range(4):  # more than there is credit for at first
                    self.send_segment()
                self.network.deliver_to_receiver()
                self.network.deliver_to_sender()
                self.network.receiver.write(self.network.now)
                self.network.handle()
                if self.has_ended():
                    break
            else:
                self.network.connect()
        assert self.disk.complete == self.sender.content
        self.nobody_breaks_the_protocol()

    def has_ended(self) -> bool:
        if self.network.sender_is_client:
            return self.sender.done
        return self.disk.complete is not None


TestTransfers = Transfers.TestCase
TestTransfers.settings = settings(max_examples=examples(200), stateful_step_count=40, deadline=None)


# -- single stories ------------------------------------------------------------------------------


def story(size: int, *, client: bool = True, known: bool = True) -> tuple[Disk, Sender, Network]:
    disk = Disk()
    sender = Sender(CONTENT[:size], size_is_known=known, segment=SEGMENT)
    network = Network(sender, Receiver(disk, segment=SEGMENT, window=2 * SEGMENT), sender_is_client=client)
    return disk, sender, network


def run(network: Network, *, until: int | None = None, deaf: bool = False) -> list[int]:
    """Deliver all until nothing moves, or until so many bytes were sent; the offsets that were sent."""
    offsets, total, quiet = [], 0, 0
    while quiet < 3:
        sent = network.send_data()
        if sent:
            offsets.append(sent[0])
            total += len(sent[1])
            if until is not None and total >= until:
                break
        moved = bool(sent or network.to_receiver or network.to_sender or network.receiver.memory)
        network.deliver_to_receiver()
        if not deaf:
            network.deliver_to_sender()
        network.receiver.write(network.now)
        network.handle()
        quiet = 0 if moved else quiet + 1
    return offsets


@pytest.mark.parametrize("client", [True, False], ids=["upload", "download"])
@pytest.mark.parametrize("known", [True, False], ids=["known", "unknown"])
@pytest.mark.parametrize("size", [0, 1, SEGMENT, 20 * SEGMENT + 7])
def test_a_file_arrives(size: int, known: bool, client: bool) -> None:
    disk, sender, network = story(size, client=client, known=known)
    assert run(network) == [*range(0, size, SEGMENT)]
    assert disk.complete == sender.content
    assert sender.done


@pytest.mark.parametrize("client", [True, False], ids=["upload", "download"])
def test_what_was_durable_is_not_sent_again(client: bool) -> None:
    disk, sender, network = story(len(CONTENT), client=client)
    run(network, until=1 << 20)
    network.receiver.sync()
    durable = disk.durable
    assert durable > 512 * KIB
    network.connect()
    assert run(network)[0] == durable
    assert disk.complete == sender.content


def test_a_part_that_is_not_what_the_sender_has_is_sent_again_from_0() -> None:
    disk, sender, network = story(20 * SEGMENT)
    run(network, until=10 * SEGMENT)
    network.receiver.sync()
    disk.part[-1] ^= 1
    network.connect()
    assert run(network)[0] == 0
    assert disk.complete == sender.content


def test_a_part_that_is_wrong_before_the_check_is_found_by_the_digest() -> None:
    disk, sender, network = story(len(CONTENT))
    run(network, until=2 << 20)
    network.receiver.sync()
    assert disk.durable > 1 << 20
    disk.part[0] ^= 1
    network.connect()
    offsets = run(network)
    assert offsets.count(0) == 1
    assert disk.complete == sender.content


def test_an_upload_whose_done_was_lost_is_done_at_once_by_another_attempt() -> None:
    disk, sender, network = story(5 * SEGMENT)
    run(network, until=5 * SEGMENT)
    network.send_data()
    while network.to_receiver or network.receiver.memory:
        network.deliver_to_receiver()
        network.receiver.write(network.now)
        network.handle()
    assert disk.complete == sender.content
    assert not sender.done
    network.connect()
    assert run(network) == []
    assert sender.done


def test_a_cancelled_transfer_is_resumed_on_the_same_connection() -> None:
    disk, sender, network = story(20 * SEGMENT)
    run(network, until=10 * SEGMENT)
    network.receiver.sync()
    durable = disk.durable
    network.receiver.cancel(network.now)
    offsets = run(network)
    assert disk.complete == sender.content
    assert min(offsets[2:]) == durable


def test_a_receiver_that_stands_still_is_waited_for_as_long_as_it_sends_acks() -> None:
    _, sender, network = story(20 * SEGMENT)
    while not network.receiver.memory:
        network.send_data()
        network.deliver_to_receiver()
        network.deliver_to_sender()
    for _ in range(30):
        network.wait(10)
        while network.to_receiver or network.to_sender:
            network.deliver_to_receiver()
            network.deliver_to_sender()
    assert sender.session.state is State.SENDING
    assert sender.session.may_send() == SEGMENT
    network.wait(61)
    assert sender.session.error is not None
    assert sender.session.error.error == "timeout"
