"""One open WebSocket, for threads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, TypeVar

from wsstream.display import never_raises, without_query
from wsstream.errors import CloseInfo, check_close_arguments
from wsstream.opening.http import Request, Response
from wsstream.streams.condition import ConnectionState
from wsstream.streams.websocket import Statistics
from wsstream.sync.link import Link
from wsstream.sync.readable import Readable
from wsstream.sync.writable import Message, Writable

__all__ = ["WebSocketStream"]

T = TypeVar("T")
D = TypeVar("D")


class WebSocketStream:
    """One WebSocket as two streams of messages, ``readable`` and ``writable``, without async.

    Made by :func:`~wsstream.sync.connect`, :func:`~wsstream.sync.reconnect` and :func:`~wsstream.sync.serve`.
    ``receive``, ``send`` and ``for`` are short forms of the streams' own. Leaving a block of ``with ws``
    closes as leaving that of ``connect`` does. It may be used by several threads: one at a time receives, any
    number send, and closing it in one wakes the others, whose calls raise ``ClosedLocally``. A process that
    was forked cannot use it: calls raise ``RuntimeError``, and closing does nothing.

    Attributes:
        readable: the peer's messages.
        writable: where messages are sent.
        subprotocol: the one that was agreed on, or ``""``.
        extensions: the agreed extensions as in the header, or ``""``.
        request: the opening handshake's request.
        response: the server's answer to it.
    """

    def __init__(self, link: Link) -> None:
        ws = link.ws
        self._link = link
        self.readable = Readable(link)
        self.writable = Writable(link)
        self.subprotocol: str = ws.subprotocol
        self.extensions: str = ws.extensions
        self.request: Request = ws.request
        self.response: Response = ws.response

    @never_raises
    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.id} {without_query(self._link.ws.url)} {self.state}>"

    def __enter__(self) -> WebSocketStream:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        self._link.leave(exc)

    @property
    def url(self) -> str:
        """The normalised URL; on a server as the client asked for it."""
        return self._link.ws.url

    @property
    def id(self) -> str:
        """A short name of this connection in logs, unlike others of the process."""
        return self._link.ending.id

    # -- messages ----------------------------------------------------------------------------

    def receive(self, *, timeout: float | None = None) -> str | bytes:
        """Short for :meth:`Readable.receive`."""
        return self.readable.receive(timeout=timeout)

    def __iter__(self) -> Iterator[str | bytes]:
        return self.readable

    def __next__(self) -> str | bytes:
        return next(self.readable)

    def send(self, item: Message, *, compress: bool = True, timeout: float | None = None) -> None:
        """Short for :meth:`Writable.send`."""
        self.writable.send(item, compress=compress, timeout=timeout)

    # -- the connection ----------------------------------------------------------------------

    @property
    def state(self) -> ConnectionState:
        """Whether messages can be sent (``"open"``), the end has begun (``"closing"``) or is over."""
        return self._link.ws.state

    @property
    def close_info(self) -> CloseInfo | None:
        """How the connection ended, as soon as that is certain."""
        return self._link.ending.info

    def ping(self, *, timeout: float | None = None) -> float:
        """Send a Ping and wait for its Pong; returns the seconds between.

        Raises:
            TimeoutError: none came within `timeout` seconds.
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        return self._link.call(self._link.ws.ping, timeout)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close: send what was accepted, drop what arrives, and wait for the peer's Close.

        Without code and reason the Close frame is empty (the peer sees 1005); a reason alone is sent with
        1000. After ``close_timeout`` seconds, or after Ctrl-C, TCP is dropped. On a closed connection nothing
        happens.

        Raises:
            TypeError, ValueError: the code must not be sent or the reason is too long; checked first.
        """
        self.writable.close(code, reason)

    def begin_close(self, code: int | None = None, reason: str = "") -> None:
        """What `close` does, without waiting for the end; see `wait_closed`."""
        check_close_arguments(code, reason)
        self._link.begin_close(code, reason)

    def abort(self) -> None:
        """Drop TCP at once, without a Close frame. Never waits."""
        self._link.abort()

    def wait_closed(self, *, timeout: float | None = None) -> CloseInfo:
        """Wait until the connection is closed and nothing of it is left.

        Raises:
            TimeoutError: that was not so within `timeout` seconds.
            ConnectionBroken: the end was not clean, except after a local `abort`.
        """
        return self._link.call(self._link.ws.wait_closed, timeout)

    def statistics(self) -> Statistics:
        """What is in the buffers now, those between the threads and the event loop included.

        ``tasks_waiting_receive`` and ``tasks_waiting_send`` count the threads that wait.
        """
        found, link = self._link.ws.statistics(), self._link
        return replace(
            found,
            receive_buffered=found.receive_buffered + link.incoming.cost,
            send_buffered=found.send_buffered + link.outgoing.size,
            tasks_waiting_receive=found.tasks_waiting_receive + link.incoming.threads_waiting,
            tasks_waiting_send=found.tasks_waiting_send + link.outgoing.threads_waiting,
        )

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """What anyio calls typed attributes, as in ``ws.extra(SocketAttribute.remote_address)``."""
        return self._link.ws.extra_attributes

    def extra(self, attribute: Any, default: Any = ...) -> Any:
        """The value of a typed attribute of anyio's, or `default`.

        Raises:
            anyio.TypedAttributeLookupError: it is not known, and there is no default.
        """
        return self._link.ws.extra(attribute) if default is ... else self._link.ws.extra(attribute, default)
