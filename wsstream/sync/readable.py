"""The receiving side of a connection, for threads."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from types import TracebackType
from typing import IO, Generic

from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.errors import StreamEnded, check_close_arguments
from wsstream.streams.condition import described
from wsstream.streams.file_writer import Hash
from wsstream.streams.only import Payload, kind_of, refuse_kind
from wsstream.sync.block import Block
from wsstream.sync.link import Link
from wsstream.sync.reader import MessageReader

__all__ = ["Readable"]


class Readable(Iterator[str | bytes]):
    """The messages of the peer. A slow reader slows the peer: nothing piles up.

    ``for message in readable`` yields whole messages and ends with the connection's clean end. One thread at
    a time receives.
    """

    def __init__(self, link: Link) -> None:
        self._link = link
        self._take = link.incoming.take

    @never_raises
    def __repr__(self) -> str:
        return described(self, self._link.ending)

    def receive(self, *, timeout: float | None = None) -> str | bytes:
        """The next message: ``str`` for text, ``bytes`` for binary.

        After Ctrl-C or a timeout nothing is lost. The rest of a message whose reader this thread has left
        open is skipped.

        Raises:
            TimeoutError: none was complete within `timeout` seconds.
            StreamEnded: the peer closed cleanly, and all it sent was received.
            ConnectionBroken: the connection ended otherwise.
            ClosedLocally: it was closed on this side.
            MessageTooBig: the message is larger than ``max_message_size``; the connection fails with 1009.
            anyio.BusyResourceError: another thread is receiving.
        """
        return self._take(timeout)

    def message(self, *, timeout: float | None = None) -> AbstractContextManager[MessageReader]:
        """``with ws.readable.message() as reader``: wait for the next message and read it as a file.

        Leaving the block early skips the rest without buffering it. If entering is interrupted, nothing is
        lost. Raises what :meth:`receive` raises, but never ``MessageTooBig``.
        """
        return _NextMessage(self._link, timeout)

    def messages(self) -> Iterator[MessageReader]:
        """An iterator of readers, one for each message. Asking for the next skips the rest of the last.

        It ends and raises as iterating over the readable does.
        """
        return _Messages(self._link)

    def receive_file(
        self,
        file: str | os.PathLike[str] | IO[bytes],
        *,
        max_bytes: int | None = None,
        progress: Callable[[int], object] | None = None,
        hash: Hash | None = None,
    ) -> int:
        """Save the next message, whatever its size, in a file. Returns the number of bytes.

        A text message is saved as UTF-8. The file, the arguments, and what is raised are those of
        :meth:`MessageReader.save`; a path is opened when the message has begun. If this fails later, the rest
        of the message is skipped, and the connection goes on.

        Raises:
            StreamEnded: as `receive`.
        """
        with self.message() as reader:
            return reader.save(file, max_bytes=max_bytes, progress=progress, hash=hash)

    def only(self, payload: type[Payload]) -> Only[Payload]:
        """The same messages as an iterator of ``str`` (``only(str)``) or of ``bytes`` (``only(bytes)``).

        It has ``receive(timeout=...)``, too. A message of the other kind closes the connection with 1003, and
        the call that meets it raises :class:`~wsstream.WebSocketError` with that code.

        Raises:
            TypeError: `payload` is neither ``str`` nor ``bytes``.
        """
        return Only(self._link, self, payload)

    def discard(self) -> None:
        """Drop all messages, received and yet to come, for an application that only sends. Control frames are
        handled as before. Never waits.
        """
        self._link.background.post(self._link.incoming.discard)

    def close(self, code: int | None = None, reason: str = "") -> None:
        """Close the whole connection, both directions, as :meth:`WebSocketStream.close` does.

        Raises:
            TypeError, ValueError: as :meth:`WebSocketStream.close` does.
        """
        check_close_arguments(code, reason)
        self._link.close(code, reason)

    def __next__(self) -> str | bytes:
        try:
            return self._take()
        except StreamEnded:
            raise StopIteration from None


class Only(Iterator[Payload], Generic[Payload]):
    """The messages of `readable`: all ``str``, or all ``bytes``. Made by ``readable.only()``."""

    def __init__(self, link: Link, readable: Readable, payload: type[Payload]) -> None:
        self._kind: Kind = kind_of(payload)
        self._link = link
        self._readable = readable
        self._payload = payload

    @never_raises
    def __repr__(self) -> str:
        return f"<the {self._payload.__name__} messages of {self._readable!r}>"

    def receive(self, *, timeout: float | None = None) -> Payload:
        """The next message; raises as :meth:`Readable.receive` and :meth:`Readable.only` say."""
        message = self._readable.receive(timeout=timeout)
        if isinstance(message, self._payload):
            return message
        raise refuse_kind(self._kind, self._link.begin_close)

    def __next__(self) -> Payload:
        try:
            return self.receive()
        except StreamEnded:
            raise StopIteration from None


class _NextMessage(Block[MessageReader]):
    use = "ws.readable.message() as reader"

    def __init__(self, link: Link, timeout: float | None) -> None:
        self._link = link
        self._timeout = timeout
        self._reader: MessageReader | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<the next message of connection {self._link.ending.id}>"

    def __enter__(self) -> MessageReader:
        self._reader = _next_reader(self._link, self._timeout)
        return self._reader

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._reader is not None
        self._reader.close()


class _Messages(Iterator[MessageReader]):
    def __init__(self, link: Link) -> None:
        self._link = link

    @never_raises
    def __repr__(self) -> str:
        return f"<the messages of connection {self._link.ending.id}>"

    def __next__(self) -> MessageReader:
        try:
            return _next_reader(self._link, None)
        except StreamEnded:
            raise StopIteration from None


def _next_reader(link: Link, timeout: float | None) -> MessageReader:
    return MessageReader(link, *link.incoming.take_reader(timeout))
