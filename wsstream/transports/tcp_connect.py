"""Outgoing connections: TCP with happy eyeballs (RFC 8305), and Unix sockets.

Addresses are tried in parallel, each a little later than the one before, and the first that answers wins. All
functions return non-blocking sockets and leave no socket open when they raise or are cancelled.
"""

from __future__ import annotations

import errno
import os
import socket
from collections.abc import Sequence
from itertools import chain, zip_longest

import anyio

from wsstream.transports.progress import Progress
from wsstream.transports.resolve import Address, resolve

__all__ = ["connect_first", "in_turn", "open_tcp", "open_unix"]

# A name with more addresses than this is not worth the wait.
MAX_ADDRESSES = 16

# Seconds between attempts at a Unix socket whose backlog is full: first, and at most.
FIRST_PAUSE, LONGEST_PAUSE = 0.002, 0.1

_IN_PROGRESS = {errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EINTR}


async def open_tcp(
    host: str, port: int, *, happy_eyeballs_delay: float = 0.25, progress: Progress | None = None
) -> socket.socket:
    """Return a socket that is connected to `host`.

    At most 16 addresses are tried. Address families alternate, beginning with that of the resolver's first
    address. If cancelled, every connection that was begun is dropped.

    Args:
        host: a host name or an IP address (no brackets).
        port: 1 to 65535.
        happy_eyeballs_delay: seconds until the next address is tried in parallel; it is tried at once when
            the one before fails.
        progress: learns of each step, for the message of a timeout.

    Raises:
        OSError: the name has no address (``socket.gaierror``), or no address answered. The message
            names `host` and all addresses tried; after several attempts the cause is an
            ``ExceptionGroup`` of their errors.
    """
    progress = progress or Progress(host)
    progress.wait_for(f"address of {host} for {progress.url}")
    addresses = in_turn(await resolve(host, port))[:MAX_ADDRESSES]
    tried = _others(host, [address.host for address in addresses])
    progress.wait_for(f"TCP connection to {host} port {port}{tried} for {progress.url}")
    return await connect_first(addresses, happy_eyeballs_delay, host)


async def open_unix(path: str | bytes | os.PathLike[str]) -> socket.socket:
    """Return a socket that is connected to `path`; wait while the listener's backlog is full.

    If cancelled, the socket is closed.

    Raises:
        OSError: nobody listens there, or `path` is not a socket.
    """
    await anyio.lowlevel.checkpoint_if_cancelled()
    path = os.fspath(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        pause = FIRST_PAUSE
        # A Unix socket connects at once or not at all: with EAGAIN no connection is in progress.
        while (error := sock.connect_ex(path)) == errno.EAGAIN:
            await anyio.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE)
        if error:
            raise OSError(error, os.strerror(error), path)
        await anyio.lowlevel.cancel_shielded_checkpoint()
    except BaseException:
        sock.close()
        raise
    return sock


async def connect_first(addresses: Sequence[Address], delay: float, host: str = "") -> socket.socket:
    """Return a socket that is connected to the first of `addresses` to answer; try one more every `delay`
    seconds.

    `addresses` must not be empty; only the first 16 are tried. `host` is their name, for errors; by default
    the first address.

    Raises:
        OSError: no address answered, as in :func:`open_tcp`.
    """
    connected: list[socket.socket] = []
    failures: list[tuple[Address, OSError]] = []

    async def attempt(address: Address, failed: anyio.Event) -> None:
        try:
            connected.append(await _connect(address))
            group.cancel_scope.cancel()
        except OSError as exc:
            failures.append((address, exc))
            failed.set()

    if len(addresses) == 1:
        try:
            return await _connect(addresses[0])
        except OSError as exc:
            raise _summary(host or addresses[0].host, [(addresses[0], exc)]) from None

    try:
        async with anyio.create_task_group() as group:
            for address in addresses[:MAX_ADDRESSES]:
                failed = anyio.Event()
                group.start_soon(attempt, address, failed)
                with anyio.move_on_after(delay):
                    await failed.wait()
    except BaseException:
        _close_all(connected)
        raise
    _close_all(connected[1:])  # they answered at the same moment
    if not connected:
        raise _summary(host or addresses[0].host, failures)
    return connected[0]


async def _connect(address: Address) -> socket.socket:
    await anyio.lowlevel.checkpoint_if_cancelled()
    sock = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        sock.setblocking(False)
        error = sock.connect_ex(address.sockaddr)
        if error in _IN_PROGRESS:
            await anyio.wait_writable(sock)
            error = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if error:
            raise OSError(error, f"cannot connect to {address}: {os.strerror(error)}")
    except BaseException:
        sock.close()
        raise
    return sock


def in_turn(addresses: Sequence[Address]) -> list[Address]:
    """Order `addresses` so that families alternate, beginning with the first one's (RFC 8305 section 4)."""
    families: dict[int, list[Address]] = {}
    for address in addresses:
        families.setdefault(address.family, []).append(address)
    rounds = zip_longest(*families.values())
    return [address for address in chain.from_iterable(rounds) if address is not None]


def _close_all(sockets: Sequence[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _summary(host: str, failures: list[tuple[Address, OSError]]) -> OSError:
    """Return one error for all attempts; with their `errno` (and so its class) if they all have the same."""
    reasons = [os.strerror(error.errno) if error.errno else str(error) for _, error in failures]
    tried = [address.host for address, _ in failures]
    numbers = {error.errno for _, error in failures}
    if len(set(reasons)) == 1:
        text = reasons[0] + _others(host, tried)
    else:
        text = "; ".join(f"{where}: {why}" for where, why in zip(tried, reasons, strict=True))
    text = f"cannot connect to {host} port {failures[0][0].port}: {text}"
    number = numbers.pop() if len(numbers) == 1 else None
    summary = OSError(text) if number is None else OSError(number, text)
    if len(failures) > 1:
        summary.__cause__ = ExceptionGroup("all attempts to connect failed", [error for _, error in failures])
    return summary


def _others(host: str, tried: Sequence[str]) -> str:
    """A text with the addresses that were tried; empty if `host` is the address."""
    return "" if list(tried) == [host] else f" (tried {', '.join(tried)})"
