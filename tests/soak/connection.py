"""One connection of a soak, seen from both sides."""

from __future__ import annotations

import ssl
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from random import Random
from traceback import format_exception
from typing import Any

import anyio
from anyio.abc import ByteStream
from ledger import Ledger, Wrong
from load import MAX_MESSAGE, Receiver, Sender, break_off
from network import Relay, faulty
from plans import FLOWS, Faults, Plan

import wsstream
from wsstream import Deflate, WebSocketStream
from wsstream.testing import memory_pair

__all__ = ["Connection", "Places", "Side", "options_of"]

# What may end one side when the other, or the network, ends the connection early.
_ENDED = (wsstream.ConnectionClosed, wsstream.HandshakeError, anyio.BrokenResourceError, OSError)

_STEP = 32  # bytes; Pings alone are fewer for a long time


@dataclass
class Places:
    """Where the servers are: a URL each, by network and water marks; and what a client trusts."""

    ports: dict[tuple[str, str], int]
    paths: dict[str, str]
    trust: ssl.SSLContext


@dataclass
class Side:
    """One end.

    Attributes:
        name: ``"client"`` or ``"server"``.
        number: 0 or 1.
        sends, receives: the directions.
        ws: as soon as it is open.
        done: set when it has sent and received all that it was to.
    """

    name: str
    number: int
    sends: Ledger
    receives: Ledger
    ws: WebSocketStream | None = None
    done: anyio.Event = field(default_factory=anyio.Event)

    @property
    def progress(self) -> tuple[object, ...]:
        """What changes as long as it moves."""
        if self.ws is None:
            return ()
        received = self.ws.statistics().bytes_received // _STEP
        return (self.sends.moved, self.ws.state, self.done.is_set(), received)


def options_of(plan: Plan, side: int) -> dict[str, Any]:
    """The keyword arguments of one end, but for those of a server that many share."""
    return {
        "flow": FLOWS[plan.flows[side]],
        "compression": Deflate() if plan.compression else None,
        "max_message_size": MAX_MESSAGE,
        "open_timeout": 60,
        "ping_interval": None,
    }


@dataclass
class Connection:
    """Runs a plan. What goes wrong is in `problems`; it raises nothing."""

    plan: Plan
    seed: int
    problems: list[str] = field(default_factory=list)
    scope: anyio.CancelScope | None = None
    client: Side = field(init=False)
    server: Side = field(init=False)
    given_up: bool = False
    relayed: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        up, down = Ledger(), Ledger()
        self.client, self.server = Side("client", 0, up, down), Side("server", 1, down, up)
        self._served = anyio.Event()
        self._client_scope: anyio.CancelScope | None = None

    @property
    def name(self) -> str:
        """How its tasks are called."""
        return f"soak {self.plan.number}"

    @property
    def progress(self) -> tuple[object, ...]:
        """What changes as long as the connection moves; Pings alone do not."""
        sides = (self.client, self.server)
        return (self.relayed.total() // _STEP, *(side.progress for side in sides))

    def draw(self, what: str) -> Random:
        """Chance of its own for each part, so that they do not depend on each other's order."""
        return Random(f"{self.seed}/{self.plan.number}/{what}")

    async def run(self, places: Places) -> None:
        """Open it, carry out the plan, and close it."""
        with anyio.CancelScope() as self.scope:
            try:
                async with anyio.create_task_group() as tasks, self._network(places, tasks) as how:
                    await self._be_client(how)
                    if self.server.ws is not None or not self.plan.violent:
                        await self._served.wait()
            except* Exception as group:
                self._problem(group)

    async def serve(self, ws: WebSocketStream) -> None:
        """The server's handler of this connection."""
        side, self.server.ws = self.server, ws
        try:
            with anyio.CancelScope() as scope:
                await self._live(side, scope, ws)
        except* _ENDED as group:
            self._ended(side, group)
        except* Exception as group:
            self._problem(group)
        finally:
            self._served.set()

    # -- opening -----------------------------------------------------------------------------

    @asynccontextmanager
    async def _network(self, places: Places, tasks: Any) -> AsyncIterator[dict[str, Any]]:
        """Gives the arguments of `connect`."""
        plan, flow = self.plan, self.plan.flows[1]
        async with AsyncExitStack() as stack:
            if plan.network in ("tcp", "tls"):
                yield self._url(plan.network, places.ports[plan.network, flow], places)
            elif plan.network in ("relay", "relay-tls"):
                kind = "tls" if plan.network == "relay-tls" else "tcp"
                port = places.ports[kind, flow]
                line = Relay(port, *plan.faults, self.draw("relay"), self.name, self.relayed).run()
                yield self._url(kind, await stack.enter_async_context(line), places)
            elif plan.network == "unix":
                yield self._over(await anyio.connect_unix(places.paths[flow]))
            elif plan.network == "wrapped":
                stream = await anyio.connect_tcp("127.0.0.1", places.ports["tcp", flow])
                yield self._over(await self._faulty(stack, stream, plan.faults[1], plan.faults[0]))
            else:
                ours, theirs = memory_pair()
                tasks.start_soon(self._accept, theirs, name=f"{self.name} server")
                yield self._over(await self._faulty(stack, ours, plan.faults[1], Faults()))

    async def _faulty(
        self, stack: AsyncExitStack, stream: ByteStream, incoming: Faults, outgoing: Faults
    ) -> ByteStream:
        return await stack.enter_async_context(faulty(stream, incoming, outgoing, self.draw("faults")))

    async def _accept(self, stream: ByteStream) -> None:
        """The server's end of a memory pair."""
        async with AsyncExitStack() as stack:
            line = await self._faulty(stack, stream, self.plan.faults[0], Faults())
            async with wsstream.accept(line, **options_of(self.plan, 1)) as ws:
                await self.serve(ws)

    def _url(self, kind: str, port: int, places: Places) -> dict[str, Any]:
        scheme = "wss" if kind == "tls" else "ws"
        return {
            "url": f"{scheme}://127.0.0.1:{port}{self.plan.path}",
            "ssl": places.trust if kind == "tls" else None,
        }

    def _over(self, stream: ByteStream) -> dict[str, Any]:
        return {"url": f"ws://soak{self.plan.path}", "transport": stream}

    # -- what both sides do --------------------------------------------------------------------

    async def _be_client(self, how: dict[str, Any]) -> None:
        try:
            with anyio.CancelScope() as scope:
                async with wsstream.connect(**how, **options_of(self.plan, 0)) as ws:
                    self.client.ws = ws
                    await self._live(self.client, scope, ws)
            if not self.plan.violent:
                self._check_closed(ws)
        except* _ENDED as group:
            self._ended(self.client, group)

    async def _live(self, side: Side, scope: anyio.CancelScope, ws: WebSocketStream) -> None:
        await self._exchange(side, scope, ws)
        side.done.set()
        if self.plan.violent:
            return
        if self.plan.ending == ("leave" if side is self.client else "return"):
            await self.client.done.wait()  # or `close_timeout` would begin while the other still reads
            await self.server.done.wait()
        else:
            async for message in ws:
                raise Wrong(f"{message[:40]!r} came behind the last message")

    async def _exchange(self, side: Side, scope: anyio.CancelScope, ws: WebSocketStream) -> None:
        name = f"{self.name} {side.name}"
        receiver = Receiver(ws, side.receives, self.draw(f"{side.name} receives"), stays=self.plan.violent)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(receiver.run, name=f"{name} receiver")
            tasks.start_soon(self._send_all, side, ws, name=f"{name} sender")
            if self.plan.violent and self.plan.ends_at == side.number:
                tasks.start_soon(self._end_early, side, scope, ws, name=f"{name} ending")

    async def _send_all(self, side: Side, ws: WebSocketStream) -> None:
        lanes = self.plan.lanes[side.number]
        senders = [
            Sender(
                ws,
                side.sends,
                self.draw(f"{side.name} lane {lane}"),
                lane,
                self.plan.sizes[side.number] // lanes,
            )
            for lane in range(lanes)
        ]
        async with anyio.create_task_group() as tasks:
            for lane, sender in enumerate(senders):
                tasks.start_soon(sender.run, name=f"{self.name} {side.name} lane {lane}")
        await senders[0].send_end()

    async def _end_early(self, side: Side, scope: anyio.CancelScope, ws: WebSocketStream) -> None:
        await anyio.sleep(self.plan.ends_after)
        match self.plan.ending:
            case "abort":
                ws.abort()
            case "close":
                await ws.aclose(3000, "enough")
            case "cancel":
                scope.cancel()
            case "break":
                await break_off(ws, side.sends)

    # -- what came of it -----------------------------------------------------------------------

    def _ended(self, side: Side, group: BaseExceptionGroup[BaseException]) -> None:
        if not self.plan.violent and not self.given_up:
            self._problem(group, f"the {side.name} was cut off: ")

    def _problem(self, group: BaseExceptionGroup[BaseException], where: str = "") -> None:
        for error in _leaves(group):
            self.problems.append(f"{where}{''.join(format_exception(error)).strip()}")

    def _check_closed(self, ws: WebSocketStream) -> None:
        if ws.close_info is None or not ws.close_info.clean or ws.close_info.code != 1000:
            self.problems.append(f"the client saw {ws.close_info} at the end")


def _leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    found: list[BaseException] = []
    for error in group.exceptions:
        found += _leaves(error) if isinstance(error, BaseExceptionGroup) else [error]
    return found
