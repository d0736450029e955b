"""A program on a terminal: a pty whose other end the test holds."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import subprocess
import termios
import time
from collections.abc import Sequence
from contextlib import suppress

__all__ = ["Terminal"]

_TIMEOUT = 20.0  # seconds


class Terminal:
    """Runs `command` with the terminal as stdin, stdout and stderr.

    Attributes:
        shown: everything that the program has written.
    """

    def __init__(self, command: Sequence[str], environment: dict[str, str]) -> None:
        self.shown = b""
        self._ours, theirs = pty.openpty()
        termios.tcsetwinsize(theirs, (24, 200))
        self._process = subprocess.Popen(
            command,
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            env=environment,
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # so that the keys send signals
        )
        os.close(theirs)

    def type(self, text: str) -> None:
        """Press the keys."""
        os.write(self._ours, text.encode())

    def wait_for(self, text: bytes) -> None:
        """Wait until the program has written `text`."""
        end = time.monotonic() + _TIMEOUT
        while text not in self.shown:
            assert time.monotonic() < end, self.shown
            if not self._read():
                assert text in self.shown, self.shown

    def wait(self) -> int:
        """Wait for the end; returns the status."""
        end = time.monotonic() + _TIMEOUT
        while self._read():
            assert time.monotonic() < end, self.shown
        return self._process.wait(_TIMEOUT)

    def press_until_end(self, key: str) -> int:
        """Press a key each second until the program ends, and return the status.

        While a program that edits lines writes something above the line, it does not read keys.
        """
        end = time.monotonic() + _TIMEOUT
        pressed = 0.0
        while self._process.poll() is None:
            assert time.monotonic() < end, self.shown
            if time.monotonic() >= pressed + 1:
                pressed = time.monotonic()
                with suppress(OSError):  # Linux: the program has ended
                    self.type(key)
            self._read()
        return self.wait()

    def _read(self) -> bool:
        if not select.select([self._ours], [], [], 0.1)[0]:
            return self._process.poll() is None
        try:
            data = os.read(self._ours, 65536)
        except OSError:  # Linux: the program has ended
            data = b""
        self.shown += data
        return bool(data)

    def close(self) -> None:
        """End the program, and the terminal."""
        if self._process.poll() is None:
            self._process.kill()
            self._process.wait()
        os.close(self._ours)
