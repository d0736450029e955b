"""Tasks and sockets that are left."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import anyio

__all__ = ["no_new_tcp_sockets", "nothing_left", "nothing_of_ours_left", "open_sockets", "tasks_of_ours"]


def open_sockets() -> set[str]:
    """The sockets that this process has open, as ``socket:[inode]``."""
    return {target for _, target in _descriptors() if target.startswith("socket:")}


def tasks_of_ours() -> list[anyio.TaskInfo]:
    """The running tasks that the library started."""
    return [task for task in anyio.get_running_tasks() if "wsstream" in (task.name or "")]


@contextmanager
def nothing_left() -> Iterator[None]:
    """Fail if the block leaves a task or a socket that was not there before."""
    tasks, sockets = {task.id for task in anyio.get_running_tasks()}, open_sockets()
    yield
    assert [task for task in anyio.get_running_tasks() if task.id not in tasks] == []
    assert open_sockets() <= sockets


@contextmanager
def nothing_of_ours_left() -> Iterator[None]:
    """Fail if the block leaves a task of the library's, or any socket; the test's own tasks may go on."""
    sockets = open_sockets()
    yield
    assert tasks_of_ours() == []
    assert open_sockets() <= sockets


@contextmanager
def no_new_tcp_sockets() -> Iterator[None]:
    """Fail if the block leaves a TCP socket open; event loops make sockets of other kinds."""
    before = _tcp_sockets()
    yield
    assert _tcp_sockets() <= before


def _tcp_sockets() -> set[str]:
    found = set()
    for descriptor, target in _descriptors():
        if target.startswith("socket:"):
            with socket.socket(fileno=os.dup(descriptor)) as duplicate:
                if duplicate.family in (socket.AF_INET, socket.AF_INET6):
                    found.add(target)
    return found


def _descriptors() -> Iterator[tuple[int, str]]:
    """The open file descriptors, and what they lead to."""
    for name in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            yield int(name), os.readlink(f"/proc/self/fd/{name}")
