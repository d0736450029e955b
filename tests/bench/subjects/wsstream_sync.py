"""wsstream without async."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager

from job import Job

from wsstream.codec.speedups import COMPILED
from wsstream.sync import WebSocketStream, connect

from .library import Threads


class WSStreamSync(Threads):
    codec = "compiled" if COMPILED else "pure"

    def connect(self, job: Job) -> AbstractContextManager[WebSocketStream]:
        context = job.client_context()
        return connect(job.url(), ssl=context, max_message_size=None, ping_interval=None)

    def receive_of(self, ws: WebSocketStream) -> Callable[[], str | bytes]:
        return ws.receive


LIBRARY = WSStreamSync()
