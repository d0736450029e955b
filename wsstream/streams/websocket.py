"""One open WebSocket: two streams and what belongs to both."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from anyio.abc import ObjectStream

from wsstream.display import never_raises, without_query
from wsstream.driver.driver import Driver
from wsstream.driver.ending import Ending
from wsstream.driver.intake import Reading
from wsstream.errors import CloseInfo, check_close_arguments
from wsstream.opening.http import Request, Response
from wsstream.streams.bytestream import WebSocketByteStream
from wsstream.streams.close_on_exit import leave
from wsstream.streams.condition import ConnectionState, state_of
from wsstream.streams.readable import Readable
from wsstream.streams.send_chunks import AnyChunks
from wsstream.streams.writable import Writable
from wsstream.transports.attributes import TransportAttributes

__all__ = ["Statistics", "WebSocketStream", "driver_of", "ending_of", "is_client"]


@dataclass(frozen=True, slots=True)
class Statistics:
    """A look into a connection's buffers. Sizes are bytes.

    Attributes:
        bytes_received, bytes_sent: on the wire, since the opening handshake.
        receive_buffered: unread payload, plus 64 for each piece.
        send_buffered: handed over and not yet left for the kernel.
        reading_paused: reading has stopped at the high-water mark, or for the server's ``receive_rate``.
        tasks_waiting_receive, tasks_waiting_send: tasks that wait for data; for their turn or for room.
    """

    bytes_received: int
    bytes_sent: int
    receive_buffered: int
    send_buffered: int
    reading_paused: bool
    tasks_waiting_receive: int
    tasks_waiting_send: int


class WebSocketStream(ObjectStream[str | bytes]):
    """One WebSocket as two streams of messages, ``readable`` and ``writable``.

    Made by :func:`~wsstream.connect`, :func:`~wsstream.serve` and :func:`~wsstream.accept`.
    ``receive``, ``send`` and ``async for`` are short forms of the streams' own. Leaving a block of
    ``async with ws`` closes as leaving that of ``connect`` does. It belongs to the event loop in which it was
    opened, and so to one thread: from others, use ``anyio.from_thread.run(ws.send, message)``.

    Attributes:
        readable: the peer's messages.
        writable: where messages are sent.
        subprotocol: the one that was agreed on, or ``""``.
        extensions: the agreed extensions as in the header, or ``""``.
        request: the opening handshake's request.
        response: the server's answer to it.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        url: object,
        subprotocol: str,
        extensions: str,
        request: Request,
        response: Response,
    ) -> None:
        self._driver = driver
        self._ending = driver.ending
        self.readable = Readable(driver.receiver, driver.ending)
        self.writable = Writable(driver.sender, driver.ending)
        self._url = url  # str() makes the URL: it would be one more copy of the request's target
        self.subprotocol = subprotocol
        self.extensions = extensions
        self.request = request
        self.response = response

    @never_raises
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {without_query(self._url)} {self.state}>"

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        await leave(self._ending, exc)

    @property
    def url(self) -> str:
        """The normalised URL; on a server as the client asked for it."""
        return str(self._url)

    @property
    def id(self) -> str:
        """A short name of this connection in logs, unlike others of the process."""
        return self._ending.id

    @property
    def path_params(self) -> Mapping[str, Any]:
        """The parameters that a :class:`Router` found in the path of the request, by their names."""
        return self.request.path_params

    # -- messages ----------------------------------------------------------------------------
    # These return the coroutines of the two streams, which spares one of their own for each message.

    def receive(self) -> Coroutine[Any, Any, str | bytes]:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Short for :meth:`Readable.receive`."""
        return self.readable.receive()

    def __aiter__(self) -> AsyncIterator[str | bytes]:  # type: ignore[override]
        return aiter(self.readable)

    def __anext__(self) -> Coroutine[Any, Any, str | bytes]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.readable.__anext__()

    def send(  # pyright: ignore[reportIncompatibleMethodOverride]
        self, item: str | bytes | bytearray | memoryview | AnyChunks, *, compress: bool = True
    ) -> Coroutine[Any, Any, None]:
        """Short for :meth:`Writable.send`."""
        return self.writable.send(item, compress=compress)

    async def send_eof(self) -> None:
        """Not possible: RFC 6455 cannot close one direction alone. Never waits, so it cannot be cancelled.

        Raises:
            NotImplementedError: always. See :meth:`byte_stream` for a half-close between two peers
                that agree on a mark.
        """
        raise NotImplementedError("a WebSocket cannot close one direction alone; see byte_stream(eof=...)")

    def byte_stream(self, eof: bytes | None = None) -> WebSocketByteStream:
        """The binary messages as one stream of bytes, for tunnels. Boundaries of messages mean nothing.

        With `eof`, a message with just that payload (``b""``: an empty message) ends one direction, so that
        both ends can half-close, and an end without it is never taken for a normal one.

        Raises:
            ValueError: `eof` has one byte, which could not be told from data.
        """
        return WebSocketByteStream(self._driver.receiver, self.writable, self._ending, eof)

    # -- the connection ----------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        """Whether messages can be sent (``"open"``), the end has begun (``"closing"``) or is over."""
        return state_of(self._ending)

    @property
    def close_info(self) -> CloseInfo | None:
        """How the connection ended, as soon as that is certain."""
        return self._ending.info

    async def ping(self) -> float:
        """Send a Ping and wait for its Pong; returns the seconds between.

        If cancelled, only the waiting ends. Raises what `send` raises when the connection ends first.
        """
        return await self._driver.ping()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close: send what was accepted, drop what arrives, and wait for the peer's Close.

        Without code and reason the Close frame is empty (the peer sees 1005); a reason alone is sent
        with 1000. After ``close_timeout`` seconds, or if cancelled, TCP is dropped. On a closed
        connection nothing happens.

        Raises:
            TypeError, ValueError: the code must not be sent or the reason is too long; checked first.
        """
        await self.writable.aclose(code, reason)

    def begin_close(self, code: int | None = None, reason: str = "") -> None:
        """What `aclose` does, without waiting for the end; see `wait_closed`."""
        check_close_arguments(code, reason)
        self._ending.close(code, reason)

    def abort(self) -> None:
        """Drop TCP at once, without a Close frame. Never waits."""
        self._ending.abort()

    async def wait_closed(self) -> CloseInfo:
        """Wait until the connection is closed and nothing of it is left. May be cancelled.

        Raises:
            ConnectionBroken: the end was not clean, except after a local `abort`.
        """
        return await self._ending.wait_closed()

    def statistics(self) -> Statistics:
        """What is in the buffers now."""
        driver = self._driver
        return Statistics(
            bytes_received=driver.receiver.intake.read_step.bytes_received,
            bytes_sent=driver.connection.queue.sent,
            receive_buffered=driver.receiver.inbox.cost,
            send_buffered=driver.sender.pump.unsent,
            reading_paused=driver.receiver.intake.reading is Reading.PAUSED,
            tasks_waiting_receive=driver.receiver.tasks_waiting,
            tasks_waiting_send=driver.sender.tasks_waiting,
        )

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What anyio calls typed attributes, as in ``ws.extra(SocketAttribute.remote_address)``."""
        return TransportAttributes(self._driver.transport).extra_attributes


def ending_of(ws: WebSocketStream) -> Ending:
    """The end of a connection, for those who open connections and close them: clients and servers."""
    return ws._ending


def driver_of(ws: WebSocketStream) -> Driver:
    """What moves the bytes of a connection, for those who hand messages over in batches."""
    return ws._driver


def is_client(ws: WebSocketStream) -> bool:
    """Whether this end opened the connection."""
    return ws._driver.connection.client
