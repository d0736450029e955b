"""Tasks and sockets that are left."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import anyio

__all__ = ["nothing_left", "open_sockets", "tasks_of_ours"]


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
