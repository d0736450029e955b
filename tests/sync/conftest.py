"""Servers for clients without async, and Ctrl-C at the right moment."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from wsstream.sync import WebSocketStream, serve

Interrupt = Callable[[], AbstractContextManager[None]]

WAITS = {
    "_give_up",
    "_read_mail",
    "_wait_for_arrival",
    "wait",
    "start",
}  # functions in which a thread of ours waits


def echo(ws: WebSocketStream) -> None:
    for message in ws:
        ws.send(message)


@pytest.fixture(autouse=True)
def ctrl_c() -> Iterator[None]:
    """SIGINT is Ctrl-C: what a shell runs in the background ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(scope="session")
def echo_url() -> Iterator[str]:
    with serve(echo, "127.0.0.1", max_message_size=None) as server:
        yield server.url


def until(condition: Callable[[], object]) -> None:
    """Wait in this thread; the test's time limit is the limit."""
    while not condition():
        time.sleep(0.002)


def is_waiting(thread: int) -> bool:
    """Whether a thread waits in a call of ours, and has for some milliseconds."""
    frame = sys._current_frames().get(thread)
    if frame is None or frame.f_code.co_name not in WAITS:
        return False
    time.sleep(0.02)
    return sys._current_frames().get(thread) is frame


@contextmanager
def interrupted() -> Iterator[None]:
    """A block that is interrupted by SIGINT once it waits."""
    main, done = threading.get_ident(), threading.Event()

    def interrupt() -> None:
        while not done.is_set() and not is_waiting(main):
            time.sleep(0.002)
        if not done.is_set():
            os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            yield
    finally:
        done.set()
        thread.join()
