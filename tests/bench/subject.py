"""The process under test: ``subject.py NAME``, one library on one event loop.

It is told by lines of JSON what to do: ``open`` (listen, or connect to the partner), ``begin``, ``end``,
``close``, and so on with the next measurement. All of it runs in one event loop.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

import anyio
from control import allow_descriptors, pin, reply
from job import Job
from subjects import load
from subjects.library import Library


class Orders:
    """The lines of the leading process, without a thread."""

    def __init__(self) -> None:
        self._data = b""

    async def next(self) -> dict[str, Any] | None:
        while b"\n" not in self._data:
            await anyio.wait_readable(0)
            data = os.read(0, 65536)
            if not data:
                return None
            self._data += data
        line, _, self._data = self._data.partition(b"\n")
        order: dict[str, Any] = json.loads(line)
        return order


async def obey(library: Library) -> None:
    orders = Orders()
    while (order := await orders.next()) is not None:
        job = Job(order)
        if order["do"] == "can":
            reply(can=library.can(job), codec=library.codec)
            continue
        assert order["do"] == "open", order
        async with library.opened(job) as port:
            reply(port=port)
            await measure(job, orders)
        reply()


async def measure(job: Job, orders: Orders) -> None:
    """From ``begin`` to ``close``."""
    while (order := await orders.next()) is not None:
        match order["do"]:
            case "begin":
                if job.sends:
                    await job.ready.wait()
                job.begin()
                job.go.set()
                reply()
            case "end":
                if not job.lasts:
                    await job.finished.wait()
                reply(**job.end())
            case "close":
                return


def main() -> None:
    library, backend, options = load(sys.argv[1])
    pin(sys.argv)
    allow_descriptors()
    anyio.run(obey, library, backend=backend, backend_options=options)


if __name__ == "__main__":
    main()
