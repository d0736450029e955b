"""What receiving a file is, whether it goes into a folder or into a stream."""

from __future__ import annotations

from contextlib import suppress

from anyio import current_time

from wsstream.errors import ConnectionClosed
from wsstream.files.channel import Channel
from wsstream.files.errors import TransferError
from wsstream.files.progress import Meter, Phase
from wsstream.files.protocol.digests import available
from wsstream.files.protocol.messages import Cancel, Done, Offer, Reject
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.states import State

__all__ = ["check_size", "choose_digest", "refuse", "say_done", "tell", "verify"]

_CANCELS = frozenset({State.RESUMING, State.RECEIVING, State.VERIFYING, State.ASKED, State.DELETED})
_REJECTS = frozenset({State.DECIDING, State.REQUESTED, State.LOOKING, State.DELETING})


def choose_digest(offer: Offer) -> str:
    """The first kind of digest in the offer that this end has.

    Raises:
        TransferError: ``unsupported``: there is none.
    """
    for kind in offer.hashes:
        if kind in available():
            return kind
    raise TransferError("unsupported", f"no digest is known to both ends: {', '.join(available())}")


def check_size(size: int, most: int | None) -> None:
    """A file of so many bytes may come. Raises TransferError: ``too-large``."""
    if most is not None and size > most:
        raise TransferError("too-large", f"at most {most} bytes are taken")


def verify(channel: Channel, digest: str) -> None:
    """Compare the digest of what came with the sender's. Raises TransferError: they differ."""
    if not channel.session.verify(digest, current_time()):
        channel.notify()
        channel.check()


def say_done(channel: Channel, done: Done) -> None:
    """Tell the sender that its file is complete, which it is also if the connection was lost. Never waits.

    Raises:
        TransferError: the sender has ended the transfer.
    """
    with suppress(ConnectionClosed):
        channel.check()
        channel.post(done)


def tell(meter: Meter, phase: Phase, session: Session) -> None:
    """Tell `meter` how far the transfer is, if it has begun."""
    if (grant := session.grant) is not None:
        used = grant.received - grant.written
        meter.tell(phase, grant.written, grant.durable, used, grant.window)


def refuse(channel: Channel, error: TransferError) -> None:
    """Tell the sender that its file, or the peer that its request is not served. Never waits."""
    session = channel.session
    if error.error == "superseded":
        channel.fail(error)
    elif session.state in _CANCELS:
        keep = error.error not in ("changed", "digest-mismatch")
        channel.post(Cancel(session.id, error.error, error.reason, keep=keep))
    elif session.state in _REJECTS:
        channel.post(Reject(session.id, error.error, error.reason, error.retry))
