"""Reading from a socket: messages that are taken whole hardly need the decoder, wherever reads end."""

from __future__ import annotations

from collections.abc import Iterator

import anyio
import pytest

import wsstream
from wsstream import WebSocketStream
from wsstream.codec.decoder import Decoder
from wsstream.codec.events import Event
from wsstream.testing import RawPeer

pytestmark = pytest.mark.anyio

MESSAGES = [bytes([size & 0xFF]) * (30_000 + size * 7919 % 70_000) for size in range(60)]


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """Bytes of data frames that the decoder was given, call by call."""
    sizes: list[int] = []
    decode = Decoder.decode

    def counting(self: Decoder, data: bytes | memoryview, room: int) -> list[Event]:
        events = decode(self, data, room)
        if not self.control:
            sizes.append(self.consumed)
        return events

    monkeypatch.setattr(Decoder, "decode", counting)
    return sizes


async def receive_all(way: str, early: int = 0) -> list[bytes]:
    """What a server gets of MESSAGES, of which `early` bytes come before the application receives."""
    received: list[bytes] = []
    begun, done = anyio.Event(), anyio.Event()

    async def handle(ws: WebSocketStream) -> None:
        await begun.wait()
        if way == "iterating":
            async for message in ws:
                received.append(message)  # type: ignore[arg-type]
        else:
            while len(received) < len(MESSAGES):
                received.append(await ws.receive())  # type: ignore[arg-type]
        done.set()

    async with (
        wsstream.serve(handle, "127.0.0.1") as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        peer = await RawPeer.as_client(stream)
        data = b"".join(wsstream.testing.frame(2, message, mask=peer.mask) for message in MESSAGES)
        await peer.send(data[:early])
        await anyio.sleep(0.02)
        begun.set()
        await peer.send(data[early:] + wsstream.testing.close(mask=peer.mask))
        with anyio.fail_after(5):
            await done.wait()
    return received


@pytest.mark.parametrize("way", ["iterating", "receiving"])
async def test_the_step_takes_messages_that_reads_cut_in_two(way: str, decoded: list[int]) -> None:
    assert await receive_all(way) == MESSAGES
    assert sum(decoded) < sum(map(len, MESSAGES)) // 3


async def test_after_a_message_that_began_before_anybody_received_the_step_takes_over(
    decoded: list[int],
) -> None:
    assert await receive_all("iterating", 10_000) == MESSAGES
    assert len(decoded) > 1
    assert sum(decoded) < sum(map(len, MESSAGES)) // 3
