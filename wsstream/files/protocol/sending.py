"""The sender's side of one transfer: what it has offered, and whether the receiver's answers fit to it."""

from __future__ import annotations

from wsstream.files.errors import TransferError
from wsstream.files.protocol.messages import Accept, Ack, Done, End, Hello, Offer
from wsstream.files.protocol.window import SEGMENT, Credit

__all__ = ["Sending"]


class Sending:
    """One transfer, from its offer to its end. The session knows its state.

    Args:
        offer: what is offered.
        segment: bytes in one binary message, unless the receiver wants less.

    Attributes:
        offer: as given; replaced if the transfer has to start again at 0.
        accept: the receiver's answer, or ``None``.
        credit: what was sent, and what the receiver told; ``None`` before `accept`.
        end: the last message of the sender, or ``None``.
    """

    __slots__ = ("_segment", "accept", "credit", "end", "offer")

    def __init__(self, offer: Offer, segment: int = SEGMENT) -> None:
        self.offer = offer
        self.accept: Accept | None = None
        self.credit: Credit | None = None
        self.end: End | None = None
        self._segment = segment

    def start_again(self, offer: Offer) -> None:
        """The receiver's part does not have the file's bytes: the file is offered again, from 0.

        Raises:
            ValueError: the offer is not for that.
        """
        if not offer.fresh or offer.name != self.offer.name:
            raise ValueError("the second offer of a transfer must have the name of the first, and `fresh`")
        self.offer = offer

    def receive_accept(self, accept: Accept, peer: Hello) -> None:
        """The receiver takes the offer.

        Raises:
            TransferError: its answer does not fit to the offer, or to its Hello (``protocol``).
        """
        offer = self.offer
        if accept.hash not in offer.hashes:
            raise TransferError("protocol", "accept.hash was not offered")
        if accept.segment > peer.max_segment:
            raise TransferError("protocol", "accept.segment is larger than max_segment")
        if accept.offset and (offer.fresh or (offer.size is not None and accept.offset > offer.size)):
            raise TransferError("protocol", "accept.offset is not in the file, or not 0 for a fresh offer")
        if accept.offset and not peer.resume:
            raise TransferError("protocol", "accept.offset is not 0, and the peer keeps no parts")
        self.accept = accept
        self.credit = Credit(accept.offset, accept.window, min(accept.segment, self._segment), offer.size)

    def receive_ack(self, ack: Ack) -> None:
        """The receiver tells how far it is.

        Raises:
            TransferError: that cannot be (``protocol``).
        """
        if self.credit is None:
            raise TransferError("protocol", "an ack came before accept")
        self.credit.acknowledge(ack)

    def check_end(self, end: End) -> None:
        """This side ends the data.

        Raises:
            ValueError: `end` does not fit to what was sent.
        """
        assert self.credit is not None
        if end.size != self.credit.sent or self.offer.size not in (None, end.size):
            raise ValueError(
                f"end.size must be the file's size, all of it sent; {self.credit.sent} bytes are"
            )
        self.end = end

    def receive_done(self, done: Done) -> None:
        """The receiver has the file: all of it has arrived, or it had the same file before.

        Raises:
            TransferError: it has another one (``protocol``).
        """
        sent: tuple[int | None, str | None, str]
        if self.end is not None and self.accept is not None:
            sent = (self.end.size, self.end.digest, self.accept.hash)
        else:
            sent = (self.offer.size, self.offer.digest, self.offer.hashes[0])
        if (done.size, done.digest, done.hash) != sent:
            raise TransferError("protocol", "done is about another file")
