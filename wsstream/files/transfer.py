"""Files over an open WebSocket, in whichever direction: `send_file` and `receive_file`."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import IO
from weakref import WeakKeyDictionary

from anyio import to_thread

from wsstream.arguments import check_int
from wsstream.files.channel import Channel, hello
from wsstream.files.errors import TransferError
from wsstream.files.expected import check_expected
from wsstream.files.into_stream import StreamTarget, receive_into
from wsstream.files.present import compare
from wsstream.files.progress import Meter, OnProgress
from wsstream.files.protocol.messages import Bye, Get, Message, Offer
from wsstream.files.rate import RateLimit
from wsstream.files.receiver import Storage, receive_one
from wsstream.files.reception import refuse
from wsstream.files.result import TransferResult
from wsstream.files.sender import FileSource, StreamSource, open_path, send_one
from wsstream.files.storage.names import normal_name
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.files.storage.target import OnExist
from wsstream.streams.websocket import WebSocketStream, is_client

__all__ = [
    "ask_for",
    "ask_into",
    "name_of",
    "offer_file",
    "receive_file",
    "request",
    "send_file",
    "until_ready",
]

_channels: WeakKeyDictionary[WebSocketStream, Channel] = WeakKeyDictionary()


@asynccontextmanager
async def _channel_of(ws: WebSocketStream, limit_rate: int | None) -> AsyncIterator[Channel]:
    """The connection's channel, which goes on from call to call."""
    limit = None if limit_rate is None else RateLimit(limit_rate)
    if (channel := _channels.get(ws)) is None:
        channel = _channels[ws] = Channel(ws, hello("put"), client=is_client(ws))
    channel.limit = limit
    async with channel.run():
        try:
            yield channel
        finally:
            if channel.session.close is not None:
                ws.begin_close(*channel.session.close)


def name_of(path: str | os.PathLike[str]) -> str:
    """What to call a file or folder: the last part of its path."""
    return normal_name(os.path.basename(os.path.abspath(os.fspath(path))))


async def send_file(
    ws: WebSocketStream,
    path: str | os.PathLike[str] | IO[bytes],
    *,
    name: str | None = None,
    size: int | None = None,
    replace: bool = True,
    limit_rate: int | None = None,
    progress: OnProgress | None = None,
) -> TransferResult:
    """Send one file; the peer is in :func:`receive_file`, or in :func:`serve_files` that allows ``"put"``.

    The connection must have the subprotocol ``wsstream.file.v1``, and nobody else may use it meanwhile. Call
    again for the next file.

    If this is cancelled, the transfer is aborted, and the receiver keeps what is on its disk: the same file,
    sent again on whichever connection, goes on there.

    Args:
        ws: the connection.
        path: a regular file, or a binary file object that is read once, from its position, such as a pipe.
            That cannot be resumed.
        name: what to call it; by default the last part of `path`.
        size: how many bytes a file object has, so that the peer can refuse it and progress can tell the time
            left. ``None``: not known.
        replace: false: the peer must not replace a file of that name, and refuses this one with ``exists``.
            True: it does what it does with files that exist.
        limit_rate: the most bytes a second, at least 1,024. ``None``: no limit.
        progress: called with a :class:`Progress`, at most 20 times a second.

    Raises:
        TransferError: the peer does not take it, the file changed, or the transfer failed.
        ConnectionClosed: the connection has ended.
        TypeError, ValueError: an argument is wrong, or a file object has no name of its own.
    """
    check_int("size", size, 0, optional=True)
    async with _channel_of(ws, limit_rate) as channel:
        return await offer_file(channel, path, name, progress, size=size, keep=not replace)


async def offer_file(
    channel: Channel,
    path: str | os.PathLike[str] | IO[bytes],
    name: str | None,
    progress: OnProgress | None,
    digest: str | None = None,
    size: int | None = None,
    *,
    keep: bool = False,
) -> TransferResult:
    """As `send_file`, on a channel that is run. `digest`: that of the file, by the first kind, if known."""
    if isinstance(path, str | os.PathLike):
        shown = name_of(path) if name is None else name
        with await to_thread.run_sync(open_path, path) as source:
            return await _offer(channel, source, shown, progress, digest, keep)
    if not hasattr(path, "read"):
        raise TypeError(f"path must be a path or a binary file, got {type(path).__name__}")
    if name is None:
        raise TypeError("name must be given for a file object")
    return await _offer(channel, StreamSource(path, size), name, progress, None, keep)


async def _offer(
    channel: Channel,
    source: FileSource,
    name: str,
    progress: OnProgress | None,
    digest: str | None,
    keep: bool,
) -> TransferResult:
    await until_ready(channel)
    meter = Meter(progress, name, source.size)
    return await send_one(channel, source, name, meter, digest=digest, keep=keep)


async def receive_file(
    ws: WebSocketStream,
    root: str | os.PathLike[str] | SafeRoot,
    *,
    name: str | None = None,
    on_exist: OnExist = "fail",
    max_size: int | None = None,
    expect: str | None = None,
    limit_rate: int | None = None,
    progress: OnProgress | None = None,
) -> TransferResult:
    """Receive one file into a folder; the peer is in :func:`send_file`, or `name` is asked for.

    The connection is as for :func:`send_file`. The file has its name when all of it has arrived, with the
    sender's digest, and is on the disk; until then only partial files are to be seen, whose names begin with
    ``.wsstream-``. If this is cancelled or fails, they stay, and the next attempt to get the same version of
    the file goes on there.

    Args:
        ws: the connection.
        root: the folder. The sender proposes the name, and cannot lead out of it.
        name: the file to ask the peer for. ``None``: wait for whichever it offers.
        on_exist: what happens if there is a file of that name: ``"fail"``, ``"overwrite"`` or ``"rename"``.
        max_size: the most bytes to take. ``None``: any number.
        expect: the SHA-256 that the file must have, or its digest of the kind that the two ends use, as 64
            hexadecimal digits. Another file fails with ``digest-mismatch``, and is not stored.
        limit_rate, progress: as for :func:`send_file`.

    Raises:
        TransferError: the peer does not send it, it cannot be stored, or the transfer failed.
        ConnectionClosed: the connection has ended.
    """
    check_expected(expect)
    folder = root if isinstance(root, SafeRoot) else await to_thread.run_sync(SafeRoot, root)
    try:
        storage = Storage(folder, on_exist=on_exist, max_size=max_size, expect=expect)
        async with _channel_of(ws, limit_rate) as channel:
            await until_ready(channel)
            if name is not None:
                return await ask_for(channel, name, storage, name, progress)
            while not isinstance(offer := await channel.event(), Offer):
                if not isinstance(offer, Bye):  # a Get or a List: this end has not said that it takes any
                    refuse(channel, TransferError("denied"))
            return await receive_one(
                channel, offer, storage, offer.name, Meter(progress, offer.name, offer.size)
            )
    finally:
        if folder is not root:
            folder.close()


async def ask_for(
    channel: Channel,
    name: str,
    storage: Storage,
    store_as: str,
    progress: OnProgress | None,
) -> TransferResult:
    """Ask the peer for the file `name`, and receive it as `store_as`, on a channel that is run.

    A file that is here already, and would be in the way, is compared with the peer's.
    """
    offer = await _get(channel, name, Meter(progress, store_as, None))
    meter = Meter(progress, store_as, offer.size)
    if (there := await compare(channel, offer, storage, store_as, meter)) is not None:
        return there
    return await receive_one(channel, offer, storage, store_as, meter)


async def ask_into(
    channel: Channel, name: str, target: StreamTarget, progress: OnProgress | None
) -> TransferResult:
    """Ask the peer for the file `name`, and pass it on to `target`, on a channel that is run."""
    offer = await _get(channel, name, Meter(progress, name, None))
    return await receive_into(channel, offer, target, Meter(progress, name, offer.size))


async def _get(channel: Channel, name: str, meter: Meter) -> Offer:
    request(channel, Get, name)
    meter.tell("waiting")
    try:
        while not isinstance(offer := await channel.event(), Offer):
            pass  # it tells that it is at work
    except BaseException:
        refuse(channel, TransferError(channel.cancelled))
        raise
    return offer


def request(channel: Channel, kind: Callable[..., Message], name: str, *more: object) -> None:
    """Ask the peer for something about the file or folder `name`. Never waits.

    Raises:
        TransferError: ``invalid-name``: the name is too long for a message, or is no text.
    """
    try:
        message = kind(channel.session.next_id, name, *more)
    except ValueError as error:
        raise TransferError("invalid-name", str(error)) from None
    channel.post(message)


async def until_ready(channel: Channel) -> None:
    """Return when the peer has said Hello, and the request before is over."""
    while channel.session.peer is None:
        channel.check()
        await channel.change()
    await channel.until_over(channel.session.id)
