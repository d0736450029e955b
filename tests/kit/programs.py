"""Programs of the system that tests need: found, or the test is skipped, or fails in CI."""

from __future__ import annotations

import os
import shutil
import socket
import time

import pytest

__all__ = ["find_program", "free_port", "wait_for_port"]


def find_program(name: str) -> str:
    """The path of a program; where it is not installed, the test is skipped, or fails in CI."""
    path = shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/libexec:/usr/lib/git-core")
    if path is None:
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(f"{name} is not installed")
    assert path is not None
    return path


def free_port() -> int:
    """A port of loopback on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def wait_for_port(port: int) -> None:
    """Wait until somebody listens on a port of loopback."""
    for _ in range(200):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.05)
    pytest.fail("the server does not listen")
