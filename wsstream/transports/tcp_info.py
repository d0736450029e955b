"""What the kernel has measured of a TCP connection: ``TCP_INFO`` of Linux."""

from __future__ import annotations

import socket
import struct
import sys
from typing import Final

from wsstream.transports.base import Delivery

__all__ = ["delivery", "silence"]

# The beginning of Linux's struct tcp_info: tcpi_last_data_recv in milliseconds, tcpi_bytes_acked,
# tcpi_bytes_received, and tcpi_busy_time in microseconds (Linux 4.10).
_TCP_INFO: Final = struct.Struct("=52xI64xQQ32xQ")


def delivery(sock: socket.socket) -> Delivery | None:
    """Return what the peer's system has acknowledged; ``None`` but for TCP on Linux."""
    info = _info(sock)
    return None if info is None else Delivery(info[1], info[3])


def silence(sock: socket.socket) -> float:
    """Return for how many seconds the peer has sent nothing, if it never has; else, and if unknown, 0.

    It is counted from the TCP handshake, so the time in the kernel's queue before `accept` is part of it.
    """
    info = _info(sock)
    return info[0] / 1000 if info is not None and info[2] == 0 else 0.0


def _info(sock: socket.socket) -> tuple[int, ...] | None:
    if sys.platform != "linux":
        return None
    try:
        return _TCP_INFO.unpack(sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _TCP_INFO.size))
    except (OSError, struct.error):  # a Unix socket, or a closed one; a kernel that tells less
        return None
