"""Other implementations, each in a process of its own, to talk to from both sides.

The PyPI peers are part of the ``test`` extra. The npm peer needs Node.js and, once,
``npm ci --prefix tests/interop``. A peer that is not installed is skipped; where the environment variable
``CI`` is set, that is a failure.

``peers/harness.py`` says how a peer is driven: a control connection stands for one WebSocket of the peer.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

import anyio
import pytest
from anyio.abc import ByteStream
from anyio.streams.buffered import BufferedByteReceiveStream
from kit.interop import PEERS, Link

import wsstream
from wsstream import WebSocketStream

HERE = Path(__file__).parent
TIME_LIMIT = 20  # seconds; a deadlock is a failure, not a hang
MAX_ANSWER = 1 << 16  # bytes


@dataclass(frozen=True)
class Peer:
    """A running peer: its name, the port of its control connections, and what its library can do."""

    name: str
    port: int

    @property
    def shows_frames(self) -> bool:
        return self.name in ("websockets", "wsproto", "picows")

    @property
    def shows_reason_of_answer(self) -> bool:
        return self.name != "aiohttp"

    def answer_to(self, code: int) -> int:
        """The code with which the library answers a Close with `code`."""
        return 1000 if self.name == "aiohttp" else code


class Remote:
    """One WebSocket of the peer."""

    def __init__(self, stream: ByteStream) -> None:
        self._stream = stream
        self._answers = BufferedByteReceiveStream(stream)

    async def do(self, operation: str, **arguments: Any) -> dict[str, Any]:
        """Have the peer do one thing, and wait until it is done."""
        await self._stream.send(json.dumps({"do": operation, **arguments}).encode() + b"\n")
        answer = json.loads(await self._answers.receive_until(b"\n", MAX_ANSWER))
        assert "error" not in answer, f"{operation} failed at the peer:\n{answer['error']}"
        return dict(answer)

    async def expect(self, message: str | bytes) -> int | None:
        """Have the peer receive a message that must be this one; the number of its frames, if known."""
        answer = await self.do("receive")
        kind, payload = ("text", message.encode()) if isinstance(message, str) else ("binary", message)
        assert (answer["kind"], answer["size"]) == (kind, len(payload))
        assert answer["sha256"] == hashlib.sha256(payload).hexdigest()
        frames = answer["frames"]
        assert frames is None or isinstance(frames, int)
        return frames


def _missing(reason: str) -> NoReturn:
    if os.environ.get("CI"):
        pytest.fail(reason)
    pytest.skip(reason)


def _command(name: str) -> list[str]:
    if name == "ws":
        node = shutil.which("node")
        if node is None:
            _missing("the peer ws needs Node.js")
        if not (HERE / "node_modules" / "ws").is_dir():
            _missing("the peer ws is not installed: npm ci --prefix tests/interop")
        return [node, str(HERE / "peers" / "ws_peer.mjs")]
    if name == "picows" and platform.python_implementation() != "CPython":
        pytest.skip("picows is for CPython alone")
    if importlib.util.find_spec(name) is None:
        _missing(f"the peer {name} is not installed: pip install wsstream[test]")
    return [sys.executable, str(HERE / "peers" / f"{name}_peer.py")]


@pytest.fixture(scope="session", params=PEERS)
def peer(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Peer]:
    """The process of one peer, which all its tests share."""
    name: str = request.param
    log = tmp_path_factory.mktemp(name) / "stderr.txt"
    with (
        log.open("wb") as stderr,
        subprocess.Popen(
            _command(name), stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr
        ) as process,
    ):
        assert process.stdin is not None
        assert process.stdout is not None
        port = process.stdout.readline()
        if not port.strip():
            pytest.fail(f"the peer {name} did not start:\n{log.read_text(errors='replace')}")
        yield Peer(name, int(port))
        process.stdin.close()  # it lives as long as that is open
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            pytest.fail(f"the peer {name} did not end")


@asynccontextmanager
async def _as_client(remote: Remote, theirs: dict[str, Any], options: Any) -> AsyncIterator[WebSocketStream]:
    url = (await remote.do("serve", **theirs))["url"]
    async with wsstream.connect(url, **options) as ws:
        yield ws


@asynccontextmanager
async def _as_server(remote: Remote, theirs: dict[str, Any], options: Any) -> AsyncIterator[WebSocketStream]:
    connections: list[WebSocketStream] = []
    opened, finished = anyio.Event(), anyio.Event()

    async def handler(ws: WebSocketStream) -> None:
        connections.append(ws)
        opened.set()
        await finished.wait()

    async with wsstream.serve(handler, "127.0.0.1", **options) as server:
        await remote.do("connect", url=f"{server.url}/chat?room=1", **theirs)
        await opened.wait()
        try:
            yield connections[0]
        finally:
            finished.set()
        with suppress(wsstream.ConnectionBroken):  # close_info tells
            await connections[0].wait_closed()


@asynccontextmanager
async def _open_link(
    peer: Peer, role: str, /, *, theirs: dict[str, Any] | None = None, clean: bool = True, **options: Any
) -> AsyncIterator[tuple[WebSocketStream, Remote]]:
    ends = _as_client if role == "client" else _as_server
    with anyio.fail_after(TIME_LIMIT):
        async with await anyio.connect_tcp("127.0.0.1", peer.port) as stream:
            remote = Remote(stream)
            async with ends(remote, theirs or {}, options) as ws:
                opened = await remote.do("open")
                assert opened["subprotocol"] == ws.subprotocol
                yield ws, remote
                was_open = ws.state == "open"
            if was_open:  # then leaving the block has closed it
                assert (await remote.do("closed"))["code"] == 1000
            assert ws.close_info is not None
            assert ws.close_info.clean is clean


@pytest.fixture
def links(peer: Peer) -> dict[str, Link]:
    """What `link` is in each role."""
    return {role: partial(_open_link, peer, role) for role in ("client", "server")}


@pytest.fixture(params=["client", "server"])
def link(request: pytest.FixtureRequest, links: dict[str, Link]) -> Link:
    """Open a WebSocket between the peer and wsstream, which is the client or the server.

    ``async with link(**options) as (ws, remote)``: `theirs` are the peer's options, the others wsstream's.
    After the block the closing handshake has to have been `clean`.
    """
    return links[request.param]
