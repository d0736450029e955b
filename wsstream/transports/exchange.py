"""One request and its answer over a transport, in the opening of a connection.

Who refuses need not read the whole request before it answers, and need not end the answer: a body without
a length ends with the connection, an event stream never. So the status of an answer is enough, the rest
of it is waited for only for a moment, and what the other side said is looked at though sending failed.
"""

from __future__ import annotations

import math
import ssl
from typing import Protocol, TypeVar

import anyio

from wsstream.errors import HandshakeError

from .base import Transport, receive_some, send_all
from .failures import reported

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

    def data_to_send(self) -> bytes:
        """The request."""

    def receive_data(self, data: bytes) -> _Answer_co | None:
        """Take what has arrived, ``b""`` for the end: then there is an answer, or it raises."""

    def broken(self, cause: Exception) -> HandshakeError:
        """The error for a connection that broke before the answer, because of `cause`."""


async def ask(transport: Transport, question: Question[_Answer]) -> _Answer:
    """Send the request of `question`, and give what it makes of the answer.

    Raises:
        HandshakeError: as `question` raises, or what its `broken` gives; the cause is what was reported.
        ssl.SSLError: the connection broke, and it was TLS that reported why.
    """
    failure = await _send(transport, question.data_to_send())
    deadline = math.inf
    while True:
        if deadline == math.inf and (failure is not None or question.answered):
            deadline = _soon()
        data = b""
        with anyio.CancelScope(deadline=deadline):
            try:
                data = await receive_some(transport, _READ_SIZE)
            except anyio.BrokenResourceError as error:
                failure = error
        if not data and failure is not None and not question.answered:
            raise _explained(failure, question)
        answer = question.receive_data(data)
        if answer is not None:
            return answer


async def _send(transport: Transport, data: bytes) -> anyio.BrokenResourceError | None:
    try:
        await send_all(transport, data)
    except anyio.BrokenResourceError as error:
        return error
    return None


def _soon() -> float:
    """When to go on without what is not needed: in any case before this task runs out of time."""
    now = anyio.current_time()
    left = anyio.current_effective_deadline() - now
    return now + min(LONGEST_WAIT, max(left / 2, 0.0))


def _explained(failure: anyio.BrokenResourceError, question: Question[object]) -> Exception:
    cause = reported(failure)
    if isinstance(cause, ssl.SSLError):
        return cause
    error = question.broken(cause or failure)
    error.__cause__ = cause or failure
    return error
