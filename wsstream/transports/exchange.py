"""One request and its answer over a transport, in the opening of a connection.

Who refuses need not read the whole request before it answers, and need not end the answer: a body without
a length ends with the connection, an event stream never. So the answer is read while the request is sent,
and also if sending fails; its status is enough, the rest of it is waited for only for a moment.
"""

from __future__ import annotations

import math
import ssl
from typing import Generic, Protocol, TypeVar

import anyio

from wsstream.errors import HandshakeError
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import reported

__all__ = ["Question", "ask"]

LONGEST_WAIT = 0.5  # seconds, for what is not needed
_READ_SIZE = 16 * 1024  # bytes

_Answer = TypeVar("_Answer")
_Answer_co = TypeVar("_Answer_co", covariant=True)


class Question(Protocol[_Answer_co]):
    """A request, and what reads the answer to it."""

    @property
    def answered(self) -> bool:
        """Whether the status is there, and only what follows it is missing."""
        ...

    def data_to_send(self) -> bytes:
        """The request."""
        ...

    def receive_data(self, data: bytes) -> _Answer_co | None:
        """Take what has arrived, ``b""`` for the end: then there is an answer, or it raises."""
        ...

    def broken(self, cause: Exception) -> HandshakeError:
        """The error for a connection that broke before the answer, because of `cause`."""
        ...


async def ask(transport: Transport, question: Question[_Answer]) -> _Answer:
    """Send the request of `question`, and give what it makes of the answer.

    Raises:
        HandshakeError: as `question` raises, or what its `broken` gives; the cause is what was reported.
        ssl.SSLError: the connection broke, and it was TLS that reported why.
    """
    exchange = _Exchange(transport, question)
    exchange.send_at_once()
    if exchange.is_sent:
        return await exchange.read_answer()
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(exchange.send_rest)
        try:
            return await exchange.read_answer()
        except Exception as error:  # the task group would wrap it
            failure = error
            tasks.cancel_scope.cancel()
    assert failure is not None
    raise failure


class _Exchange(Generic[_Answer]):
    def __init__(self, transport: Transport, question: Question[_Answer]) -> None:
        self._transport = transport
        self._question = question
        self._unsent = memoryview(question.data_to_send())
        self._failure: anyio.BrokenResourceError | None = None
        self._reading = anyio.CancelScope()  # has a deadline when no more is needed

    @property
    def is_sent(self) -> bool:
        return self._failure is not None or not (self._unsent or self._transport.unsent)

    def send_at_once(self) -> None:
        try:
            self._unsent = self._unsent[self._transport.send([self._unsent]) :]
        except anyio.BrokenResourceError as error:
            self._break(error)

    async def send_rest(self) -> None:
        try:
            await send_all(self._transport, bytes(self._unsent))
        except anyio.BrokenResourceError as error:
            self._break(error)

    async def read_answer(self) -> _Answer:
        with self._reading:
            try:
                while data := await receive_some(self._transport, _READ_SIZE):
                    answer = self._question.receive_data(data)
                    if answer is not None:
                        return answer
                    if self._question.answered:
                        self._hurry()
            except anyio.BrokenResourceError as error:
                self._break(error)
        return self._end()

    def _end(self) -> _Answer:
        """What to make of what came, as no more will, or none is needed."""
        if self._failure is not None and not self._question.answered:
            raise _explained(self._failure, self._question)
        answer = self._question.receive_data(b"")
        assert answer is not None
        return answer

    def _break(self, failure: anyio.BrokenResourceError) -> None:
        """One direction is broken: see what the other side has said, if it has."""
        if self._failure is None or reported(failure) is not None:
            self._failure = failure
        self._hurry()

    def _hurry(self) -> None:
        """Read no longer than a moment, and stop before this task runs out of time."""
        if self._reading.deadline == math.inf:
            now = anyio.current_time()
            left = anyio.current_effective_deadline() - now
            self._reading.deadline = now + min(LONGEST_WAIT, max(left / 2, 0.0))


def _explained(failure: anyio.BrokenResourceError, question: Question[object]) -> Exception:
    cause = reported(failure)
    if isinstance(cause, ssl.SSLError):
        return cause
    error = question.broken(cause or failure)
    error.__cause__ = cause or failure
    return error
