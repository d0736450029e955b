"""`typed`: the messages of a WebSocket as objects of the application."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Generic, TypeVar

from anyio.abc import ObjectReceiveStream, ObjectSendStream, ObjectStream

from wsstream.display import never_raises
from wsstream.errors import StreamEnded
from wsstream.streams.reader import MessageReader
from wsstream.streams.websocket import WebSocketStream

__all__ = ["TypedStream", "typed"]

R = TypeVar("R")  # what is received
S = TypeVar("S")  # what is sent


def typed(
    ws: WebSocketStream,
    decode: Callable[[bytes], R],
    encode: Callable[[S], str | bytes | bytearray | memoryview],
    *,
    binary: bool = False,
) -> TypedStream[R, S]:
    """Make an object stream of a WebSocket: each message is one object of your type.

    ::

        async for order in typed(ws, json.loads, json.dumps): ...
        stream = typed(ws, msgspec.json.Decoder(Order).decode, msgspec.json.encode)
        stream = typed(ws, Order.model_validate_json, Order.model_dump_json)

    Receive with this stream or with `ws`, not with both.

    Args:
        decode: called with the payload of each message; that of a text message is its UTF-8, valid, from
            which no ``str`` was made.
        encode: returns the payload of a message; a ``str`` is encoded as UTF-8.
        binary: send binary messages. Otherwise text messages, for which `encode` must return UTF-8.

    Raises:
        TypeError: `decode` or `encode` cannot be called.
    """
    for name, function in (("decode", decode), ("encode", encode)):
        if not callable(function):
            raise TypeError(f"{name} must be a function, got {type(function).__name__}")
    return TypedStream(ws, decode, encode, binary=binary)


class TypedStream(ObjectReceiveStream[R], ObjectSendStream[S], Generic[R, S]):
    """A stream of objects. Made by :func:`typed`.

    Attributes:
        ws: the connection below.
    """

    def __init__(
        self,
        ws: WebSocketStream,
        decode: Callable[[bytes], R],
        encode: Callable[[S], str | bytes | bytearray | memoryview],
        *,
        binary: bool,
    ) -> None:
        self.ws = ws
        self._decode = decode
        self._encode = encode
        self._binary = binary
        self._reader: MessageReader | None = None  # of a message that has begun to arrive

    @never_raises
    def __repr__(self) -> str:
        return f"<TypedStream over {self.ws!r}>"

    async def receive(self) -> R:
        """The next object. If cancelled, nothing is lost: call again.

        Raises:
            Exception: what `decode` raises. The message is used up, and the connection stays open.
            StreamEnded, ConnectionBroken, ClosedLocally, MessageTooBig, anyio.BusyResourceError: as
                :meth:`Readable.receive`.
        """
        if self._reader is None:
            self._reader = await self.ws.readable.message().__aenter__()
        payload = await self._reader.read()
        self._reader = None
        return self._decode(payload)

    def __aiter__(self) -> TypedStream[R, S]:
        return self

    async def __anext__(self) -> R:
        try:
            return await self.receive()
        except StreamEnded:
            raise StopAsyncIteration from None

    async def send(self, item: S) -> None:
        """Send one object as one message. If cancelled: as :meth:`Writable.send`.

        Raises:
            Exception: what `encode` raises; ``UnicodeDecodeError`` if its bytes are no UTF-8 and the message
                would be text. Nothing is sent.
            TypeError: `encode` returned neither ``str`` nor bytes-like.
            ConnectionBroken, ClosedLocally: as :meth:`Writable.send`.
        """
        payload = self._encode(item)
        if not isinstance(payload, str | bytes | bytearray | memoryview):
            raise TypeError(f"encode must return str or bytes, got {type(payload).__name__}")
        if isinstance(payload, str):
            await self.ws.send(payload.encode() if self._binary else payload)
        else:
            await self.ws.send(payload if self._binary else str(payload, "utf-8"))

    async def send_eof(self) -> None:
        """Not possible, as for :meth:`WebSocketStream.send_eof`. Never waits, so it cannot be cancelled.

        Raises:
            NotImplementedError: always.
        """
        await self.ws.send_eof()

    async def aclose(self, code: int | None = None, reason: str = "") -> None:
        """Close the connection, as :meth:`WebSocketStream.aclose` does. If cancelled, TCP is dropped.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.aclose` does; nothing else.
        """
        await self.ws.aclose(code, reason)

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """Those of the connection."""
        return self.ws.extra_attributes


ObjectStream.register(TypedStream)  # one type both ways would not do for all that libraries send and receive
