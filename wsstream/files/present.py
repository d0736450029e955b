"""A file that this end asked for, and that is here already: it is compared instead of received.

That is how a program goes on which was killed after the last file had got its name. The sender does not know
the digest of its file when it offers it. So this end accepts the file from its end on: both ends then read
theirs, the sender tells the digest, and no byte is moved.
"""

from __future__ import annotations

from functools import partial

from anyio import CancelScope, to_thread

from wsstream.files.channel import Channel
from wsstream.files.errors import TransferError
from wsstream.files.expected import FileDigest
from wsstream.files.progress import Meter
from wsstream.files.protocol.digests import new_digest
from wsstream.files.protocol.messages import MAX_CHECK, Accept, Done, End, Offer, Prefix
from wsstream.files.protocol.window import MIN_WINDOW
from wsstream.files.receiver import Storage
from wsstream.files.reception import check_size, choose_digest, refuse, say_done
from wsstream.files.result import TransferResult
from wsstream.files.storage.partial import hash_range
from wsstream.files.storage.source import Source

__all__ = ["compare"]

_STEP = 64 << 20  # bytes that are hashed in one trip to a worker thread


async def compare(
    channel: Channel, offer: Offer, storage: Storage, name: str, meter: Meter
) -> TransferResult | None:
    """If this is the file that is called `name`, and nothing may replace that, return what is here.

    ``None``: there is no file of that name and size, and the offer is still to be answered.

    Raises:
        TransferError: also ``exists``: there is another file of that name and size.
        ConnectionClosed: the connection has ended.
    """
    if storage.on_exist != "fail" or offer.size is None:
        return None
    token = storage.token(name, offer)
    opened: list[Source] = []  # a result would be lost if this is cancelled while the thread runs
    try:
        check_size(offer.size, storage.max_size)
        await to_thread.run_sync(_open, opened, storage, name, offer.size, token)
        if not opened:
            return None
        return await _Comparison(channel, offer, opened[0], name, meter).run(token, storage.expect)
    except BaseException as error:
        if channel.session.id == offer.id:
            refuse(channel, channel.problem(error))
        raise
    finally:
        with CancelScope(shield=True):
            await to_thread.run_sync(_close, opened)


def _open(opened: list[Source], storage: Storage, name: str, size: int, token: str) -> None:
    if (found := storage.root.find_sized(name, size, token)) is not None:
        opened.append(found)


def _close(opened: list[Source]) -> None:
    for source in opened:
        source.close()


class _Comparison:
    def __init__(self, channel: Channel, offer: Offer, source: Source, name: str, meter: Meter) -> None:
        self._channel = channel
        self._offer = offer
        self._source = source
        self._name = name
        self._meter = meter
        self._hashed = 0  # bytes

    async def run(self, token: str, expect: str | None) -> TransferResult:
        channel, offer, size = self._channel, self._offer, self._source.size
        kind = choose_digest(offer)
        check = await self._prefix(kind)
        channel.check()
        channel.post(Accept(offer.id, size, kind, MIN_WINDOW, channel.step, token, check))
        self._meter.start(size, size)
        self._meter.tell("verifying", size, size)
        digest = FileDigest(kind, expect)
        async with channel.telling("hashing", lambda: self._hashed, size):
            while self._hashed < size:
                await self._hash(digest, self._hashed, min(self._hashed + _STEP, size))
        found = digest.hexdigest()
        if (await self._end()).digest != found:
            raise _another()
        digest.check()
        say_done(channel, Done(offer.id, size, found, kind, self._name, size))
        self._meter.tell("done", size, size)
        return TransferResult(self._name, size, found, kind, 0)

    async def _prefix(self, kind: str) -> Prefix | None:
        """The last bytes, for the sender to compare first."""
        if not self._source.size:
            return None
        digest = new_digest(kind)
        start = max(0, self._source.size - MAX_CHECK)
        await to_thread.run_sync(
            partial(hash_range, self._source.read_into, digest, start, self._source.size)
        )
        return Prefix(start, self._source.size, digest.hexdigest())

    async def _hash(self, digest: FileDigest, start: int, stop: int) -> None:
        self._hashed = await to_thread.run_sync(hash_range, self._source.read_into, digest, start, stop)
        if self._hashed < stop:
            raise _another()  # it became shorter meanwhile

    async def _end(self) -> End:
        while True:
            event = await self._channel.event()
            if isinstance(event, End):
                return event
            if isinstance(event, Offer):  # the last bytes differ: it is offered from the start
                raise _another()


def _another() -> TransferError:
    return TransferError("exists", "there is another file of that name")
