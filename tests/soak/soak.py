"""Keeps connections going, watches them, and looks at what is left."""

from __future__ import annotations

import logging
import ssl
import tempfile
import tracemalloc
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import anyio
import trustme
from connection import Connection, Places
from leftovers import Holdings, memory_in_use
from load import MAX_MESSAGE
from plans import FLOWS, SOCKETS, make_plan
from report import describe, report_failed_callbacks

import wsstream
from wsstream import Deflate, Server, WebSocketStream

__all__ = ["Settings", "Soak"]

_WARM_UP = 24  # connections, before what is held is looked at for the first time
_LOOK = 1.0  # seconds between looks at each connection, at most
_SLOW = 20.0  # seconds
_SETTLING = 5.0  # seconds for the last tasks to end


@dataclass(frozen=True)
class Settings:
    seed: int
    seconds: float
    side_by_side: int
    share_of_faults: float
    patience: float
    only: int | None = None


class _Complaints(logging.Handler):
    """What the library logs as an error is a problem."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(logging.ERROR)
        self._problems = problems

    def emit(self, record: logging.LogRecord) -> None:
        self._problems.append(f"logged: {self.format(record)}")


class Soak:
    """One run in one event loop. What goes wrong is in `problems`."""

    def __init__(self, settings: Settings) -> None:
        self.problems: list[str] = []
        self._settings = settings
        self._live: dict[int, Connection] = {}
        self._numbers = 0
        self._counts: Counter[str] = Counter()
        self._longest = 0.0
        self._memory: list[int] = []

    async def run(self) -> None:
        """Run in the event loop that is running."""
        tracemalloc.start()
        logging.getLogger("wsstream").addHandler(_Complaints(self.problems))
        report_failed_callbacks(self.problems)
        async with self._servers() as (servers, places):
            if self._settings.only is not None:
                await self._run_one(self._settings.only, places)
                return
            await self._run_many(places, count=_WARM_UP)
            before = await self._at_rest(servers)
            self._memory.append(memory_in_use())
            await self._run_many(places, seconds=self._settings.seconds)
            after = await self._at_rest(servers, before)
            self._memory.append(memory_in_use())
        self.problems += after.left_since(before)

    def summary(self) -> str:
        counts = ", ".join(f"{count} {what}" for what, count in sorted(self._counts.items()))
        memory = " -> ".join(f"{size >> 20}" for size in self._memory)
        return (
            f"{counts}; longest {self._longest:.1f} s; MiB in memory {memory}; {len(self.problems)} problems"
        )

    # -- servers -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _servers(self) -> AsyncIterator[tuple[list[Server], Places]]:
        """One for each network and water marks."""
        authority = trustme.CA()
        certificate, trust = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context()
        authority.issue_cert("127.0.0.1").configure_cert(certificate)
        authority.configure_trust(trust)
        places, servers = Places({}, {}, trust), []
        async with AsyncExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            for network in SOCKETS:
                for name, flow in FLOWS.items():
                    path = Path(folder, name) if network == "unix" else None
                    serving = wsstream.serve(
                        self._handle,
                        None if path else "127.0.0.1",
                        path=path,
                        ssl=certificate if network == "tls" else None,
                        flow=flow,
                        compression=Deflate(),
                        max_message_size=MAX_MESSAGE,
                        open_timeout=60,
                        ping_interval=None if name == "tiny" else 20,
                        ping_timeout=60,
                    )
                    servers.append(server := await stack.enter_async_context(serving))
                    places.ports[network, name] = server.port
                    places.paths[name] = str(path)
            yield servers, places

    async def _handle(self, ws: WebSocketStream) -> None:
        connection = self._live.get(int(ws.request.path[1:]))
        if connection is None:  # its client has been given up meanwhile
            ws.abort()
        else:
            await connection.serve(ws)

    # -- connections -------------------------------------------------------------------------

    async def _run_many(self, places: Places, *, count: int | None = None, seconds: float = 1e9) -> None:
        """Several side by side, until so many have been run or so much time has passed."""
        end, first = anyio.current_time() + seconds, self._numbers

        async def one_after_the_other() -> None:
            while anyio.current_time() < end and (count is None or self._numbers < first + count):
                self._numbers += 1
                await self._run_one(self._numbers, places)

        async with anyio.create_task_group() as tasks:
            for _ in range(self._settings.side_by_side):
                tasks.start_soon(one_after_the_other, name="soak worker")

    async def _run_one(self, number: int, places: Places) -> None:
        plan = make_plan(self._settings.seed, number, self._settings.share_of_faults)
        self._live[number] = connection = Connection(plan, self._settings.seed)
        start = anyio.current_time()
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(self._watch, connection, name=f"soak {number} watch")
            await connection.run(places)
            tasks.cancel_scope.cancel()
        del self._live[number]
        took = anyio.current_time() - start
        self._longest = max(self._longest, took)
        if took > _SLOW:
            print(f"connection {number} took {took:.0f} s: {plan}", flush=True)
        self._note(connection)

    async def _watch(self, connection: Connection) -> None:
        """Name a connection that stands still, and give it up."""
        seen, since = connection.progress, anyio.current_time()
        while True:
            await anyio.sleep(min(_LOOK, self._settings.patience / 4))
            if (progress := connection.progress) != seen:
                seen, since = progress, anyio.current_time()
            elif anyio.current_time() - since > self._settings.patience and not connection.given_up:
                connection.given_up = True
                connection.problems.append(f"nothing moves any more: {describe(connection)}")
                assert connection.scope is not None
                connection.scope.cancel()

    def _note(self, connection: Connection) -> None:
        self._counts["connections"] += 1
        self._counts["early ends"] += connection.plan.violent
        for side in (connection.client, connection.server):
            self._counts += side.sends.counts
        for problem in connection.problems:
            self.problems.append(f"connection {connection.plan.number}: {problem}")
            print(f"connection {connection.plan.number}: {problem}", flush=True)

    # -- the end -----------------------------------------------------------------------------

    async def _at_rest(self, servers: list[Server], before: Holdings | None = None) -> Holdings:
        """What is held as soon as no connection is open, and no more than before."""
        with anyio.move_on_after(_SETTLING):
            while any(server.connections for server in servers) or (
                before and Holdings.now().left_since(before)
            ):
                await anyio.sleep(0.1)
        if left := [ws for server in servers for ws in server.connections]:
            self.problems.append(f"connections are left: {left}")
        return Holdings.now()
