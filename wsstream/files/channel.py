"""A WebSocket that speaks ``wsstream.file.v1``: a session, and the tasks that carry its messages."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from math import inf

import anyio
from anyio import current_time

import wsstream
from wsstream.driver.signals import Signal
from wsstream.errors import ConnectionClosed
from wsstream.files.beside import beside
from wsstream.files.errors import TransferError
from wsstream.files.protocol.digests import available
from wsstream.files.protocol.events import Event, Failed, Stopped
from wsstream.files.protocol.messages import SUBPROTOCOL, VERSION, Ack, Hello, Message, Progress
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.states import State, WrongState
from wsstream.files.protocol.window import SEGMENT
from wsstream.files.rate import RateLimit
from wsstream.streams.websocket import WebSocketStream

__all__ = ["WINDOW_LIMIT", "Channel", "hello"]

WINDOW_LIMIT = 32 << 20
"""Bytes: the largest window that is granted. While the disk stands still, all of it waits in memory."""

_MAX_EVENTS = 100  # that wait for the task that takes them; after that, nothing is received
_LAST_WORDS = 0.25  # seconds to send what was posted before the channel is left
_BUSY = 4.0  # seconds after which an end that works says so; the protocol asks for 5


def hello(*ops: str, max_size: int | None = None) -> Hello:
    """The Hello of this program, which lets the peer ask for `ops`."""
    return Hello(
        v=VERSION,
        agent=f"wsstream/{wsstream.__version__}",
        max_segment=SEGMENT,
        hashes=available(),
        ops=ops,
        max_size=max_size,
        resume=True,
    )


class Channel:
    """One end of a connection that carries files. Use `run` around everything that waits.

    One task makes requests, and sends and receives files. The channel may be run again later: the session
    goes on.

    Args:
        ws: the connection; nobody else receives from it, or sends.
        hello: what to tell the peer.
        client: whether this end opened the connection.
        window_limit: the largest window to grant.
        cancelled: the error that the peer is told when a transfer is cancelled here.
        limit: on the rate of files in either direction; ``None``: no limit. As an attribute, it may be
            changed between transfers.

    Raises:
        TransferError: ``unsupported``: the two ends have not agreed on the subprotocol.

    Attributes:
        session: the state of the protocol.
        cancelled, limit: as given.
        kept: whether the peer keeps its part of a file, according to the last `Stopped`.
    """

    def __init__(
        self,
        ws: WebSocketStream,
        hello: Hello,
        *,
        client: bool,
        window_limit: int = WINDOW_LIMIT,
        cancelled: str = "cancelled",
        limit: RateLimit | None = None,
    ) -> None:
        if ws.subprotocol != SUBPROTOCOL:
            raise TransferError("unsupported", f"the peer does not speak {SUBPROTOCOL}")
        self.session = Session(hello, client=client, now=current_time(), window_limit=window_limit)
        self.cancelled = cancelled
        self.limit = limit
        self.kept = True
        self._ws = ws
        self._events: deque[Event] = deque()
        self._data: deque[bytes] = deque()
        self._texts: deque[str] = deque()
        self._ended: Exception | None = None
        self._leaving = False
        self._keeping = anyio.CancelScope(shield=True)
        self._changed = Signal()  # something came, or the end
        self._posted = Signal()  # there is something to send, or another deadline
        self._emptied = Signal()  # all texts are on their way
        self._taken = Signal()  # an event

    # -- the tasks -----------------------------------------------------------------------------

    @asynccontextmanager
    async def run(self) -> AsyncIterator[None]:
        """Carry messages while the block runs; leaving it, also by cancellation, sends what was posted.

        That waits a quarter of a second at most. When the session has failed, the connection is closed with
        its code.
        """
        self._leaving = False
        self._keeping = anyio.CancelScope(shield=True)
        async with beside(self._receive, self._keep):
            try:
                yield
            finally:
                self._leaving = True
                self._keeping.deadline = current_time() + _LAST_WORDS
                self.notify()

    async def _receive(self) -> None:
        session = self.session
        try:
            async for message in self._ws:
                if isinstance(message, str):
                    session.receive_text(message, current_time())
                    self._take_events()
                elif session.receive_data(len(message), current_time()):
                    self._data.append(message)
                self._posted.notify()
                self._changed.notify()
                while len(self._events) >= _MAX_EVENTS:
                    await self._taken.wait()
            await self._ws.receive()  # the connection has ended, and this says how
        except ConnectionClosed as error:
            self._ended = error
        for signal in (self._changed, self._posted, self._emptied):
            signal.notify()

    def _take_events(self) -> None:
        # The session knows what Hello and Ack say, and of several reports of progress the last one counts.
        for event in self.session.events():
            if isinstance(event, Progress) and self._events and isinstance(self._events[-1], Progress):
                self._events.pop()
            if not isinstance(event, Hello | Ack):
                self._events.append(event)

    async def _keep(self) -> None:
        """Send what the session has to say, and tell it the time."""
        try:
            with self._keeping:
                while self._ended is None:
                    await self._send_texts()
                    if self.session.close is not None:
                        self._ws.begin_close(*self.session.close)
                        return
                    if self._leaving:
                        return
                    await self._wait()
        except ConnectionClosed:
            pass  # which the receiving task reports

    async def _send_texts(self) -> None:
        while self._has_texts():
            sending = self._ws.send(self._texts.popleft())
            if not self._texts:
                self._emptied.notify()
            await sending

    async def _wait(self) -> None:
        """Return when something was posted, or a deadline has passed."""
        deadline = self.session.deadline
        with anyio.move_on_after(inf if deadline is None else deadline - current_time()):
            await self._posted.wait()
        self.session.tick(current_time())
        self._take_events()
        self._changed.notify()

    # -- what one task calls -------------------------------------------------------------------

    def post(self, message: Message) -> None:
        """Send a message when its turn comes; raises what :meth:`Session.send` raises. Never waits."""
        self.session.send(message, current_time())
        self.notify()

    def notify(self) -> None:
        """The session has something to send or to tell, or another deadline."""
        self._take_events()
        self._posted.notify()

    def fail(self, error: TransferError) -> None:
        """End the connection with an error. Never waits."""
        self.session.fail(error, current_time())
        self.notify()

    def problem(self, error: BaseException) -> TransferError:
        """What the peer is told when `error` ends a transfer here."""
        return error if isinstance(error, TransferError) else TransferError(self.cancelled)

    async def event(self) -> Message:
        """The next message of the peer that is not an Ack. If cancelled, it is not lost.

        Raises:
            TransferError: the active request is over, by the peer or by a check of this end, or the
                connection is.
            ConnectionClosed: the connection has ended.
        """
        while (message := self.take_event()) is None:
            await self._changed.wait()
        return message

    def take_event(self) -> Message | None:
        """As `event`, but ``None`` if nothing has come. Never waits."""
        if self._events:
            event = self._events.popleft()
            self._taken.notify()
            if isinstance(event, Stopped):
                self.kept = event.keep
                raise event.error
            if isinstance(event, Failed):
                raise event.error
            return event
        if self._ended is not None:
            raise self._ended
        return None

    def check(self) -> None:
        """Raise if the peer, a check of this end, or the connection has ended the active request.

        Messages that have come are forgotten: none is due.
        """
        while self.take_event() is not None:
            pass

    async def change(self) -> None:
        """Return when something has come, or time has changed something. If cancelled, nothing is lost."""
        if self._ended is None:
            await self._changed.wait()

    async def until_over(self, id: int) -> None:
        """Return when the request `id` is over, or the connection is. The protocol has a timeout for it.

        The peer's next request may be active by then.
        """
        session = self.session
        while session.id == id and session.state not in (State.IDLE, State.CLOSED) and self._ended is None:
            await self._changed.wait()
        self._data.clear()  # none is of the next request, which nobody has accepted

    async def send_data(self, data: memoryview) -> bool:
        """Send a segment; waits as a message does. Returns false if it is not the time for it any more.

        If cancelled, the segment was sent or not: nothing but Abort may follow.

        Raises:
            ConnectionClosed: the connection has ended.
        """
        while self._has_texts():
            self.notify()
            await self._emptied.wait()
        if self.session.may_send() < len(data):
            return False
        self.session.sent(len(data), current_time())
        await self._ws.send(data)
        return True

    def _has_texts(self) -> bool:
        if self._ended is not None:
            raise self._ended
        self._texts += self.session.outgoing()
        return bool(self._texts)

    def take_data(self, most: int) -> list[bytes]:
        """The segments that have come, of `most` bytes or a little more; [] if none has."""
        taken, size = [], 0
        while self._data and size < most:
            taken.append(self._data.popleft())
            size += len(taken[-1])
        return taken

    @property
    def step(self) -> int:
        """The most bytes of a file in one message."""
        return SEGMENT if self.limit is None else self.limit.step

    async def may_move(self, size: int) -> None:
        """Return when so many bytes of a file may be sent, or be said to be written. Can be cancelled.

        A receiver that waits here reads on: the sender gets no credit for what is not written.
        """
        if self.limit is not None:
            await self.limit.wait(size)

    @asynccontextmanager
    async def telling(self, phase: str, done: Callable[[], int], total: int | None) -> AsyncIterator[None]:
        """While the block runs, tell the peer every few seconds that this end works, and how far it is."""

        async def tell() -> None:
            while True:
                await anyio.sleep(_BUSY)
                self.say(phase, done(), total)

        async with beside(tell):
            yield

    def say(self, phase: str, done: int, total: int | None) -> None:
        """Tell the peer what this end does, if that is possible now. Never waits."""
        try:
            self.post(Progress(self.session.id, phase, done, total))
        except (WrongState, ValueError):
            pass
