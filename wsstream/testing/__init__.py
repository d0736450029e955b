"""Test code that uses wsstream: without a network, without waiting, whatever the speed of the machine.

A handler is a function of a WebSocket, so pass it one end of a pair and play the other::

    @pytest.fixture(params=["asyncio", "trio"])
    def anyio_backend(request):
        return virtual_clock(request.param)  # sleeps and timeouts take no time

    @pytest.mark.anyio
    async def test_echo():
        async with connected_pair() as (client, server), anyio.create_task_group() as group:
            group.start_soon(echo, server)
            await client.send("hello")
            assert await client.receive() == "hello"
            await client.aclose()

:func:`serving` runs what ``serve`` does, with its limits and its closing: a handler or a router whose clients
come by ``server.connect("/path")``. :func:`asgi_connect` runs an ASGI application for one client.

Below the WebSocket are :func:`memory_pair` and :func:`lockstep_pair`, byte streams to pass to
``connect(transport=...)`` and ``accept``; wrap them in :class:`SplitStream`, :class:`DelayStream`,
:class:`StallStream`, :class:`RateStream` or :class:`CutStream` for a bad network. :class:`RawPeer`
sends any frames, including those in :data:`ILLEGAL_FRAMES`.
"""

from __future__ import annotations

from .asgi import asgi_connect
from .catalogue import ILLEGAL_FRAMES, LEGAL_SEQUENCES, Event, FrameCase, Role
from .clock import DeadlockError, virtual_clock
from .cuts import CutStream, reset_stream
from .faults import DelayStream, RateStream, SplitStream, StallStream
from .frames import (
    EXAMPLE_KEY,
    Frame,
    FrameOptions,
    PeerError,
    binary,
    close,
    continuation,
    frame,
    next_frame,
    parse_frames,
    ping,
    pong,
    text,
)
from .memory import MemoryStream, MemoryStreamStatistics, lockstep_pair, memory_pair
from .pair import connected_pair
from .peer import FrameReader, RawPeer
from .serving import MemoryServer, serving

__all__ = [
    "EXAMPLE_KEY",
    "ILLEGAL_FRAMES",
    "LEGAL_SEQUENCES",
    "CutStream",
    "DeadlockError",
    "DelayStream",
    "Event",
    "Frame",
    "FrameCase",
    "FrameOptions",
    "FrameReader",
    "MemoryServer",
    "MemoryStream",
    "MemoryStreamStatistics",
    "PeerError",
    "RateStream",
    "RawPeer",
    "Role",
    "SplitStream",
    "StallStream",
    "asgi_connect",
    "binary",
    "close",
    "connected_pair",
    "continuation",
    "frame",
    "lockstep_pair",
    "memory_pair",
    "next_frame",
    "parse_frames",
    "ping",
    "pong",
    "reset_stream",
    "serving",
    "text",
    "virtual_clock",
]

for _name in __all__:
    if hasattr(_value := globals()[_name], "__qualname__"):  # a class or a function
        _value.__module__ = __name__  # where users find it
