"""How a connection ends, and what calls raise then.

Everything that ends a connection is a method of :class:`Ending`. What has to be done about it elsewhere
(waking tasks, sending Close, closing the transport) is the listener's.
"""

from __future__ import annotations

from collections.abc import Callable
from itertools import count

from anyio.lowlevel import checkpoint

from wsstream.close_codes import CloseCode
from wsstream.codec.events import Close, Violation
from wsstream.driver.endtimer import Due, EndTimer
from wsstream.driver.listener import Listener
from wsstream.driver.phase import Happening, Phase, next_phase
from wsstream.driver.signals import Signal
from wsstream.errors import (
    NOT_CLOSED,
    ClosedLocally,
    CloseInfo,
    ConnectionBroken,
    InvalidUTF8,
    MessageAborted,
    MessageTooBig,
    ProtocolViolation,
    ReceiveTimeout,
    StreamEnded,
    WebSocketError,
)
from wsstream.protocol.connection import Connection
from wsstream.protocol.state import State

__all__ = ["Ending"]

_LINGER_BYTES = 1 << 20  # read and dropped after the end: unread data would make a reset overtake our Close

# A name of the module is found faster than a member of an enum.
_RUNNING, _ENDED, _DROPPED, _DONE = Phase.RUNNING, Phase.ENDED, Phase.DROPPED, Phase.DONE
_LEAVE, _CONCLUDE, _DROP, _FINISH = Happening.LEAVE, Happening.CONCLUDE, Happening.DROP, Happening.FINISH
_VIOLATED = State.VIOLATED

_connection_numbers = count(1)


class Ending:
    """The end of one connection.

    Args:
        connection: its protocol.
        timer: the deadlines of the end.
        listener: does what the end asks for.

    Attributes:
        phase: see :class:`Phase`.
        info: how the connection ended; set as soon as that is certain.
        cause: the exception that says why, if the reason is not a Close of the peer.
        left: this side has asked for the end.
        timer: as given.
        before_close: called before this side begins to close an open connection: what was accepted elsewhere
            is handed over.
    """

    __slots__ = (
        "_aborted",
        "_connection",
        "_discard",
        "_finished",
        "_linger_bytes",
        "_listener",
        "_number",
        "before_close",
        "cause",
        "info",
        "left",
        "phase",
        "timer",
    )

    def __init__(self, connection: Connection, timer: EndTimer, listener: Listener) -> None:
        self._number = next(_connection_numbers)
        self.phase = _RUNNING
        self.info: CloseInfo | None = None
        self.cause: BaseException | None = None
        self.left = False
        self.timer = timer
        self.before_close: Callable[[], object] | None = None
        self._connection = connection
        self._listener = listener
        self._aborted = False
        self._finished: Signal | None = None  # made when a task waits
        self._discard: Callable[[], object] | None = None  # in place of the listener, once all is over
        self._linger_bytes = _LINGER_BYTES

    @property
    def id(self) -> str:
        """A short name of the connection, unlike those of others in this process."""
        return f"{self._number:x}"

    # -- what is true now --------------------------------------------------------------------

    @property
    def is_open(self) -> bool:
        """Whether messages may be sent."""
        return self.phase is _RUNNING

    @property
    def is_done(self) -> bool:
        """Whether nothing of the connection is left."""
        return self.phase is _DONE

    @property
    def begun_here(self) -> bool:
        """Whether this side began to close, for no fault of the peer's."""
        sent, received = self._connection.close_sent, self._connection.close_received
        # The Close of the peer is answered with the very object.
        return sent is not None and sent is not received and self._connection.violation is None

    def receive_error(self) -> WebSocketError | None:
        """What a call that finds no data raises; ``None``: data may still arrive."""
        if self.left:
            return self._closed_locally()
        if self.info is None:
            return None
        if self.info.clean:
            return StreamEnded("the peer closed the connection", self.info)
        return self.broken()

    def send_error(self) -> WebSocketError:
        """What a call that cannot send raises."""
        if self.left:
            return self._closed_locally()
        if self.info is not None and self.info.clean:
            return self.broken("the peer closed the connection")
        return self.broken()

    def check_open(self) -> None:
        """Raise what a call to send raises, unless messages may be sent."""
        if self.phase is not _RUNNING:
            raise self.send_error()

    def broken(self, message: str = "the connection broke") -> ConnectionBroken:
        """An exception with what is known of the end."""
        error = ConnectionBroken(message, self.info or NOT_CLOSED)
        error.__cause__ = self.cause
        return error

    def _closed_locally(self) -> ClosedLocally:
        return ClosedLocally("the connection was closed on this side", self.info or NOT_CLOSED)

    # -- this side ends it -------------------------------------------------------------------

    def close(self, code: int | None, reason: str, *, urgent: bool = False, hurried: bool = False) -> None:
        """Begin to close; what arrives from now on is dropped.

        Close follows all accepted messages or, if `urgent`, replaces those that have not left. If `hurried`,
        the connection is dropped once output has been blocked for 2 seconds.
        """
        self.fail_for_violation()
        if self.is_open:
            if self.before_close is not None and not urgent:
                self.before_close()
            # Section 5.5.1: a reason cannot stand without a code.
            sent = int(CloseCode.NORMAL) if code is None and reason else code
            self._listener.on_close(Close(sent, reason), urgent=urgent)
            self.timer.start_closing()
            self._listener.wake_at(self.timer.deadline)
        if hurried:
            self.hurry()
        self._leave()

    def abort(self) -> None:
        """Drop the connection at once."""
        self._aborted = self._aborted or self.phase < _DROPPED
        self.drop()
        self._leave()

    def _leave(self) -> None:
        self.left = True
        self.phase = next_phase(self.phase, _LEAVE)
        if self._discard is None:
            self._listener.on_leave()
        else:
            self._discard()

    def fail(
        self, error: MessageTooBig | MessageAborted | ReceiveTimeout | InvalidUTF8 | ProtocolViolation
    ) -> None:
        """Fail the connection for a reason found on this side; what has arrived is dropped."""
        self.fail_for_violation()
        if self.info is None and self._connection.state in (State.OPEN, State.CLOSE_SENT):
            self._connection.fail(Violation(error.code, error.reason or str(error)))
            self._conclude(error, discard=True)

    # -- the peer ends it --------------------------------------------------------------------

    def receive_close(self) -> None:
        """The peer's Close has come."""
        self._conclude(None)

    def receive_violation(self) -> None:
        """The peer broke a rule, as the protocol has noted.

        The messages before the violation are delivered. They are answered if the application answers within
        a tenth of a second and before it asks for more: Close would overtake a later answer.
        """
        if self._connection.state is _VIOLATED:
            self.timer.start_grace()
            self._listener.wake_at(self.timer.deadline)
        else:
            self._conclude(self._violation_error())

    def fail_for_violation(self) -> None:
        """Fail the connection now if the peer broke a rule; else do nothing."""
        if self._connection.state is _VIOLATED:
            self._connection.fail()
            self._conclude(self._violation_error())

    def _violation_error(self) -> WebSocketError:
        violation = self._connection.violation
        assert violation is not None
        kind = InvalidUTF8 if violation.code == CloseCode.INVALID_PAYLOAD else ProtocolViolation
        return kind(violation.reason)

    def linger(self, size: int) -> bool:
        """Whether to read on: `size` bytes more were read, perhaps after the end."""
        if self._connection.state in (State.FAILED, State.CLOSE_DONE):
            self._linger_bytes -= size
        return self._linger_bytes >= 0

    # -- the end itself ----------------------------------------------------------------------

    def _conclude(self, cause: BaseException | None, *, discard: bool = False) -> None:
        if self.info is None:
            self.info = self._close_info()
            self.cause = cause
        self.phase = next_phase(self.phase, _CONCLUDE)
        self._listener.on_end(discard=discard)
        if self.phase is _ENDED:  # mostly it is not: the Close has left, and the transport is closed
            self.timer.start_closing()
            self._listener.wake_at(self.timer.deadline)

    def drop(self, cause: BaseException | None = None) -> None:
        """Close the transport; the connection has ended."""
        if self.phase >= _DROPPED:
            return
        self.phase = next_phase(self.phase, _DROP)
        self.timer.stop()
        if self._connection.state is _VIOLATED:
            cause = self._violation_error()
        self._connection.receive_eof()
        if self.info is None:
            self._conclude(cause)
        self._listener.on_drop()

    def finish(self, discard: Callable[[], object]) -> None:
        """The transport is released, and no task is left.

        From now on only `discard` may be asked for: to drop what has arrived and was not taken.
        """
        self.phase = next_phase(self.phase, _FINISH)
        self.before_close = None
        if self._discard is None:
            self._discard = discard
            del self._listener  # it refers to this object
        if self._finished is not None:
            self._finished.notify()

    def _close_info(self) -> CloseInfo:
        connection = self._connection
        if connection.violation is not None:
            return CloseInfo(int(connection.violation.code), connection.violation.reason, False)
        if (close := connection.close_received) is not None:
            clean = connection.close_sent is not None and not connection.message_cut
            code = int(CloseCode.NO_CODE) if close.code is None else close.code
            return CloseInfo(code, close.reason, clean)
        return CloseInfo(int(CloseCode.ABNORMAL), "", False)  # section 7.1.5: no Close frame came

    async def _wait(self) -> None:
        if self.is_done:
            await checkpoint()
            return
        if self._finished is None:
            self._finished = Signal()
        await self._finished.wait()

    async def wait_finished(self) -> None:
        """Wait until nothing of the connection is left. If cancelled, it is dropped."""
        try:
            await self._wait()
        except BaseException:
            self.abort()
            raise

    async def wait_closed(self) -> CloseInfo:
        """Wait until nothing of the connection is left. If cancelled, only the waiting ends.

        Raises:
            ConnectionBroken: the end was neither clean nor asked for by `abort`.
        """
        await self._wait()
        assert self.info is not None
        if not self.info.clean and not self._aborted:
            raise self.broken()
        return self.info

    def hurry(self) -> None:
        """From now on nobody waits for a peer that does not read: it has sent Close, or has to go."""
        if self.phase < _DROPPED:
            self.timer.hurry()
            self._listener.wake_at(self.timer.deadline)

    def tick(self, now: float, blocked_since: Callable[[], float | None]) -> None:
        """Do what is due `now`.

        Args:
            now: the time.
            blocked_since: looks at the output; returns when blocked output last moved on, ``None`` if
                nothing is blocked.
        """
        match self.timer.due(now):
            case Due.FAILING:
                self.fail_for_violation()
            case Due.DROPPING:
                self.drop()
            case Due.LOOK if self.timer.has_stalled(now, blocked_since()):
                self.drop()
