"""websockets, its threading implementation with the C extension."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

from job import Job
from websockets.sync.client import connect

from .library import Threads


class WebSocketsSync(Threads):
    def connect(self, job: Job) -> AbstractContextManager[Any]:
        return connect(
            job.url(),
            ssl=job.client_context(),
            proxy=None,
            compression=None,
            max_size=None,
            max_queue=64,
            ping_interval=None,
        )

    def receive_of(self, ws: Any) -> Callable[[], str | bytes]:
        receive: Callable[[], str | bytes] = ws.recv
        return receive


LIBRARY = WebSocketsSync()
