"""Messages on their way from the event loop to a thread: many for each trip.

A thread that asks for a message gets all that are complete, up to a quarter of the connection's high-water
mark; the next calls take them without the event loop. Nothing is taken before a thread asks, so a thread that
does not read stops the peer as in the asynchronous API.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol
from weakref import ref

import anyio

from wsstream.codec.events import PIECE_OVERHEAD
from wsstream.driver.ending import Ending
from wsstream.driver.receiver import Receiver
from wsstream.errors import MessageTooBig
from wsstream.streams.reader import MessageReader as AsyncReader
from wsstream.streams.reader import next_reader
from wsstream.sync.background import Background

__all__ = ["Incoming"]


class Reader(Protocol):
    """Who takes a message in chunks, in one thread."""

    thread: int

    def close(self) -> None:
        """Skip the rest. Never waits."""


class Incoming:
    """What a thread receives.

    Attributes:
        batch: messages that the event loop has given out and no thread has taken.
        most: the bytes of a batch.
        ahead: the bytes of a message in chunks that are fetched at once, even if fewer are asked for.
    """

    def __init__(self, background: Background, receiver: Receiver, ending: Ending) -> None:
        self.batch: deque[str | bytes] = deque()
        self.most = max(1, receiver.inbox.high_water // 4)
        self.ahead = max(1, receiver.inbox.high_water // 2)
        self._background = background
        self._receiver = receiver
        self._ending = ending
        self._busy = threading.Lock()  # held by the thread that receives
        self._begun: AsyncReader | None = None  # a message that nobody has taken yet
        self._open: ref[Reader] | None = None  # who takes a message in chunks

    @property
    def cost(self) -> int:
        """Payload in the batch, plus 64 for each message."""
        return sum(len(message) + PIECE_OVERHEAD for message in list(self.batch))

    # -- in a thread ---------------------------------------------------------------------------

    def take(self, timeout: float | None = None) -> str | bytes:
        """The next message, as ``receive`` returns it."""
        if self._open is None and not self._background.forked:
            try:
                return self.batch.popleft()
            except IndexError:
                pass
        with self._receiving():
            self._give_way()
            if not self.batch:
                self._fetch(timeout)
            return self.batch.popleft()

    def _fetch(self, timeout: float | None) -> None:
        self._background.call(self._fill, timeout, self._fill_now)

    def take_reader(self, timeout: float | None) -> tuple[bytes | str, AsyncReader | None]:
        """The next message: whole, if it is here, or the reader in the event loop that takes it in chunks."""
        with self._receiving():
            self._give_way()
            if not self.batch and self._begun is None:
                self._background.call(self._begin, timeout)
            if self.batch:
                return self.batch.popleft(), None
            begun, self._begun = self._begun, None
            return b"", begun

    def set_reader(self, reader: Reader | None) -> None:
        """`reader` takes a message in chunks from now on; ``None``: nobody does."""
        self._open = None if reader is None else ref(reader)

    @contextmanager
    def _receiving(self) -> Iterator[None]:
        if self._background.forked:
            self._background.post(self.drop)  # raises
        if not self._busy.acquire(blocking=False):
            raise anyio.BusyResourceError("receiving from")
        try:
            yield
        finally:
            self._busy.release()

    def _give_way(self) -> None:
        """Skip the rest of the message whose reader this thread has left open.

        Raises:
            anyio.BusyResourceError: another thread has it open.
        """
        if self._open is not None and (reader := self._open()) is not None:
            if reader.thread != threading.get_ident():
                raise anyio.BusyResourceError("receiving from")
            reader.close()
        self._open = None

    # -- in the event loop ---------------------------------------------------------------------

    def _fill_now(self) -> bool:
        if self._begun is None:
            self.batch.extend(self._receiver.take_messages(self.most))
        return bool(self.batch)

    async def _fill(self) -> None:
        receiver = self._receiver
        if self._begun is not None:  # for a call that was interrupted
            payload = await self._begun.read()
            kind, self._begun = self._begun.kind, None
            self.batch.append(payload.decode() if kind == "text" else payload)
            return
        receiver.start_taking()
        while (message := receiver.take_message()) is None:
            await receiver.wait_for_data()
        self.batch.append(message)
        self.batch.extend(receiver.take_messages(self.most - len(message)))

    async def _begin(self) -> None:
        self._begun = await next_reader(self._receiver, self._ending.id)

    def drop(self) -> None:
        """Nothing that has arrived is wanted any more."""
        self._begun = None
        self.batch.clear()

    def refuse(self, error: MessageTooBig) -> None:
        """The message that a reader takes is larger than its caller allows."""
        self._receiver.refuse(error)

    def discard(self) -> None:
        """Drop what has arrived and what will."""
        self.drop()
        self._receiver.discard()
