"""Receiving one file over a channel, from the offer to Done, into a folder."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from functools import partial
from typing import TypeVar

import anyio
from anyio import CancelScope, current_time, to_thread

from wsstream.files.beside import beside
from wsstream.files.channel import Channel
from wsstream.files.errors import TransferError
from wsstream.files.expected import FileDigest
from wsstream.files.progress import Meter, Phase
from wsstream.files.protocol.digests import new_digest
from wsstream.files.protocol.messages import MAX_CHECK, Accept, Done, End, Offer, Prefix
from wsstream.files.protocol.window import MIN_WINDOW
from wsstream.files.reception import check_size, choose_digest, refuse, say_done, tell, verify
from wsstream.files.result import TransferResult
from wsstream.files.storage.fence import Fence
from wsstream.files.storage.locker import FileLocker, Locker
from wsstream.files.storage.partial import Partial
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.storage.target import OnExist, check_on_exist

__all__ = ["Storage", "receive_one"]

T = TypeVar("T")

_BATCH = 2 << 20  # bytes that are written in one trip to a worker thread
_SYNC_BYTES = 64 << 20  # written since the last time that all was on the disk
_SYNC_SECONDS = 5.0
_POLL = 0.25  # seconds between two looks at whether it is time


class Storage:
    """Where received files go, and what is allowed there.

    Args:
        root: the folder.
        on_exist: what happens if there is a file of that name.
        identity: who sends; nobody else goes on with a part. ``None``: everybody is the same.
        min_free: bytes that must stay free on the disk.
        quota: most bytes of all files in the folder; ``None``: no limit.
        max_size: most bytes of one file; ``None``: no limit.
        locker: says who may write a part; by default, a :class:`FileLocker`.
        expect: see `FileDigest`.
    """

    def __init__(
        self,
        root: SafeRoot,
        *,
        on_exist: OnExist = "fail",
        identity: str | None = None,
        min_free: int = 0,
        quota: int | None = None,
        max_size: int | None = None,
        locker: Locker | None = None,
        expect: str | None = None,
    ) -> None:
        check_on_exist(on_exist)
        self.root = root
        self.on_exist: OnExist = on_exist
        self.identity = identity
        self.min_free = min_free
        self.quota = quota
        self.max_size = max_size
        self.expect = expect
        self.locker: Locker = FileLocker(root) if locker is None else locker

    def on_exist_for(self, offer: Offer) -> OnExist:
        """What happens if there is a file of that name: none is replaced that the sender wants to be kept."""
        return "fail" if offer.keep and self.on_exist == "overwrite" else self.on_exist

    def token(self, name: str, offer: Offer) -> str:
        """The name of the part: the same for each attempt to send this version of the file here."""
        parts = (self.identity or "", name, str(offer.size), offer.etag)
        return hashlib.sha256("\0".join(parts).encode(errors="surrogatepass")).hexdigest()[:32]


async def receive_one(
    channel: Channel, offer: Offer, storage: Storage, name: str, meter: Meter
) -> TransferResult:
    """Take an offer, and receive the file as `name`.

    If cancelled, or if the file cannot be written, the sender is told; what is on the disk is kept, so that
    a later attempt goes on there.

    Raises:
        TransferError: the file cannot be taken, or the transfer failed. The session goes on, unless it is
            closed; ``superseded`` closes it.
        ConnectionClosed: the connection has ended.
    """
    try:
        return await _Receiving(channel, offer, storage, name, meter).run()
    except BaseException as error:
        if channel.session.id == offer.id:
            refuse(channel, channel.problem(error))
        raise


class _Receiving:
    def __init__(self, channel: Channel, offer: Offer, storage: Storage, name: str, meter: Meter) -> None:
        self._channel = channel
        self._session = channel.session
        self._offer = offer
        self._storage = storage
        self._name = name
        self._meter = meter
        self._moved = 0
        self._hash = ""  # the kind of the digest

    async def run(self) -> TransferResult:
        self._check_size(self._offer.size or 0)
        self._hash = choose_digest(self._offer)
        if (done := await self._find_complete()) is not None:
            return done
        token = self._storage.token(self._name, self._offer)
        async with self._storage.locker.hold(token) as fence:
            while True:
                part = await self._open(token, fence)
                try:
                    return await self._receive(part)
                except _StartAgain as again:
                    self._offer = again.offer
                    await self._in_thread(part.discard)
                finally:
                    with CancelScope(shield=True):
                        await to_thread.run_sync(self._leave, part)

    def _check_size(self, size: int) -> None:
        check_size(size, self._storage.max_size)

    async def _find_complete(self) -> TransferResult | None:
        """If the file is here already, say so."""
        offer, kind = self._offer, self._hash
        if offer.digest is None or offer.size is None or kind != offer.hashes[0]:
            return None
        find = partial(
            self._storage.root.find_complete,
            self._name,
            offer.size,
            offer.digest,
            token=self._storage.token(self._name, offer),
            new_hash=partial(new_digest, kind),
            on_exist=self._storage.on_exist_for(offer),
        )
        async with self._channel.telling("hashing", lambda: 0, offer.size):
            found = await to_thread.run_sync(find)
        return None if found is None else self._done(offer.size, offer.digest, found)

    def _done(self, size: int, digest: str, name: str) -> TransferResult:
        done = Done(self._offer.id, size, digest, self._hash, name, size)
        say_done(self._channel, done)
        self._meter.tell("done", size, size)
        return TransferResult(name, size, digest, self._hash, self._moved)

    async def _open(self, token: str, fence: Fence) -> Partial:
        """Open the part, where there is room for the rest of the file."""
        opened: list[Partial] = []  # a result would be lost if this is cancelled while the thread runs
        try:
            await self._in_thread(partial(self._open_part, opened, token, fence))
        except BaseException:
            with CancelScope(shield=True):
                await to_thread.run_sync(self._give_up, opened, fence)
            raise
        return opened[0]

    def _open_part(self, opened: list[Partial], token: str, fence: Fence) -> None:
        storage, offer = self._storage, self._offer
        part = storage.root.partial(
            self._name,
            token=token,
            size=offer.size,
            etag=offer.etag,
            identity=storage.identity,
            fence=fence,
            on_exist=storage.on_exist_for(offer),
        )
        opened.append(part)
        rest = 0 if offer.size is None else offer.size - part.durable
        storage.root.check_room(rest, min_free=storage.min_free, quota=storage.quota)

    def _give_up(self, opened: list[Partial], fence: Fence) -> None:
        """Nothing was received: leave no more behind than there was."""
        if not opened and fence.number == 1:  # there is no part, and never was
            fence.retire()
        for part in opened:
            self._leave(part)

    async def _receive(self, part: Partial) -> TransferResult:
        offset, kind = part.durable, self._hash
        digest = FileDigest(kind, self._storage.expect)
        check = await self._prefix(part)
        self._channel.check()
        token = part.token
        self._channel.post(Accept(self._offer.id, offset, kind, MIN_WINDOW, self._channel.step, token, check))
        self._meter.start(offset, self._offer.size)
        reader = _Reader(part, digest, behind=offset > 0)
        async with beside(partial(self._sync, part), reader.follow):
            end = await self._write(part, reader)
            await self._hash_rest(reader, end.size)
        verify(self._channel, digest.hexdigest())
        try:
            digest.check()
        except TransferError:
            await self._in_thread(part.discard)
            raise
        return await self._commit(part, end, digest.hexdigest())

    async def _prefix(self, part: Partial) -> Prefix | None:
        """What this end has before the offset, for the sender to compare."""
        if not part.durable:
            return None
        start = max(0, part.durable - MAX_CHECK)
        found = await self._in_thread(
            partial(part.check, start, part.durable, partial(new_digest, self._hash))
        )
        return Prefix(start, part.durable, found)

    async def _write(self, part: Partial, reader: _Reader) -> End:
        """Write what comes until the sender ends."""
        while True:
            if data := self._channel.take_data(_BATCH if self._channel.limit is None else 1):
                size = sum(map(len, data))
                self._check_size(part.written + size)
                await self._channel.may_move(size)
                written = part.written
                await to_thread.run_sync(reader.write, data)
                self._moved += part.written - written
                self._session.written(part.written - written, current_time())
                self._channel.notify()
                self._tell("receiving")
                continue
            event = self._channel.take_event()
            if isinstance(event, End):
                return event
            if isinstance(event, Offer):
                raise _StartAgain(event)
            if event is None:
                await self._channel.change()

    async def _sync(self, part: Partial) -> None:
        """Put what is written on the disk, from time to time, and tell the sender."""
        synced_at = current_time()
        while True:
            await anyio.sleep(_POLL)
            late = current_time() - synced_at >= _SYNC_SECONDS and part.written > part.durable
            if late or part.written - part.durable >= _SYNC_BYTES:
                await to_thread.run_sync(part.sync)
                synced_at = current_time()
            self._tell_durable(part)

    def _tell_durable(self, part: Partial) -> None:
        """Tell the sender what is on the disk, as far as it was told that this is written."""
        grant = self._session.grant
        if grant is not None and (durable := min(part.durable, grant.written)) > grant.durable:
            self._session.durable(durable)
            self._channel.notify()

    async def _hash_rest(self, reader: _Reader, size: int) -> None:
        self._tell("verifying")
        async with self._channel.telling("verifying", lambda: reader.position, size):
            await reader.reached(size)

    async def _commit(self, part: Partial, end: End, digest: str) -> TransferResult:
        self._tell("syncing")
        mtime_ns = None if self._offer.mtime is None else self._offer.mtime * 1_000_000
        async with self._channel.telling("syncing", lambda: end.size, end.size):
            # Not cut short: a file that has its name is said to have it.
            with CancelScope(shield=True):
                name = await to_thread.run_sync(partial(part.commit, size=end.size, mtime_ns=mtime_ns))
                return self._done(end.size, digest, name)
        raise AssertionError("a scope that nobody cancels swallows nothing")

    def _leave(self, part: Partial) -> None:
        """Keep what is written, if there is anything and it may be kept; else remove the part."""
        try:
            if part.written and self._channel.kept:
                part.sync(leaving=True)
            else:
                part.discard()
        except (TransferError, ValueError):
            pass  # the next attempt goes on with what is durable
        finally:
            part.close()

    async def _in_thread(self, call: Callable[[], T]) -> T:
        async with self._channel.telling("hashing", lambda: 0, self._offer.size):
            return await to_thread.run_sync(call)

    def _tell(self, phase: Phase) -> None:
        tell(self._meter, phase, self._session)


class _StartAgain(Exception):
    """The sender's file has other bytes than the part: it is offered once more, from 0."""

    def __init__(self, offer: Offer) -> None:
        self.offer = offer


class _Reader:
    """Hashes the bytes of a part: while they are written, or behind that if an earlier attempt wrote some."""

    def __init__(self, part: Partial, digest: FileDigest, *, behind: bool) -> None:
        self._part = part
        self._digest = digest
        self._hasher = part.hasher(digest) if behind else None
        self._wanted = 0  # where someone waits for
        self._there = anyio.Event()

    @property
    def position(self) -> int:
        """Bytes that are hashed."""
        return self._part.written if self._hasher is None else self._hasher.position

    def write(self, data: list[bytes]) -> None:
        """Write `data`, in a worker thread."""
        self._part.write(data)
        if self._hasher is None:
            for chunk in data:
                self._digest.update(chunk)

    async def follow(self) -> None:
        """Hash what is written, for as long as the transfer goes on."""
        while self._hasher is not None:
            before = self._hasher.position
            if await to_thread.run_sync(self._hasher.advance) == before:
                if self._wanted and before >= self._wanted:
                    self._there.set()
                    return
                await anyio.sleep(_POLL)

    async def reached(self, size: int) -> None:
        """Return when all `size` bytes are hashed."""
        if self._hasher is not None:
            self._wanted = size
            await self._there.wait()
