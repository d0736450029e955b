"""What all of a session shares: its state, the active request, and what waits to be sent and told."""

from __future__ import annotations

from typing import Final

from wsstream.files.errors import TransferError
from wsstream.files.protocol.events import Event, Failed, Stopped
from wsstream.files.protocol.messages import Abort, Bye, Cancel, Error, Hello, Message, Reject, encode
from wsstream.files.protocol.receiving import Receiving
from wsstream.files.protocol.sending import Sending
from wsstream.files.protocol.states import State
from wsstream.files.protocol.window import Credit, Grant

__all__ = ["Link"]

_NORMAL: Final = 1000
_CLOSE_CODES: Final = {"protocol": 1002, "shutdown": 1012}  # in place of those that a web page may send


class Link:
    """One end of one connection, without what a program calls: that is `Session`.

    Attributes:
        state: what this end does at present.
        hello, peer: what this end and the peer said first; `peer` is ``None`` until its Hello came.
        client: whether this end opened the WebSocket connection.
        id: of the active request; 0: none.
        next_id: for this end's next request.
        last_peer_id: of the peer's latest request.
        sending, receiving: the active transfer, or ``None``.
        bye, peer_bye: that of this end and of the peer, or ``None``.
        error: why the connection failed, or ``None``.
        close: the code and the reason to close the connection with, after what `outgoing` returns;
            ``None`` while it goes on.
    """

    def __init__(self, hello: Hello, *, client: bool, now: float) -> None:
        self.state = State.HELLO
        self.hello = hello
        self.peer: Hello | None = None
        self.client = client
        self.id = 0
        self.next_id = 1 if client else 2
        self.last_peer_id = 0
        self.sending: Sending | None = None
        self.receiving: Receiving | None = None
        self.bye: Bye | None = None
        self.peer_bye: Bye | None = None
        self.error: TransferError | None = None
        self.close: tuple[int, str] | None = None
        self._out: list[str] = []
        self._events: list[Event] = []
        self._sent_at = now  # when something was sent
        self._heard_at = now  # when something came, or the peer began to owe something
        self.post(hello, now)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.state.name}, {'client' if self.client else 'server'}>"

    def outgoing(self) -> list[str]:
        """The text messages to send now, in order. They count as sent."""
        messages, self._out = self._out, []
        return messages

    def events(self) -> list[Event]:
        """What has happened since the last call, in order."""
        events, self._events = self._events, []
        return events

    @property
    def credit(self) -> Credit | None:
        """That of the active transfer, if this end sends it and it was accepted."""
        return None if self.sending is None else self.sending.credit

    @property
    def grant(self) -> Grant | None:
        """That of the active transfer, if this end receives it and has accepted it."""
        return None if self.receiving is None else self.receiving.grant

    # -- for the modules of a session ------------------------------------------------------------

    def post(self, message: Message, now: float) -> None:
        """Queue a message."""
        self._out.append(encode(message))
        self._sent_at = now

    def tell(self, event: Event) -> None:
        """Queue an event."""
        self._events.append(event)

    def move(self, state: State) -> None:
        """Go to `state`. In `IDLE` no request is active, and a connection that is to end does."""
        self.state = state
        if state is State.IDLE:
            self.id, self.sending, self.receiving = 0, None, None
            if self.bye is not None:
                self.state, self.close = State.CLOSED, (_CLOSE_CODES["shutdown"], self.bye.reason)

    def stop(self, error: TransferError, keep: bool) -> None:
        """The active request is over: the peer says so."""
        self.tell(Stopped(self.id, error, keep))
        self.move(State.IDLE)

    def reject(self, error: TransferError, now: float) -> None:
        """This end does not do what the peer's request asks for."""
        self.post(Reject(self.id, error.error, error.reason, error.retry), now)
        self.move(State.IDLE)

    def refuse(self, error: TransferError, now: float) -> None:
        """This end as the receiver ends the transfer, as a check has failed."""
        self.tell(Stopped(self.id, error, False))
        if self.state is State.DECIDING:
            self.reject(error, now)
        else:
            self.post(Cancel(self.id, error.error, error.reason, False), now)
            self.move(State.CANCELLING)

    def take_back(self, now: float) -> None:
        """This end's request crossed one of the client, which has precedence."""
        if self.state is State.CANCELLING:
            self.move(State.IDLE)
            return
        error = TransferError("busy", "a request of the client came first", retry="now")
        message = Abort if self.state is State.OFFERED else Cancel
        self.post(message(self.id, error.error, error.reason, True), now)
        self.stop(error, True)

    def fail(self, error: TransferError, now: float) -> None:
        """End the connection with an error. Does nothing if it is over."""
        if self.state is not State.CLOSED:
            self.post(Error(error.error, error.reason, error.retry), now)
            self._end(error, _CLOSE_CODES.get(error.error, error.code or _NORMAL), error.reason)

    def end_by_peer(self, error: TransferError) -> None:
        """The peer has ended the connection with an error, and is about to close it."""
        self._end(error, _NORMAL, "")

    def _end(self, error: TransferError, code: int, reason: str) -> None:
        self.state, self.error, self.close = State.CLOSED, error, (code, reason)
        self.sending = self.receiving = None
        self.tell(Failed(error))
