"""Listening sockets, and accepting from them. All sockets here are non-blocking."""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Sequence

import anyio

from wsstream.opening.authority import bracketed
from wsstream.opening.peer import PeerAddress
from wsstream.opening.url import unix_url
from wsstream.transports.eventloop import event_loop
from wsstream.transports.resolve import Address, SocketName, resolve

__all__ = [
    "UnixListener",
    "accept_now",
    "close_listener",
    "listen_all",
    "listen_tcp",
    "listen_unix",
    "url_of",
]

# How often to look for a port that is free in all address families.
PORT_ATTEMPTS = 8

# This machine does not have the address family or the address.
_NOT_HERE = {errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.EADDRNOTAVAIL}

# Errors of a connection that was lost before `accept`, not of the listener (accept(2)).
_LOST = {
    errno.ECONNABORTED,
    errno.EPERM,
    errno.EPROTO,
    errno.ENOPROTOOPT,
    errno.ENETDOWN,
    errno.ENETUNREACH,
    errno.EHOSTUNREACH,
    getattr(errno, "EHOSTDOWN", errno.EHOSTUNREACH),
    getattr(errno, "ENONET", errno.ENETUNREACH),
}
_LOST_AT_ONCE = 16  # how many of these are skipped before others of the event loop run


async def listen_tcp(
    host: str | None, port: int, *, backlog: int = 1024, reuse_port: bool = False
) -> list[socket.socket]:
    """Listen on every address of `host`.

    Skips addresses that this machine does not have (IPv6 if it is switched off), unless it has none of them.
    If cancelled, nothing listens.

    Args:
        host: a name or an IP address, perhaps with a scope (``fe80::1%eth0``); ``None`` means all interfaces,
            IPv4 and IPv6.
        port: 0 means a free port, the same one for all addresses.
        backlog: how many connections the kernel queues until they are accepted.
        reuse_port: let others listen on the same port, if they ask for it too.

    Raises:
        OSError: the name has no address, an address is in use or not permitted, or the system knows no
            `reuse_port`.
    """
    addresses = await resolve(host, port, passive=True)
    return listen_all(addresses, backlog=backlog, reuse_port=reuse_port)


def listen_all(
    addresses: Sequence[Address], *, backlog: int = 1024, reuse_port: bool = False
) -> list[socket.socket]:
    """Listen on all of `addresses`, which have the same port; see :func:`listen_tcp`.

    For port 0 the kernel picks a free port for the first address. If another address has that port in use,
    this tries again, at most 8 times.
    """
    attempts = 1 if addresses[0].port else PORT_ATTEMPTS
    while True:
        attempts -= 1
        try:
            return _listen_once(addresses, backlog, reuse_port)
        except OSError as exc:
            if exc.errno != errno.EADDRINUSE or not attempts:
                raise


def _listen_once(addresses: Sequence[Address], backlog: int, reuse_port: bool) -> list[socket.socket]:
    listeners: list[socket.socket] = []
    missing: OSError | None = None
    try:
        for address in addresses:
            if listeners:
                address = address.with_port(listeners[0].getsockname()[1])
            try:
                listeners.append(_listen(address, backlog, reuse_port))
            except OSError as exc:
                if exc.errno not in _NOT_HERE:
                    raise
                missing = exc
        if missing and not listeners:
            raise missing
    except BaseException:
        for listener in listeners:
            listener.close()
        raise
    return listeners


def _listen(address: Address, backlog: int, reuse_port: bool) -> socket.socket:
    listener = socket.socket(address.family, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if os.name == "posix":
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if reuse_port:
            if not hasattr(socket, "SO_REUSEPORT"):
                raise OSError(errno.EOPNOTSUPP, "this system has no SO_REUSEPORT")
            listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if address.family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        try:
            listener.bind(address.sockaddr)
            listener.listen(backlog)
        except OSError as exc:
            raise OSError(exc.errno, f"cannot listen on {address}: {exc.strerror}") from exc
    except BaseException:
        listener.close()
        raise
    return listener


class UnixListener(socket.socket):
    """A listening Unix socket that removes its file when closed."""

    _file: tuple[str | bytes, int, int] | None = None

    def own(self, path: str | bytes) -> None:
        """Remember the file at `path` as the one to remove."""
        status = os.stat(path)
        self._file = (os.path.abspath(path), status.st_dev, status.st_ino)

    def close(self) -> None:
        """Remove the socket's file, unless another has taken its place, and close the socket."""
        if self._file is not None:
            path, device, inode = self._file
            self._file = None
            try:
                status = os.stat(path)
                if (status.st_dev, status.st_ino) == (device, inode):
                    os.unlink(path)
            except OSError:
                pass  # somebody else removed it
        super().close()


def listen_unix(path: str | bytes | os.PathLike[str], *, backlog: int = 1024) -> UnixListener:
    """Listen on a Unix socket at `path`. The file is removed when the listener is closed.

    Replaces a socket file that a dead process left, but no other file.

    Raises:
        OSError: `path` is in use (``EADDRINUSE``) or cannot be created.
    """
    path = os.fspath(path)
    has_file = path[:1] not in ("\0", b"\0")  # a name in Linux's abstract namespace has none
    listener = UnixListener(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.setblocking(False)
        if has_file:
            _remove_stale(path)
        try:
            listener.bind(path)
        except OSError as exc:
            raise OSError(exc.errno, exc.strerror or str(exc), path) from exc
        if has_file:
            listener.own(path)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str | bytes) -> None:
    """Remove the socket at `path` if nobody listens on it."""
    try:
        if not stat.S_ISSOCK(os.lstat(path).st_mode):
            return
    except FileNotFoundError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)


def url_of(names: Sequence[SocketName | str | bytes], *, secure: bool) -> str:
    """Return a URL by which clients on this machine reach the first of several listeners that has a URL.

    Args:
        names: the listeners' ``getsockname()``: TCP addresses, or paths of Unix sockets.
        secure: whether the listeners speak TLS.

    Raises:
        ValueError: all addresses are only valid on one link, which a URL cannot express.
    """
    for name in names:
        if not isinstance(name, tuple):
            return unix_url(name, secure=secure)
        if not Address(socket.AF_INET6, name).scope:
            host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name[0], name[0])  # noqa: S104 - not bound here
            return f"{'wss' if secure else 'ws'}://{bracketed(host)}:{name[1]}"
    where = ", ".join(str(Address(socket.AF_INET6, name)) for name in names if isinstance(name, tuple))
    raise ValueError(
        f"there is no URL for a server that listens on {where}: a URL cannot hold the scope of an IPv6 "
        "address. Use a host name that resolves to it, or pass an open stream to connect() as transport"
    )


def accept_now(listener: socket.socket) -> tuple[socket.socket, PeerAddress] | None:
    """Accept a connection that has come, and return it with the address of its peer; ``None``: none has.

    Skips connections that the peer gave up before.

    Raises:
        OSError: the system has no resources for another connection (``EMFILE``, ``ENFILE``, ``ENOBUFS``,
            ``ENOMEM``): try again after a pause. Or `listener` does not listen.
        anyio.ClosedResourceError: `listener` was closed.
    """
    if listener.fileno() < 0:
        raise anyio.ClosedResourceError
    for _ in range(_LOST_AT_ONCE):
        try:
            sock, address = listener.accept()
        except BlockingIOError:
            return None
        except OSError as exc:
            if exc.errno not in _LOST:
                raise
        else:
            sock.setblocking(False)
            return sock, address
    return None


def close_listener(listener: socket.socket) -> None:
    """Close `listener`; a task that waits for it is woken with :class:`anyio.ClosedResourceError`.

    May be called in a task, in a callback of the event loop and in a signal handler, and more than once.
    """
    if listener.fileno() >= 0:
        try:
            event_loop().notify_closing(listener)
        finally:
            listener.close()
