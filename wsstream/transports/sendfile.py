"""Sending parts of files to a socket without a copy, by the system call ``sendfile``."""

from __future__ import annotations

import os
import socket

from wsstream.protocol.file_frames import SENDFILE_SIZE, FileEnded, FileFrames

__all__ = ["send_file_frames", "send_file_range"]

_MSG_MORE = getattr(socket, "MSG_MORE", 0)  # to share a packet with the file's bytes; an attribute of Linux's


def send_file_frames(sock: socket.socket, frames: FileFrames) -> int:
    """Pass `frames` to the kernel, header by header and range by range; return how many bytes it took.

    Raises:
        FileEnded: the file has ended before the last frame.
        OSError: the connection failed.
    """
    sent, fd, to = 0, frames.payload.file.fileno(), sock.fileno()
    header, size = frames.header, frames.size
    send, more, sendfile, at_once = sock.send, _MSG_MORE, os.sendfile, min(size, SENDFILE_SIZE)
    try:
        for start in range(frames.payload.start, frames.payload.stop, size):
            taken = send(header, more)
            sent += taken
            if taken < len(header):
                break
            taken = sendfile(to, fd, start, at_once)
            sent += taken
            if taken < size:  # a large frame, or there is no room, or the file has ended
                rest = send_file_range(sock, fd, start + taken, start + size)
                sent += rest
                if taken + rest < size:
                    break
    except BlockingIOError:
        pass
    return sent


def send_file_range(sock: socket.socket, fd: int, start: int, stop: int) -> int:
    """Pass the bytes from `start` to `stop` of the file `fd` to the kernel; return how many it took.

    Raises:
        FileEnded: the file has ended before `stop`.
        OSError: the connection failed.
    """
    at, to = start, sock.fileno()
    while at < stop:
        try:
            taken = os.sendfile(to, fd, at, min(stop - at, SENDFILE_SIZE))
        except BlockingIOError:
            break
        if not taken:
            raise FileEnded(f"the file ended at byte {at}, before {stop}")
        at += taken
    return at - start
