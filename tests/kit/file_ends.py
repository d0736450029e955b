"""Two programs that send and receive a file by sessions, over a network of two queues, all synchronous.

The receiver's disk forgets what was not synced when the connection is cut, as if its power were cut, too.
"""

from __future__ import annotations

import hashlib
from collections import deque
from dataclasses import replace
from math import inf

from kit.file_messages import hello

from wsstream.files.errors import TransferError
from wsstream.files.protocol.events import Event, Stopped
from wsstream.files.protocol.messages import (
    Abort,
    Accept,
    Cancel,
    Done,
    End,
    Get,
    Hello,
    Offer,
    Prefix,
)
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.states import State

__all__ = ["NAME", "Disk", "Network", "Receiver", "Sender"]

NAME = "a.bin"
CHECK = 1 << 20
TOKEN = "tok"
CAN_CANCEL = {State.RESUMING, State.RECEIVING, State.VERIFYING}
CAN_ABORT = {State.OFFERED, State.CHECKING, State.SENDING, State.SENT}


def sha256(data: bytes | bytearray | memoryview) -> str:
    return hashlib.sha256(data).hexdigest()


class Disk:
    """What the receiver has: a part and how much of it is durable, and the file once it is complete."""

    def __init__(self) -> None:
        self.part = bytearray()
        self.durable = 0
        self.complete: bytes | None = None

    def lose_power(self) -> None:
        del self.part[self.durable :]

    def discard(self) -> None:
        self.part, self.durable = bytearray(), 0

    def commit(self) -> None:
        self.complete = bytes(self.part)
        self.discard()


class Sender:
    """Sends `content`. If it is the client it offers, else it waits for Get."""

    def __init__(self, content: bytes, *, size_is_known: bool = True, segment: int = 256 << 10) -> None:
        self.content = content
        self.digest: str | None = None  # known once all was sent
        self.done = False
        self.fresh = False
        self._size_is_known = size_is_known
        self._segment = segment

    def connect(self, *, client: bool, now: float) -> Session:
        self.session = Session(hello(), client=client, now=now, segment=self._segment)
        return self.session

    def offer(self, id: int, now: float) -> None:
        offer = Offer(
            *(id, NAME, len(self.content) if self._size_is_known else None, None, ("sha256",), "v1"),
            digest=self.digest if self._size_is_known else None,
            token=None if self.fresh else TOKEN,
            fresh=self.fresh,
        )
        self.session.send(offer, now)

    def handle(self, event: Event, now: float) -> None:
        match event:
            case Hello() if self.session.client:
                self.offer(self.session.next_id, now)
            case Get():
                self.offer(event.id, now)
            case Accept(check=Prefix()):
                self.check(event.check, now)
            case Accept():
                self.fresh = False
            case Done():
                self.done = True
            case Stopped():
                self.stopped(event.error, now)

    def check(self, check: Prefix, now: float) -> None:
        if sha256(self.content[check.start : check.end]) == check.digest:
            self.session.check_passed()
        else:
            assert self.session.sending is not None
            self.session.send(replace(self.session.sending.offer, fresh=True, token=None), now)

    def stopped(self, error: TransferError, now: float) -> None:
        self.fresh = error.error == "digest-mismatch"
        self.try_again(now)

    def try_again(self, now: float) -> None:
        if self.session.client and self.session.state is State.IDLE and not self.done:
            self.offer(self.session.next_id, now)

    def next_data(self, now: float, most: int) -> tuple[int, bytes] | None:
        """A segment of at most `most` bytes, with its offset, if it may be sent."""
        if not (size := min(self.session.may_send(), most)):
            return None
        assert self.session.credit is not None
        start = self.session.credit.sent
        if not (data := self.content[start : start + size]):
            return None
        self.session.sent(len(data), now)
        return start, data

    def end(self, now: float) -> bool:
        """End the data if all of it was sent."""
        session = self.session
        if session.state is State.SENDING and session.credit and session.credit.sent == len(self.content):
            self.digest = sha256(self.content)
            session.send(End(session.id, len(self.content), self.digest), now)
            return True
        return False

    def abort(self, now: float) -> None:
        if self.session.state in CAN_ABORT:
            self.session.send(Abort(self.session.id, "cancelled", "", True), now)
            self.try_again(now)


class Receiver:
    """Receives to `disk`. If it is the client it asks, else it waits for an offer."""

    def __init__(self, disk: Disk, *, segment: int = 256 << 10, window: int = 512 << 10) -> None:
        self.disk = disk
        self.memory: deque[bytes] = deque()
        self._segment, self._window = segment, window

    def connect(self, *, client: bool, now: float) -> Session:
        self.memory.clear()
        self.disk.lose_power()
        self.session = Session(hello(), client=client, now=now)
        return self.session

    def handle(self, event: Event, now: float) -> None:
        match event:
            case Hello():
                self.try_again(now)
            case Offer():
                self.decide(event, now)
            case End():
                self.finish(now)
            case Stopped():
                self.memory.clear()
                if not event.keep:
                    self.disk.discard()
                self.try_again(now)

    def try_again(self, now: float) -> None:
        if self.session.client and self.session.state is State.IDLE and self.disk.complete is None:
            self.session.send(Get(self.session.next_id, NAME), now)

    def decide(self, offer: Offer, now: float) -> None:
        disk = self.disk
        self.memory.clear()
        if disk.complete is not None and sha256(disk.complete) == offer.digest:
            self.send_done(offer.id, now)
            return
        if offer.fresh:
            disk.discard()
        disk.lose_power()
        check, start = None, max(0, disk.durable - CHECK)
        if disk.durable:
            check = Prefix(start, disk.durable, sha256(disk.part[start : disk.durable]))
        accept = Accept(offer.id, disk.durable, "sha256", self._window, self._segment, TOKEN, check)
        self.session.send(accept, now)

    def receive(self, data: bytes, now: float) -> None:
        if self.session.receive_data(len(data), now):
            self.memory.append(data)

    def write(self, now: float) -> None:
        """Write the oldest segment."""
        if self.memory and self.session.state in CAN_CANCEL:
            self.disk.part += (data := self.memory.popleft())
            self.session.written(len(data), now)
            self.finish(now)

    def sync(self) -> None:
        if self.session.state in CAN_CANCEL:
            self.disk.durable = len(self.disk.part)
            self.session.durable(self.disk.durable)

    def finish(self, now: float) -> None:
        """Commit if all has come and is written."""
        if self.memory or not self.session.verify(sha256(self.disk.part), now):
            return
        self.disk.commit()
        self.send_done(self.session.id, now)

    def send_done(self, id: int, now: float) -> None:
        file = self.disk.complete
        assert file is not None
        self.session.send(Done(id, len(file), sha256(file), "sha256", NAME, len(file)), now)

    def cancel(self, now: float) -> None:
        if self.session.state in CAN_CANCEL:
            self.memory.clear()
            self.session.send(Cancel(self.session.id, "no-space", "", True), now)


class Network:
    """What is under way between the two, each way in order."""

    def __init__(self, sender: Sender, receiver: Receiver, *, sender_is_client: bool) -> None:
        self.sender, self.receiver = sender, receiver
        self.sender_is_client = sender_is_client
        self.now = 100.0
        self.connect()

    def connect(self) -> None:
        """Cut what there is, and connect again."""
        self.to_receiver: deque[str | bytes] = deque()
        self.to_sender: deque[str] = deque()
        self.sender.connect(client=self.sender_is_client, now=self.now)
        self.receiver.connect(client=not self.sender_is_client, now=self.now)
        self.collect()

    def collect(self) -> None:
        """Put what both have to send on its way."""
        self.to_receiver.extend(self.sender.session.outgoing())
        self.to_sender.extend(self.receiver.session.outgoing())

    def send_data(self, most: int = 1 << 30) -> tuple[int, bytes] | None:
        """Let the sender send a segment, or the end; the segment and its offset."""
        if sent := self.sender.next_data(self.now, most):
            self.to_receiver.append(sent[1])
        else:
            self.sender.end(self.now)
        self.collect()
        return sent

    def deliver_to_receiver(self) -> None:
        if self.to_receiver:
            item = self.to_receiver.popleft()
            if isinstance(item, bytes):
                self.receiver.receive(item, self.now)
            else:
                self.receiver.session.receive_text(item, self.now)
            self.handle()

    def deliver_to_sender(self) -> None:
        if self.to_sender:
            self.sender.session.receive_text(self.to_sender.popleft(), self.now)
            self.handle()

    def handle(self) -> None:
        for end in (self.sender, self.receiver):
            for event in end.session.events():
                end.handle(event, self.now)
        self.receiver.try_again(self.now)
        self.collect()

    def wait(self, seconds: float) -> None:
        """Let time pass, and both do what is due."""
        end = self.now + seconds
        while (due := min(self.deadlines(), default=inf)) <= end:
            self.now = max(self.now, due)
            self.tick()
        self.now = end
        self.tick()

    def deadlines(self) -> list[float]:
        deadlines = [end.session.deadline for end in (self.sender, self.receiver)]
        return [each for each in deadlines if each is not None]

    def tick(self) -> None:
        for end in (self.sender, self.receiver):
            end.session.tick(self.now)
        self.handle()
