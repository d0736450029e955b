"""Messages of one kind only: the other kind closes the connection with 1003 (RFC 6455 section 7.4.1)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from anyio.abc import ObjectReceiveStream

from wsstream.close_codes import CloseCode
from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.errors import WebSocketError

__all__ = ["Only", "Payload", "kind_of", "refuse_kind"]

Payload = TypeVar("Payload", bound=str | bytes)

_KINDS: dict[type, Kind] = {str: "text", bytes: "binary"}


class Only(ObjectReceiveStream[Payload]):
    """The messages of `readable`: all ``str``, or all ``bytes``. Made by ``readable.only()``."""

    def __init__(
        self,
        readable: ObjectReceiveStream[Any],
        payload: type[Payload],
        begin_close: Callable[[int, str], None],
    ) -> None:
        self._kind: Kind = kind_of(payload)
        self._readable = readable
        self._payload = payload
        self._begin_close = begin_close

    @never_raises
    def __repr__(self) -> str:
        return f"<the {self._payload.__name__} messages of {self._readable!r}>"

    async def receive(self) -> Payload:
        """The next message. If cancelled, nothing is lost.

        Raises:
            WebSocketError: it is of the other kind. Its code is 1003; the connection is closing with that.
            StreamEnded, ConnectionBroken, ClosedLocally, MessageTooBig, anyio.BusyResourceError: as
                :meth:`Readable.receive` does.
        """
        message = await self._readable.receive()
        if isinstance(message, self._payload):
            return message
        raise refuse_kind(self._kind, self._begin_close)

    async def aclose(self) -> None:
        """Close the connection, as :meth:`Readable.aclose` does."""
        await self._readable.aclose()


def kind_of(payload: type) -> Kind:
    """The kind of the messages of a type.

    Raises:
        TypeError: it is neither ``str`` nor ``bytes``.
    """
    if payload not in _KINDS:
        raise TypeError(f"only() takes str or bytes, the types of messages, not {payload!r}")
    return _KINDS[payload]


def refuse_kind(wanted: Kind, begin_close: Callable[[int, str], None]) -> WebSocketError:
    """Begin to close with 1003, as the peer sent a message of the other kind; returns what to raise."""
    code, reason = int(CloseCode.UNSUPPORTED_DATA), f"only {wanted} messages are taken here"
    begin_close(code, reason)
    other = "binary" if wanted == "text" else "text"
    return WebSocketError(f"the peer sent a {other} message: {reason}", code=code, reason=reason)
