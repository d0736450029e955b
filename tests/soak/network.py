"""How the two ends are connected: by sockets, through a relay with faults, or by a stream with faults."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from random import Random

import anyio
from anyio.abc import ByteStream, SocketAttribute, TaskGroup
from plans import Faults

from wsstream.testing import CutStream, DelayStream, RateStream, SplitStream, StallStream, reset_stream

__all__ = ["Relay", "faulty"]

# What a lost connection raises; RuntimeError is uvloop's.
_LOST = (anyio.BrokenResourceError, anyio.ClosedResourceError, OSError, RuntimeError)


@asynccontextmanager
async def faulty(
    stream: ByteStream, incoming: Faults, outgoing: Faults, draw: Random
) -> AsyncIterator[ByteStream]:
    """Give `stream` the faults of both directions."""
    if incoming.rate or outgoing.rate:
        stream = RateStream(stream, receive=incoming.rate, send=outgoing.rate)
    if incoming.delay or outgoing.delay:
        stream = DelayStream(stream, receive=incoming.delay, send=outgoing.delay)
    if incoming.split is not None:
        stream = SplitStream(stream, incoming.split)
    if incoming.cut is not None or outgoing.cut is not None:
        stream = CutStream(
            stream,
            after_receive=incoming.cut,
            after_send=outgoing.cut,
            reset=incoming.reset if incoming.cut is not None else outgoing.reset,
        )
    if not incoming.stall and not outgoing.stall:
        yield stream
        return
    stream = StallStream(stream, receive=False, send=False)
    async with anyio.create_task_group() as tasks:
        tasks.start_soon(_stall, stream, incoming.stall, outgoing.stall, draw)
        yield stream
        tasks.cancel_scope.cancel()


async def _stall(stream: StallStream, receive: float, send: float, draw: Random) -> None:
    """Hold up one direction or both, again and again."""
    while True:
        await anyio.sleep(draw.random())
        stream.stall(receive=receive > 0, send=send > 0)
        await anyio.sleep(max(receive, send))
        stream.resume()


@dataclass
class Relay:
    """Passes bytes between a client and the server at `port`, with faults.

    Attributes:
        relayed: the bytes of each direction.
    """

    port: int
    to_server: Faults
    to_client: Faults
    draw: Random
    name: str
    relayed: Counter[str]

    @asynccontextmanager
    async def run(self) -> AsyncIterator[int]:
        """Listen for the client; gives the port to connect to."""
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._handle, name=f"{self.name} relay")
            yield listener.extra(SocketAttribute.local_port)
            tasks.cancel_scope.cancel()

    async def _handle(self, client: ByteStream) -> None:
        async with (
            client,
            await anyio.connect_tcp("127.0.0.1", self.port) as server,
            faulty(client, self.to_server, self.to_client, self.draw) as line,
            anyio.create_task_group() as both,
        ):
            for source, sink, way in ((line, server, "to the server"), (server, line, "to the client")):
                both.start_soon(self._pass_on, source, sink, way, both, name=f"{self.name} relay {way}")

    async def _pass_on(self, source: ByteStream, sink: ByteStream, way: str, both: TaskGroup) -> None:
        try:
            while True:
                data = await source.receive()
                await sink.send(data)
                self.relayed[way] += len(data)
        except anyio.EndOfStream:
            with suppress(*_LOST):
                await sink.send_eof()
                return
        except _LOST:
            pass
        with anyio.CancelScope(shield=True):
            await reset_stream(source)
            await reset_stream(sink)
        both.cancel_scope.cancel()
