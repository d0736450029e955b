"""One end of a connection that speaks ``wsstream.file.v1``, without I/O. The time is an argument, in seconds.

Messages go in, events come out, and what has to be sent is taken by `outgoing`. Either end may make a
request: the one that wants a file or the one that offers it, the client or the server. One request is
active at a time; one connection may carry many, one after the other.

Ids are odd for requests of the client and even for those of the server, so two that cross cannot be
confused. The client's has precedence: the client ignores that of the server, and the server takes its own
back.

The program sends everything in the order in which the session has it: when all messages of `outgoing` are
sent, it calls :meth:`Session.sent` for a segment, and then sends it. So no data follows an Abort.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from wsstream.files.errors import TransferError
from wsstream.files.protocol.incoming import OPS, receive_data, receive_message
from wsstream.files.protocol.link import Link
from wsstream.files.protocol.messages import Accept, Bye, Done, End, Hello, Message, Offer, Progress, parse
from wsstream.files.protocol.sending import Sending
from wsstream.files.protocol.states import ACKS, HEARS, REQUESTS, SEND, State, WrongState
from wsstream.files.protocol.window import ACK_IDLE, MAX_WINDOW, SEGMENT

__all__ = ["HEARTBEAT", "HELLO_TIMEOUT", "PEER_TIMEOUT", "Session"]

HELLO_TIMEOUT: Final = 10.0
"""Seconds until the peer's Hello must have come."""
PEER_TIMEOUT: Final = 60.0
"""Seconds without a message while the peer owes one."""
HEARTBEAT: Final = ACK_IDLE
"""Seconds after which a sender that has nothing to send says so."""

_BEATS: Final = frozenset({State.CHECKING, State.SENDING})
_IDLE, _CLOSED, _SENDING = State.IDLE, State.CLOSED, State.SENDING


class Session(Link):
    """One end of one connection. `Link` has its attributes.

    Args:
        hello: what to tell the peer first.
        client: whether this end opened the WebSocket connection.
        now: the time.
        window_limit: the largest window to grant, in bytes; as an attribute, it may be changed at any time.
        segment: bytes in one binary message that this end sends.
    """

    def __init__(
        self,
        hello: Hello,
        *,
        client: bool,
        now: float,
        window_limit: int = MAX_WINDOW,
        segment: int = SEGMENT,
    ) -> None:
        super().__init__(hello, client=client, now=now)
        self.window_limit = window_limit
        self._segment = segment

    # -- messages that the program sends ---------------------------------------------------------

    def send(self, message: Message, now: float) -> None:
        """Send a message, if it is possible now: a request with `next_id`, all others with its id.

        `SEND` has all that is possible. A Done that answers an Offer says that the same file is here already.
        A second Offer, with `fresh`, answers an Accept whose check failed.

        Raises:
            WrongState: it is not possible in this state. Nothing was sent, as with the others.
            ValueError: it does not fit to what was said before.
            TransferError: the peer said before that it does not take this: ``denied``, ``too-large`` or
                ``shutdown``.
        """
        kind = type(message)
        if (targets := SEND.get((self.state, kind))) is None:
            raise WrongState(f"{kind.__name__} cannot be sent in state {self.state.name}")
        first = self.state is _IDLE
        id = self.next_id if first else self.id
        if (given := getattr(message, "id", None)) != id:
            raise ValueError(f"id must be {id}, got {given}")
        if kind in REQUESTS:
            self._check_request(message, first)
        state = _PREPARE[kind](self, message, now) if kind in _PREPARE else targets[0]
        self.post(message, now)
        if first:
            self.id, self.next_id = id, id + 2
        if state is not self.state:
            self._heard_at = now
        self.move(state)

    def _check_request(self, message: Message, first: bool) -> None:
        assert self.peer is not None
        if first and self.peer_bye is not None:
            raise TransferError("shutdown", self.peer_bye.reason)
        if first and (op := OPS[type(message)]) not in self.peer.ops:
            raise TransferError("denied", f"the peer does not take `{op}`")
        limit = self.peer.max_size
        if isinstance(message, Offer) and limit is not None and (message.size or 0) > limit:
            raise TransferError("too-large", f"the peer takes at most {limit} bytes")

    def _prepare_offer(self, offer: Offer, now: float) -> State:
        if self.sending is None:
            self.sending = Sending(offer, self._segment)
        else:
            self.sending.start_again(offer)
        return State.OFFERED

    def _prepare_accept(self, accept: Accept, now: float) -> State:
        assert self.receiving is not None
        self.receiving.start(accept, self.hello.max_segment, self.window_limit, now)
        return State.RECEIVING if accept.check is None else State.RESUMING

    def _prepare_end(self, end: End, now: float) -> State:
        assert self.sending is not None
        self.sending.check_end(end)
        return State.SENT

    def _prepare_done(self, done: Done, now: float) -> State:
        if self.receiving is not None:
            self.receiving.check_done(done)
        elif done.digest is not None:
            raise ValueError("the answer to Delete has no digest")
        return _IDLE

    def leave(self, bye: Bye, now: float) -> None:
        """Say that this end is about to end. The active transfer goes on; after it, `close` is set.

        Raises:
            WrongState: before the peer's Hello, a second time, or after the end.
        """
        if self.state in (State.HELLO, _CLOSED) or self.bye is not None:
            raise WrongState(f"Bye cannot be sent in state {self.state.name}, nor twice")
        self.bye = bye
        self.post(bye, now)
        self.move(self.state)

    # -- the sender ------------------------------------------------------------------------------

    def check_passed(self) -> None:
        """What the receiver has is what this end has, too: data is sent from the offset on.

        Raises:
            WrongState: there is nothing to check.
        """
        if self.state is not State.CHECKING:
            raise WrongState(f"there is nothing to check in state {self.state.name}")
        self.move(_SENDING)

    def may_send(self) -> int:
        """Bytes of the next segment that may be sent now; 0: no credit, all is sent, or not the time."""
        credit = self.credit
        return 0 if credit is None or self.state is not _SENDING else credit.next_segment()

    def sent(self, size: int, now: float) -> None:
        """A segment is about to be sent, after all of `outgoing`.

        Raises:
            WrongState: it is not the time for data.
            ValueError: it has no bytes, or more than :meth:`may_send` says.
        """
        credit = self.credit
        if credit is None or self.state is not _SENDING:
            raise WrongState(f"data cannot be sent in state {self.state.name}")
        credit.send(size)
        self._sent_at = now

    # -- the receiver ----------------------------------------------------------------------------

    def written(self, size: int, now: float) -> None:
        """So many more bytes were written: they are not in memory any more. Ignored if the transfer is over.

        Raises:
            ValueError: more than were received.
        """
        if self.grant is not None and self.state in ACKS:
            self.grant.write(size, now)
            self._ack_if_due(now)

    def durable(self, offset: int) -> None:
        """All bytes of the file before `offset` are on stable storage. Ignored if the transfer is over.

        Raises:
            ValueError: `offset` goes back, or beyond what was written.
        """
        if self.grant is not None and self.state in ACKS:
            self.grant.sync(offset)

    def verify(self, digest: str, now: float) -> bool:
        """Whether the file was received as it was sent; if not, the transfer is cancelled.

        False, too, if the transfer is over.

        Args:
            digest: of the whole file as it was written.
            now: the time.
        """
        if self.receiving is None or self.receiving.end is None or self.state is not State.VERIFYING:
            return False
        if digest != self.receiving.end.digest:
            self.refuse(TransferError("digest-mismatch"), now)
            return False
        return True

    def _ack_if_due(self, now: float) -> None:
        grant = self.grant
        if grant is not None and grant.ack_is_due(now):
            grant.limit = self.window_limit
            self.post(grant.ack(self.id, now), now)

    # -- what arrives ----------------------------------------------------------------------------

    def receive_text(self, text: str, now: float) -> None:
        """A text message came."""
        if self.state is not _CLOSED:
            self._heard_at = now
            try:
                receive_message(self, parse(text), now)
            except TransferError as error:
                self._answer(error, now)

    def receive_data(self, size: int, now: float) -> bool:
        """A binary message of `size` bytes came. Returns whether it is part of the file; if not, drop it."""
        if self.state is not _CLOSED:
            self._heard_at = now
            try:
                return receive_data(self, size)
            except TransferError as error:
                self._answer(error, now)
        return False

    def _answer(self, error: TransferError, now: float) -> None:
        if error.error == "protocol":
            self.fail(error, now)
        else:
            self.refuse(error, now)

    # -- time ------------------------------------------------------------------------------------

    @property
    def deadline(self) -> float | None:
        """When to call :meth:`tick` next; ``None``: not before something else happens."""
        times = []
        if (patience := self._patience()) is not None:
            times.append(self._heard_at + patience)
        if self.state in _BEATS:
            times.append(self._sent_at + HEARTBEAT)
        if self.grant is not None and self.state in ACKS:
            times.append(self.grant.deadline)
        return min(times, default=None)

    def _patience(self) -> float | None:
        if self.state is State.HELLO:
            return HELLO_TIMEOUT
        return PEER_TIMEOUT if self.state in HEARS else None

    def tick(self, now: float) -> None:
        """Do what is due."""
        if (patience := self._patience()) is not None and now >= self._heard_at + patience:
            self.fail(TransferError("timeout", f"nothing came for {patience:g} s"), now)
        elif self.state in ACKS:
            self._ack_if_due(now)
        elif self.sending is not None and self.state in _BEATS and now >= self._sent_at + HEARTBEAT:
            assert self.credit is not None
            self.post(Progress(self.id, "waiting", self.credit.sent, self.sending.offer.size), now)


_PREPARE: Final[dict[type[Any], Callable[[Session, Any, float], State]]] = {
    Offer: Session._prepare_offer,
    Accept: Session._prepare_accept,
    End: Session._prepare_end,
    Done: Session._prepare_done,
}
