"""Requests that follow at once on one that its client has ended, and a disk that is slow."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

import wsstream
from wsstream import WebSocketStream
from wsstream.files import SUBPROTOCOL, receiver, upload
from wsstream.files.storage.partial import Partial

KIB, MIB = 1024, 1024 * 1024
HELLO = {
    "t": "hello",
    "v": 1,
    "agent": "test/1",
    "max_segment": 256 * KIB,
    "hashes": ["sha256"],
    "ops": [],
    "max_size": None,
    "resume": True,
}

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


class Peer:
    """A client that sends what it is told to."""

    def __init__(self, ws: WebSocketStream) -> None:
        self._ws = ws

    async def send(self, *messages: Any) -> None:
        """Send messages one after the other, without a pause between them."""
        for message in messages:
            await self._ws.send(message if isinstance(message, bytes) else json.dumps(message))

    async def answer(self, *kinds: str) -> dict[str, Any]:
        """The next message that is not about progress, which must be of one of these kinds."""
        while True:
            message = json.loads(await self._ws.receive())
            if message["t"] not in ("progress", "ack"):
                assert message["t"] in kinds, message
                return dict(message)


@asynccontextmanager
async def connected(url: str) -> AsyncIterator[Peer]:
    async with wsstream.connect(url, subprotocols=[SUBPROTOCOL]) as ws:
        peer = Peer(ws)
        await peer.send(HELLO)
        await peer.answer("hello")
        yield peer


def offer(id: int, size: int) -> dict[str, Any]:
    fields = {"name": f"{id}.bin", "size": size, "mtime": None, "hashes": ["sha256"], "etag": "v"}
    return {"t": "offer", "id": id, **fields}


async def test_a_request_right_after_an_abort_is_served(serving: Any, folder: Path) -> None:
    (folder / "here.bin").write_bytes(b"here")
    abort = {"t": "abort", "id": 1, "code": "cancelled", "reason": "", "keep": True}
    async with serving() as server, connected(server.url) as peer:
        await peer.send(offer(1, 10 * MIB))
        await peer.answer("accept")
        await peer.send(bytes(100), abort, {"t": "get", "id": 3, "name": "here.bin"})
        assert (await peer.answer("offer"))["id"] == 3


async def test_an_offer_right_after_a_transfer_that_the_server_cancelled_is_served(
    serving: Any, folder: Path
) -> None:
    abort = {"t": "abort", "id": 1, "code": "digest-mismatch", "reason": "", "keep": False}
    async with serving() as server, connected(server.url) as peer:
        await peer.send(offer(1, 100))
        await peer.answer("accept")
        await peer.send(bytes(100), {"t": "end", "id": 1, "size": 100, "digest": "0" * 64})
        assert (await peer.answer("cancel"))["code"] == "digest-mismatch"
        await peer.send(abort, offer(3, 5))
        assert (await peer.answer("accept"))["id"] == 3
        await peer.send(
            b"12345", {"t": "end", "id": 3, "size": 5, "digest": hashlib.sha256(b"12345").hexdigest()}
        )
        await peer.answer("done")
    assert (folder / "3.bin").read_bytes() == b"12345"
    assert not (folder / "1.bin").exists()


@pytest.mark.heavy
async def test_what_is_synced_in_the_middle_of_a_long_write_counts_once_it_is_written(
    serving: Any, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write, synced = Partial.write, receiver.Partial.sync
    ahead: list[int] = []

    def write_chunk_by_chunk(self: Partial, chunks: Any) -> None:
        for chunk in chunks:
            write(self, [chunk])
            time.sleep(0.03)

    def sync(self: Partial, **keywords: Any) -> int:
        ahead.append(synced(self, **keywords))
        return ahead[-1]

    monkeypatch.setattr(Partial, "write", write_chunk_by_chunk)
    monkeypatch.setattr(Partial, "sync", sync)
    monkeypatch.setattr(receiver, "_SYNC_BYTES", 1)
    monkeypatch.setattr(receiver, "_POLL", 0.005)
    content = bytes(range(256)) * 16 * KIB  # 4 MiB
    (tmp_path / "file.bin").write_bytes(content)
    async with serving() as server:
        (result,) = await upload(server.url, tmp_path / "file.bin", delays=[])
    assert result.size == len(content)
    assert (folder / "file.bin").read_bytes() == content
    assert len(ahead) > 2
