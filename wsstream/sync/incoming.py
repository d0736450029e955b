"""Messages on their way from the event loop to a thread: many for each trip.

A thread that asks for a message gets all that are complete, up to a quarter of the connection's high-water
mark; the next calls take them without the event loop. If none is there, the thread waits for a lock, which
the event loop releases when it has put what arrives into the batch. Nothing is taken before a thread asks, so
a thread that does not read stops the peer as in the asynchronous API.
"""

from __future__ import annotations

import threading
from collections import deque
from time import monotonic
from typing import Any, Protocol
from weakref import ref

import anyio

from wsstream.codec.events import PIECE_OVERHEAD
from wsstream.driver.ending import Ending
from wsstream.driver.receiver import Receiver
from wsstream.errors import MessageTooBig
from wsstream.streams.reader import MessageReader as AsyncReader
from wsstream.streams.reader import next_reader
from wsstream.sync.background import Background
from wsstream.sync.call import check_timeout

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
        self._waiter: Any = None  # a lock, which is released when something has arrived
        self._watching = False  # the receiver may be told to call `_arrived`
        receiver.intake.on_arrival = self._arrived
        self._begun: AsyncReader | None = None  # a message that nobody has taken yet
        self._open: ref[Reader] | None = None  # who takes a message in chunks

    @property
    def threads_waiting(self) -> int:
        """Threads that wait without a task in the event loop."""
        return self._waiter is not None

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
        self._check_usable()
        with self._busy:
            self._give_way()
            if not self.batch:
                self._fetch(timeout)
            return self.batch.popleft()

    def _fetch(self, timeout: float | None) -> None:
        """Get messages into the batch: by waiting for them, if that is all there is to do, or by a task."""
        check_timeout(timeout)
        begun = monotonic()
        self._wait_for_arrival(-1 if timeout is None else min(timeout, threading.TIMEOUT_MAX))
        if not self.batch:
            self._background.call(self._fill, timeout, self._fill_now, begun=begun)

    def _wait_for_arrival(self, timeout: float) -> None:
        """Wait until something has arrived; not at all if something else is to be done first."""
        waiter = threading.Lock()
        waiter.acquire()
        self._waiter = waiter
        try:
            if self._start_watching():
                waiter.acquire(timeout=timeout)
        finally:
            self._waiter = None  # else what arrives later would be taken without being asked for

    def _start_watching(self) -> bool:
        gate = self._background.gate
        with gate.lock:
            if not gate.asleep or self._begun is not None or self.batch:  # of a wait before
                return False
            self._watching = True  # first: Ctrl-C may come in between
            return self._receiver.start_watching()

    def take_reader(self, timeout: float | None) -> tuple[bytes | str, AsyncReader | None]:
        """The next message: whole, if it is here, or the reader in the event loop that takes it in chunks."""
        self._check_usable()
        with self._busy:
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

    def _check_usable(self) -> None:
        if self._background.forked:
            self._background.post(self.drop)  # raises
        if self._busy.locked():  # not `acquire`, after which Ctrl-C would leave it locked
            raise anyio.BusyResourceError("receiving from")

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

    def _arrived(self) -> None:
        if self._watching:
            self._stop_watching()
            if (waiter := self._waiter) is not None:
                self._waiter = None
                try:
                    self._fill_now()
                finally:
                    waiter.release()

    def _stop_watching(self) -> None:
        if self._watching:
            self._watching = False
            self._receiver.stop_watching()

    def _fill_now(self) -> bool:
        self._stop_watching()
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
        self._stop_watching()
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
