"""A server of files: a handler for `serve` that lists, sends and receives the files of a folder."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from functools import partial
from math import inf
from typing import Literal, TypeAlias

from anyio import CancelScope, current_time, to_thread

from wsstream.arguments import check_int
from wsstream.errors import ConnectionClosed
from wsstream.files.beside import beside
from wsstream.files.channel import Channel, hello
from wsstream.files.errors import TransferError
from wsstream.files.progress import Meter, OnProgress, Progress
from wsstream.files.protocol.messages import (
    MAX_ENTRIES,
    SUBPROTOCOL,
    Bye,
    Delete,
    Done,
    Entries,
    Entry,
    Get,
    List,
    Offer,
)
from wsstream.files.receiver import Storage, receive_one
from wsstream.files.reception import refuse
from wsstream.files.result import TransferResult
from wsstream.files.sender import send_one
from wsstream.files.storage.locker import FileLocker, Locker
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.storage.target import OnExist, check_on_exist
from wsstream.files.windows import Windows
from wsstream.log import Log
from wsstream.streams.websocket import WebSocketStream

__all__ = ["Allow", "Authorize", "Deny", "FileHandler", "Op", "serve_files"]

log = Log("wsstream.files")

Op: TypeAlias = Literal["get", "list", "put", "overwrite", "delete"]
_EXPIRE_AFTER = 7 * 86400.0  # seconds in which nobody has written to a partial file
_EXPIRE_EVERY = 3600.0  # seconds between two looks
_OPS = ("get", "list", "put", "overwrite", "delete")
_ASKED = ("get", "list", "put", "delete")  # those that are requests


@dataclass(frozen=True, slots=True)
class Allow:
    """The answer of `authorize`: it may. `name`, if given, is the name under which a file is stored."""

    name: str | None = None


@dataclass(frozen=True, slots=True)
class Deny:
    """The answer of `authorize`: it may not. The peer is told `error`, one of the protocol, and `reason`."""

    error: str = "denied"
    reason: str = ""


Authorize: TypeAlias = Callable[[str | None, Op, str, int | None], Awaitable[Allow | Deny]]


def serve_files(
    root: str | os.PathLike[str] | SafeRoot,
    *,
    allow: Iterable[Op] = ("get", "list"),
    authorize: Authorize | None = None,
    identify: Callable[[WebSocketStream], str | None] | None = None,
    on_exist: OnExist = "fail",
    max_size: int | None = None,
    min_free: int = 0,
    quota: int | None = None,
    locker: Locker | None = None,
    max_windows: int = 256 << 20,
    on_progress: Callable[[WebSocketStream, Progress], object] | None = None,
    on_result: Callable[[WebSocketStream, TransferResult], object] | None = None,
) -> FileHandler:
    """Make a handler for :func:`~wsstream.serve` that serves the files of a folder.

    Partial files that nobody has written to for seven days are removed.

    Clients use :func:`upload`, :func:`download`, or anything that speaks ``wsstream.file.v1``::

        async with serve(serve_files("shared"), port=8080) as server:
            await server.wait_closed()

    Nothing outside the folder can be reached, and nothing is seen under its name before all of it has
    arrived, with the digest that its sender computed.

    Args:
        root: the folder. Or a :class:`SafeRoot`, which the caller closes.
        allow: what clients may do: ``"get"``, ``"list"``, ``"put"``, ``"overwrite"``, which takes ``"put"``
            and replaces files of the same name, and ``"delete"``.
        authorize: called with who asks, what for, the name and, for ``"put"``, the size, if it is known; says
            :class:`Allow` or :class:`Deny`. What `allow` leaves out is never asked for.
        identify: who the client is, for `authorize` and for resuming: nobody goes on with somebody else's
            part. By default ``None`` for everybody.
        on_exist: what happens if there is a file of that name, unless it may be overwritten: ``"fail"``,
            or ``"rename"``, which stores the new one as ``name (1)``.
        max_size: most bytes of one file. ``None``: no limit.
        min_free: bytes that must stay free on the disk.
        quota: most bytes of all files in the folder. ``None``: no limit.
        locker: says who may write a part; by default a :class:`FileLocker`, which takes care of all processes
            of this machine.
        max_windows: most bytes that all clients together may have on the way.
        on_progress: called with the connection and a :class:`Progress`, at most 20 times a second for each
            file.
        on_result: called with the connection and a :class:`TransferResult`, when a file has been moved.

    Raises:
        TransferError: the folder cannot be opened.
        TypeError, ValueError: an argument is wrong.
    """
    ops = tuple(allow)
    if unknown := [op for op in ops if op not in _OPS]:
        raise ValueError(f"allow must have some of {', '.join(_OPS)}, got {unknown[0]!r}")
    check_on_exist(on_exist)
    check_int("max_size", max_size, 0, optional=True)
    check_int("min_free", min_free, 0)
    check_int("quota", quota, 0, optional=True)
    check_int("max_windows", max_windows, 1 << 20)
    if authorize is not None and not callable(authorize):
        raise TypeError(f"authorize must be an async function or None, got {type(authorize).__name__}")
    folder = root if isinstance(root, SafeRoot) else SafeRoot(root)
    return FileHandler(
        folder,
        frozenset(ops),
        authorize,
        identify,
        "overwrite" if "overwrite" in ops else on_exist,
        max_size,
        min_free,
        quota,
        FileLocker(folder) if locker is None else locker,
        Windows(max_windows),
        on_progress,
        on_result,
    )


class FileHandler:
    """A handler of files. Made by :func:`serve_files`.

    Attributes:
        root: the folder.
        windows: of all clients.
        subprotocols: what :func:`~wsstream.serve` and :class:`~wsstream.Router` agree on for it.
    """

    subprotocols = (SUBPROTOCOL,)

    def __init__(
        self,
        root: SafeRoot,
        ops: frozenset[str],
        authorize: Authorize | None,
        identify: Callable[[WebSocketStream], str | None] | None,
        on_exist: OnExist,
        max_size: int | None,
        min_free: int,
        quota: int | None,
        locker: Locker,
        windows: Windows,
        on_progress: Callable[[WebSocketStream, Progress], object] | None,
        on_result: Callable[[WebSocketStream, TransferResult], object] | None,
    ) -> None:
        self.root = root
        self._ops = ops
        self._authorize = authorize
        self._identify = identify
        self._on_exist: OnExist = on_exist
        self._max_size = max_size
        self._min_free = min_free
        self._quota = quota
        self._locker = locker
        self.windows = windows
        self._on_progress = on_progress
        self._on_result = on_result
        self._expire_at = -inf

    async def __call__(self, ws: WebSocketStream) -> None:
        """Serve one connection, until it ends.

        Raises:
            TransferError: it does not speak the protocol, or failed.
        """
        identity = None if self._identify is None else self._identify(ws)
        ops = tuple(op for op in _ASKED if op in self._ops)
        channel = Channel(ws, hello(*ops, max_size=self._max_size), client=False, cancelled="shutdown")
        async with beside(self._expire), channel.run():
            try:
                await _Client(self, ws, channel, identity).serve()
            except ConnectionClosed:
                pass  # the end of a client is none of a server's

    async def _expire(self) -> None:
        """Remove old partial files, once an hour at most."""
        now = current_time()
        if now >= self._expire_at:
            self._expire_at = now + _EXPIRE_EVERY
            await to_thread.run_sync(self.root.expire, _EXPIRE_AFTER)

    def meter(self, ws: WebSocketStream, name: str, size: int | None) -> Meter:
        """What measures one file."""
        tell: OnProgress | None = None if self._on_progress is None else partial(self._on_progress, ws)
        return Meter(tell, name, size)

    def moved(self, ws: WebSocketStream, result: TransferResult) -> None:
        """A file has been moved."""
        if self._on_result is not None:
            self._on_result(ws, result)

    def storage(self, identity: str | None) -> Storage:
        """Where the files of a client go."""
        return Storage(
            self.root,
            on_exist=self._on_exist,
            identity=identity,
            min_free=self._min_free,
            quota=self._quota,
            locker=self._locker,
        )

    async def decide(self, identity: str | None, op: Op, name: str, size: int | None) -> str:
        """The name that the client may use.

        Raises:
            TransferError: it may not.
        """
        if self._authorize is None:
            return name
        answer = self._authorize(identity, op, name, size)
        decision: object = await answer
        if isinstance(decision, Deny):
            raise TransferError(decision.error, decision.reason)
        if not isinstance(decision, Allow):
            raise TypeError(f"authorize must return Allow or Deny, got {type(decision).__name__}")
        return name if decision.name is None else decision.name


class _Client:
    """One connection of a server, and its requests, one after the other."""

    def __init__(
        self, handler: FileHandler, ws: WebSocketStream, channel: Channel, identity: str | None
    ) -> None:
        self._handler = handler
        self._ws = ws
        self._channel = channel
        self._identity = identity

    async def serve(self) -> None:
        channel = self._channel
        while True:
            request = None
            try:
                request = await channel.event()
                match request:
                    case Get():
                        await self._send(request)
                    case List():
                        await self._list(request)
                    case Offer():
                        await self._receive(request)
                    case Delete():
                        await self._delete(request)
                    case Bye():
                        pass  # it finishes, and closes
            except TransferError as error:
                log.info("%s: %s", self._ws.id, error)
                if channel.session.close is not None:
                    raise
                # The client may have ended that request, and have made the next one already.
                id = getattr(request, "id", 0)
                if channel.session.id == id:
                    refuse(channel, error)
                await channel.until_over(id)

    async def _send(self, get: Get) -> None:
        name = await self._handler.decide(self._identity, "get", get.name, None)
        source = await to_thread.run_sync(self._handler.root.open_source, name)
        with source:
            meter = self._handler.meter(self._ws, get.name, source.size)
            result = await send_one(self._channel, source, get.name, meter, id=get.id)
        self._handler.moved(self._ws, result)

    async def _list(self, request: List) -> None:
        name = request.name
        if name:
            name = await self._handler.decide(self._identity, "list", name, None)
        page = await to_thread.run_sync(
            partial(self._handler.root.entries, name, request.cursor, limit=MAX_ENTRIES)
        )
        entries = tuple(
            Entry(entry.name, entry.kind, entry.size, entry.mtime_ns // 1_000_000)
            if entry.kind == "file"
            else Entry(entry.name, entry.kind)
            for entry in page.entries
        )
        self._channel.take_event()
        self._channel.post(Entries(request.id, entries, page.cursor))

    async def _receive(self, offer: Offer) -> None:
        name = await self._handler.decide(self._identity, "put", offer.name, offer.size)
        with self._handler.windows.share(self._channel.session):
            meter = self._handler.meter(self._ws, name, offer.size)
            storage = self._handler.storage(self._identity)
            result = await receive_one(self._channel, offer, storage, name, meter)
        self._handler.moved(self._ws, result)

    async def _delete(self, request: Delete) -> None:
        name = await self._handler.decide(self._identity, "delete", request.name, None)
        with CancelScope(shield=True):  # who asked is told what was done
            size = await to_thread.run_sync(partial(self._handler.root.delete, name, request.etag))
            log.info("%s: %r is deleted", self._ws.id, name)
            self._channel.check()
            self._channel.post(Done(request.id, size, None, None, request.name, size))
