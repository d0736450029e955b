"""Receiving one file over a channel into a stream of bytes, from the offer to Done."""

from __future__ import annotations

import secrets
from typing import Protocol

from anyio import current_time

from wsstream.files.channel import Channel
from wsstream.files.errors import TransferError
from wsstream.files.expected import FileDigest
from wsstream.files.progress import Meter, Phase
from wsstream.files.protocol.digests import new_digest
from wsstream.files.protocol.messages import Accept, Done, End, Offer, Prefix
from wsstream.files.protocol.window import MIN_WINDOW
from wsstream.files.reception import check_size, choose_digest, refuse, say_done, tell, verify
from wsstream.files.result import TransferResult

__all__ = ["ByteSink", "StreamTarget", "receive_into"]

_TAIL = 64 << 10  # bytes of the last ones that are compared before a lost transfer goes on


class ByteSink(Protocol):
    """Takes bytes in order. Every anyio byte stream does."""

    async def send(self, item: bytes, /) -> None:
        """Take `item`; return when more may come."""


class StreamTarget:
    """A stream that takes one file, over as many connections as it takes.

    What was written cannot be taken back, so it is remembered which version of the file that was.

    Args:
        sink: takes the bytes.
        max_size: the most of them; ``None``: any number.
        expect: see `FileDigest`.

    Attributes:
        sink: as given.
        written: how many bytes it has taken.
        digest: of them; ``None`` before the first offer.
        kind: that of the digest.
    """

    def __init__(self, sink: ByteSink, *, max_size: int | None = None, expect: str | None = None) -> None:
        self.sink = sink
        self.written = 0
        self.kind = ""
        self.digest: FileDigest | None = None
        self._max_size = max_size
        self._expect = expect
        self._etag = ""
        self._tail = b""

    def take(self, offer: Offer) -> None:
        """Look whether the file that is offered can be received, from `written` on.

        Raises:
            TransferError: it is too large, no digest is known to both ends, or it is another version than
                the one of which a part is written.
        """
        self.check_size(offer.size or 0)
        if self.written:
            if offer.fresh or offer.etag != self._etag or self.kind not in offer.hashes:
                raise TransferError("changed", "the file changed after a part of it was passed on")
            return
        self.kind, self._etag = choose_digest(offer), offer.etag
        self.digest = FileDigest(self.kind, self._expect)

    def check_size(self, size: int) -> None:
        """A file of so many bytes may come. Raises TransferError: ``too-large``."""
        check_size(size, self._max_size)

    def prefix(self) -> Prefix | None:
        """What is written last, for the sender to compare."""
        if not self.written:
            return None
        digest = new_digest(self.kind)
        digest.update(self._tail)
        return Prefix(self.written - len(self._tail), self.written, digest.hexdigest())

    async def write(self, data: bytes) -> None:
        """Pass `data` on. If cancelled, nobody knows how much of it has passed: there is no going on."""
        assert self.digest is not None
        await self.sink.send(data)
        self.digest.update(data)
        self.written += len(data)
        self._tail = data[-_TAIL:] if len(data) >= _TAIL else (self._tail + data)[-_TAIL:]


async def receive_into(channel: Channel, offer: Offer, target: StreamTarget, meter: Meter) -> TransferResult:
    """Take an offer, and pass the file on to `target`, from where an earlier attempt ended.

    If cancelled, or if the target fails, the sender is told.

    Raises:
        TransferError: the file cannot be taken, or the transfer failed. Once bytes were passed on, a file
            that is not the right one is not worth another attempt.
        ConnectionClosed: the connection has ended.
        Exception: what the target raises.
    """
    try:
        return await _Passing(channel, offer, target, meter).run()
    except BaseException as error:
        problem = channel.problem(error)
        if target.written and problem.error in ("changed", "digest-mismatch", "short"):
            problem.retry = "never"
        if channel.session.id == offer.id:
            refuse(channel, problem)
        raise


class _Passing:
    def __init__(self, channel: Channel, offer: Offer, target: StreamTarget, meter: Meter) -> None:
        self._channel = channel
        self._session = channel.session
        self._offer = offer
        self._target = target
        self._meter = meter
        self._began = target.written

    async def run(self) -> TransferResult:
        channel, offer, target = self._channel, self._offer, self._target
        target.take(offer)
        assert target.digest is not None
        channel.check()
        token = secrets.token_hex(16)
        channel.post(
            Accept(offer.id, target.written, target.kind, MIN_WINDOW, channel.step, token, target.prefix())
        )
        self._meter.start(target.written, offer.size)
        end = await self._pass_on()
        self._tell("verifying")
        digest = target.digest.hexdigest()
        verify(channel, digest)
        target.digest.check()
        say_done(channel, Done(offer.id, end.size, digest, target.kind, offer.name, 0))
        self._meter.tell("done", end.size)
        return TransferResult(offer.name, end.size, digest, target.kind, end.size - self._began)

    async def _pass_on(self) -> End:
        """Pass on what comes until the sender ends."""
        channel, target = self._channel, self._target
        while True:
            for data in channel.take_data(1):
                target.check_size(target.written + len(data))
                await channel.may_move(len(data))
                await target.write(data)
                self._session.written(len(data), current_time())
                channel.notify()
                self._tell("receiving")
                break
            else:
                event = channel.take_event()
                if isinstance(event, End):
                    return event
                if isinstance(event, Offer):  # what was passed on is not the start of the sender's file
                    target.take(event)
                if event is None:
                    await channel.change()

    def _tell(self, phase: Phase) -> None:
        tell(self._meter, phase, self._session)
