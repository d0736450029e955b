"""One HTTP request and its response over a transport, while a connection is being opened.

A server or proxy that rejects a request need not read all of it before it responds, and need not end its
response: a body without a length ends with the connection, an event stream never. So the response is read
while the request is being sent, and also after sending failed. Its status is enough; the rest of it is waited
for only for a moment.
"""

from __future__ import annotations

import math
import ssl
from typing import Generic, Protocol, TypeVar

import anyio

from wsstream.errors import HandshakeError
from wsstream.transports.base import Transport, receive_some, send_all
from wsstream.transports.failures import reported

__all__ = ["Handshake", "round_trip"]

LONGEST_WAIT = 0.5  # seconds, for data that is not needed
_READ_SIZE = 16 * 1024  # bytes

_Result = TypeVar("_Result")
_Result_co = TypeVar("_Result_co", covariant=True)


class Handshake(Protocol[_Result_co]):
    """A request, and the parser of its response."""

    @property
    def head_received(self) -> bool:
        """Whether the status is known, and at most a part of the body is missing."""
        ...

    def data_to_send(self) -> bytes:
        """The request."""
        ...

    def receive_data(self, data: bytes) -> _Result_co | None:
        """Parse received `data`, ``b""`` at the end: return the result of a good response, or raise.

        ``None`` means that more data is needed; never at the end.
        """
        ...

    def broken(self, cause: Exception) -> HandshakeError:
        """The error for a connection that broke before the response, because of `cause`."""
        ...


async def round_trip(transport: Transport, handshake: Handshake[_Result]) -> _Result:
    """Send the request of `handshake`, and return what it makes of the response.

    The transport stays open, whatever happens. If this is cancelled, any part of the request may have left.

    Raises:
        HandshakeError: as `handshake` raises, or returns from `broken`; the cause is the reported error.
        ssl.SSLError: the connection broke, and TLS reported why.
    """
    trip = _RoundTrip(transport, handshake)
    trip.send_now()
    if trip.is_sent:  # nearly always: the request fits into the transport's buffer
        return await trip.read_response()
    failure: Exception | None = None
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(trip.send_rest)
        try:
            return await trip.read_response()
        except Exception as error:  # the task group would wrap it
            failure = error
            tasks.cancel_scope.cancel()
    assert failure is not None
    raise failure


class _RoundTrip(Generic[_Result]):
    def __init__(self, transport: Transport, handshake: Handshake[_Result]) -> None:
        self._transport = transport
        self._handshake = handshake
        self._unsent = memoryview(handshake.data_to_send())
        self._failure: anyio.BrokenResourceError | None = None
        self._reading = anyio.CancelScope()  # gets a deadline once the rest is not needed

    @property
    def is_sent(self) -> bool:
        return self._failure is not None or not (self._unsent or self._transport.unsent)

    def send_now(self) -> None:
        try:
            self._unsent = self._unsent[self._transport.send([self._unsent]) :]
        except anyio.BrokenResourceError as error:
            self._break(error)

    async def send_rest(self) -> None:
        try:
            await send_all(self._transport, bytes(self._unsent))
        except anyio.BrokenResourceError as error:
            self._break(error)

    async def read_response(self) -> _Result:
        with self._reading:
            try:
                while data := await receive_some(self._transport, _READ_SIZE):
                    result = self._handshake.receive_data(data)
                    if result is not None:
                        return result
                    if self._handshake.head_received:
                        self._hurry()
            except anyio.BrokenResourceError as error:
                self._break(error)
        return self._end()

    def _end(self) -> _Result:
        """The result of what was received: no more will come, or no more is needed."""
        if self._failure is not None and not self._handshake.head_received:
            raise _explained(self._failure, self._handshake)
        result = self._handshake.receive_data(b"")
        assert result is not None
        return result

    def _break(self, failure: anyio.BrokenResourceError) -> None:
        """One direction broke: read on for a moment, as the peer may have said why."""
        if self._failure is None or reported(failure) is not None:
            self._failure = failure
        self._hurry()

    def _hurry(self) -> None:
        """Read for a moment only, and stop before the caller's own deadline."""
        if self._reading.deadline == math.inf:
            now = anyio.current_time()
            left = anyio.current_effective_deadline() - now
            self._reading.deadline = now + min(LONGEST_WAIT, max(left / 2, 0.0))


def _explained(failure: anyio.BrokenResourceError, handshake: Handshake[object]) -> Exception:
    cause = reported(failure)
    if isinstance(cause, ssl.SSLError):
        return cause
    error = handshake.broken(cause or failure)
    error.__cause__ = cause or failure
    return error
