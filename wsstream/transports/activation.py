"""Sockets that a service manager has opened: systemd's socket activation (sd_listen_fds(3))."""

from __future__ import annotations

import os
import socket
import stat

from wsstream.display import never_raises

__all__ = ["ActivatedSocket", "listen_fds"]

_FIRST = 3  # the number of the first descriptor that is passed on
_VARIABLES = ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID")


class ActivatedSocket(socket.socket):
    """A listening socket of `listen_fds`.

    Attributes:
        name: ``FileDescriptorName=`` of its unit, by default the unit's name.
    """

    name = ""

    @never_raises
    def __repr__(self) -> str:
        return f"<ActivatedSocket {self.name!r} {self.getsockname()}>"


def listen_fds() -> list[ActivatedSocket]:
    """Take the listening sockets that systemd has opened for this process, for ``serve(listeners=...)``.

    Empty if it has opened none, as when the program was started by hand. Clears the environment's variables
    for it, so that neither a second call nor a process that this one starts takes the sockets again.

    Raises:
        ValueError: a variable is malformed, or a descriptor is no listening stream socket, as with
            ``Accept=yes``. Then none was taken.
    """
    count, pid, names, _ = (os.environ.pop(name, None) for name in _VARIABLES)
    if count is None or pid is None or _number("LISTEN_PID", pid) != os.getpid():
        return []
    numbers = range(_FIRST, _FIRST + _number("LISTEN_FDS", count))
    texts = names.split(":") if names else []
    for number in numbers:
        _check(number)
    taken = []
    for index, number in enumerate(numbers):
        os.set_inheritable(number, False)
        taken.append(ActivatedSocket(fileno=number))
        taken[-1].name = texts[index] if index < len(texts) else ""
    return taken


def _number(name: str, text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10):
        raise ValueError(f"the environment variable {name} must be a number, got {text[:20]!r}")
    return int(text)


def _check(number: int) -> None:
    try:
        is_socket = stat.S_ISSOCK(os.fstat(number).st_mode)
    except OSError:
        raise ValueError(f"LISTEN_FDS names descriptor {number}, which is not open") from None
    if is_socket:
        with socket.socket(fileno=os.dup(number)) as copy:
            if copy.type is socket.SOCK_STREAM and copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                return
    raise ValueError(
        f"descriptor {number} of LISTEN_FDS must be a listening stream socket: the unit needs ListenStream= "
        "and must not have Accept=yes"
    )
