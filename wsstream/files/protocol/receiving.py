"""The receiver's side of one transfer: what it was offered, and whether what arrives fits to it."""

from __future__ import annotations

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Accept, Done, End, Hello, Offer
from wsstream.files.protocol.window import Grant

__all__ = ["Receiving"]


class Receiving:
    """One transfer, from its offer to its end. The session knows its state.

    Args:
        offer: what is offered.
        max_size: the largest file that this side takes; ``None``: no limit.

    Attributes:
        offer: as given.
        accept: this side's answer, or ``None``.
        grant: what arrived, what was written, and what the sender may send; ``None`` before `accept`.
        end: the sender's last message, or ``None``.
    """

    __slots__ = ("_max_size", "accept", "end", "grant", "offer")

    def __init__(self, offer: Offer, max_size: int | None) -> None:
        self.offer = offer
        self.accept: Accept | None = None
        self.grant: Grant | None = None
        self.end: End | None = None
        self._max_size = max_size
        self.check_size(offer.size or 0)

    def check_size(self, size: int) -> None:
        """A file of this size may be received.

        Raises:
            TransferError: it is larger than this side takes (``too-large``).
        """
        if self._max_size is not None and size > self._max_size:
            raise TransferError("too-large", f"at most {self._max_size} bytes are taken")

    def start(self, accept: Accept, hello: Hello, limit: int, now: float) -> None:
        """This side takes the offer.

        Raises:
            ValueError: `accept` does not fit to the offer, or to this side's Hello.
        """
        offer = self.offer
        if accept.hash not in offer.hashes:
            raise ValueError(f"accept.hash must be one of {', '.join(offer.hashes)}, got {accept.hash}")
        if accept.segment > hello.max_segment:
            raise ValueError(f"accept.segment must be at most {hello.max_segment}, got {accept.segment}")
        if accept.offset and (offer.fresh or (offer.size is not None and accept.offset > offer.size)):
            raise ValueError("accept.offset must be in the file, and 0 for a fresh offer")
        if accept.offset and not hello.resume:
            raise ValueError("accept.offset must be 0: this side has said that it keeps no parts")
        self.accept = accept
        self.grant = Grant(accept.offset, accept.window, accept.segment, limit, now)

    def receive_data(self, size: int) -> None:
        """A segment arrived.

        Raises:
            TransferError: it must not be (``protocol``), or the file grows too large (``too-large``).
        """
        assert self.grant is not None
        self.grant.receive(size)
        if self.offer.size is not None and self.grant.received > self.offer.size:
            raise TransferError("protocol", "more data came than was offered")
        self.check_size(self.grant.received)

    def receive_end(self, end: End) -> None:
        """The sender has no more data.

        Raises:
            TransferError: that is not what arrived (``protocol``) or was offered (``short``).
        """
        assert self.grant is not None
        if end.size != self.grant.received:
            raise TransferError("protocol", "end.size is not what was sent")
        if self.offer.size not in (None, end.size):
            raise TransferError("short", f"{end.size} of {self.offer.size} bytes came")
        self.end = end

    def check_done(self, done: Done) -> None:
        """This side has the file.

        Raises:
            ValueError: it is not the one that was sent, or not all of it was written; or, if it was not sent,
                the offer does not say that it is the same.
        """
        sent: tuple[int | None, str | None, str]
        if self.accept is not None and self.end is not None and self.grant is not None:
            sent = (self.end.size, self.end.digest, self.accept.hash)
            if self.grant.written != self.end.size:
                raise ValueError("done must wait until all of the file is written")
        else:
            sent = (self.offer.size, self.offer.digest, self.offer.hashes[0])
        if (done.size, done.digest, done.hash) != sent:
            raise ValueError("done must have the size and the digest of the sender")
