"""What the fuzzer has found, as tests of the public API."""

from __future__ import annotations

import anyio
import pytest
from anyio.lowlevel import checkpoint
from kit.zlib_peer import deflate

from wsstream import Deflate, MessageTooBig, StreamEnded, WebSocketStream, connect
from wsstream.testing import RawPeer, binary, close, continuation, memory_pair

pytestmark = pytest.mark.anyio

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate")]


LARGE = {
    "in one frame": binary(bytes(5000)),
    "in fragments": binary(bytes(2500), fin=False) + continuation(bytes(2500)),
    "compressed": binary(deflate(bytes(5000))[0], rsv1=True),
}


async def receive(ws: WebSocketStream) -> str | bytes:
    return await ws.receive()


async def read(ws: WebSocketStream) -> bytes:
    async with ws.readable.message() as message:
        return await message.read()


@pytest.mark.parametrize("call", [receive, read])
@pytest.mark.parametrize("kind", LARGE)
async def test_a_message_that_is_too_big_is_reported_once_though_the_peer_has_closed(kind, call) -> None:
    """The connection has ended already, so it cannot fail any more; the next call must see that end."""
    ours, theirs = memory_pair()
    async with anyio.create_task_group() as group:

        async def peer() -> None:
            async with await RawPeer.as_server(theirs, headers=DEFLATE) as raw:
                await raw.send(LARGE[kind] + close(1000))
                await raw.read_frame()

        group.start_soon(peer)
        async with connect(
            "ws://server/", transport=ours, compression=Deflate(), max_message_size=1000
        ) as ws:
            while ws.close_info is None:
                await checkpoint()
            with pytest.raises(MessageTooBig):
                await call(ws)
            for _ in range(2):
                with pytest.raises(StreamEnded):
                    await call(ws)
