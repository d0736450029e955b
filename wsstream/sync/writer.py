"""One message that is being sent, as a file."""

from __future__ import annotations

import io
from typing import Any

import anyio

from wsstream.codec.events import Kind
from wsstream.display import never_raises
from wsstream.streams.writer import MessageWriter as AsyncWriter
from wsstream.sync.link import Link

__all__ = ["MessageWriter"]


class MessageWriter(io.RawIOBase):
    """The message that is being sent, as a binary file. Made by :meth:`Writable.message`.

    ``shutil.copyfileobj(file, writer)`` sends a file of any size;
    ``io.TextIOWrapper(io.BufferedWriter(writer), "utf-8")`` gathers what is printed. Each `write` is a trip
    to the event loop, so wrap the writer in an :class:`io.BufferedWriter` if you write little at a time.

    Leaving the block of :meth:`Writable.message` finishes the message (FIN). Leaving it by an exception, also
    by Ctrl-C, never does: the peer sees no end of the message, and Close 1011. So `close`, which also a
    wrapper calls whatever has happened, does not finish it by itself: it only ends writing.

    Attributes:
        kind (str): ``"text"`` or ``"binary"``.
        bytes_sent: bytes handed over so far.
    """

    def __init__(self, link: Link, writer: AsyncWriter) -> None:
        super().__init__()
        self.kind: Kind = writer.kind
        self._link = link
        self._writer = writer
        self._closing = False
        self._ended = False

    @never_raises
    def __repr__(self) -> str:
        state = "closed" if self.closed else "open"
        text = f"{self.kind}, {self.bytes_sent} bytes sent, {state}"
        return f"<MessageWriter of connection {self._link.ending.id}: {text}>"

    @property
    def bytes_sent(self) -> int:
        """Bytes handed over so far."""
        return self._writer.bytes_sent

    def send(self, item: bytes | bytearray | memoryview | str, *, timeout: float | None = None) -> None:
        """Send a chunk. A text message takes ``str``, or bytes of UTF-8 cut anywhere.

        After Ctrl-C or a timeout, all of the chunk is sent or nothing, as `bytes_sent` tells. Afterwards
        `item` may be changed.

        Raises:
            TimeoutError: there was no room for it within `timeout` seconds.
            TypeError: a ``str`` in a binary message, or no bytes-like object.
            ValueError: more bytes than declared; a lone surrogate (``UnicodeEncodeError``).
            InvalidUTF8: bytes that are not UTF-8, in a text message; nothing of the chunk is sent.
            ConnectionBroken, ClosedLocally: the connection has ended.
            anyio.ClosedResourceError: the writer was closed.
        """
        if self.closed:
            raise anyio.ClosedResourceError
        self._link.call(lambda: self._writer.send(item), timeout)

    def write(self, data: Any) -> int:
        """As `send`, for bytes; returns how many: all of them.

        Raises:
            ValueError: also if the writer was closed.
        """
        if self.closed:
            raise ValueError("the writer of the message was closed")
        with memoryview(data) as view:
            size = view.nbytes
        self.send(data if isinstance(data, bytes | bytearray | memoryview) else bytes(data))
        return size

    def writable(self) -> bool:
        """It can be written to."""
        return True

    def flush(self) -> None:
        """Wait until all chunks sent so far have left for the kernel. On a closed writer nothing happens.

        Raises:
            ConnectionBroken, ClosedLocally: the connection has ended.
        """
        if not (self.closed or self._closing):
            self._link.call(self._writer.flush)

    def close(self) -> None:
        """Take no more chunks. The message is finished when the block is left. Never waits."""
        self._closing = True  # a file's close() calls flush()
        super().close()

    def abort(self) -> None:
        """Leave the message unfinished: the connection fails with 1011. Never waits."""
        self.close()
        if not self._ended:
            self._ended = True
            self._link.background.post_if_alive(self._writer.abort)
            self._link.outgoing.pass_turn()

    def _end(self, error: BaseException | None) -> None:
        """The block is left: by `error` the message is aborted, else it is finished."""
        if self._ended:
            return
        if error is not None or self._link.background.forked:
            self.abort()
            return
        self.close()
        self._ended = True
        try:
            self._link.call(self._writer.aclose)
        finally:
            self._link.outgoing.pass_turn()

    def __del__(self) -> None:
        if hasattr(self, "_writer"):
            self.abort()
