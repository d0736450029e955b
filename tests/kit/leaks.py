"""Tasks and sockets that are left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

__all__ = ["no_new_tcp_sockets", "nothing_left", "nothing_of_ours_left", "open_sockets", "tasks_of_ours"]


def open_sockets() -> set[str]:
    """The sockets that this process has open, as ``socket:[inode]``."""
    folder, found = Path("/proc/self/fd"), set()
    for name in os.listdir(folder):
        with suppress(FileNotFoundError):  # the descriptor of the listing itself
            found.add(os.readlink(folder / name))
    return {target for target in found if target.startswith("socket:")}


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
    tables = [Path(f"/proc/self/net/{name}").read_text() for name in ("tcp", "tcp6")]
    tcp = {f"socket:[{line.split()[9]}]" for table in tables for line in table.splitlines()[1:]}
    return open_sockets() & tcp
