"""What the acceptance tables share: both schemes, compression or none, and both ends over loopback."""

from __future__ import annotations

import gc
import socket
import ssl
import tracemalloc
import zlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from dataclasses import replace
from functools import lru_cache
from typing import Any, Unpack

import anyio
import pytest
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream
from anyio.streams.tls import TLSListener, TLSStream

import wsstream
from wsstream import Deflate
from wsstream.testing import Frame, FrameOptions, RawPeer, Role, frame, memory_pair

_EXTENSIONS = "Sec-WebSocket-Extensions"
_NAME = "permessage-deflate"
_TAIL = b"\x00\x00\xff\xff"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Over both schemes; and in table X with compression too, over one of them.

    Compression is slow, unless the test is marked as ``quick_with_compression``, and TLS is slow where it
    is marked as ``slow_over_tls``. A row that means nothing under compression sets `compression` itself,
    and so does test_x_deflate.py.
    """
    test = metafunc.definition
    named = [mark.args[0] for mark in test.iter_markers("parametrize")]
    chosen = {name for names in named for name in ([names] if isinstance(names, str) else names)}
    open_ = {name for name in ("scheme", "compression") if name in metafunc.fixturenames} - chosen
    module = metafunc.module.__name__.rpartition(".")[2]
    if not module.startswith("test_x_") or module == "test_x_deflate":
        open_ -= {"compression"}
    slow = [] if test.get_closest_marker("quick_with_compression") else [pytest.mark.slow]
    slow_over_tls = [pytest.mark.slow] if test.get_closest_marker("slow_over_tls") else []
    if open_ == {"scheme", "compression"}:
        rows = [
            ("ws", None),
            pytest.param("wss", None, marks=slow_over_tls),
            pytest.param("ws", Deflate(), marks=slow),
        ]
        metafunc.parametrize(("scheme", "compression"), rows, ids=["ws", "wss", "ws-deflate"])
    elif open_ == {"compression"}:
        metafunc.parametrize(
            "compression", [None, pytest.param(Deflate(), marks=slow)], ids=["plain", "deflate"]
        )
    elif open_:
        metafunc.parametrize("scheme", ["ws", pytest.param("wss", marks=slow_over_tls)])


@pytest.fixture
def scheme() -> str:
    return "ws"


@pytest.fixture
def compression() -> Deflate | None:
    """Of both ends; table W does without."""
    return None


class Peer(RawPeer):
    """A raw peer that speaks permessage-deflate by itself, through zlib alone, where it was agreed on.

    Then what `text`, `binary` and `continuation` are given is compressed, and what `read_frame` gives is
    inflated, so that a test says the same of both. Each frame can be inflated as soon as it is there.
    """

    def __init__(self, stream: ByteStream, role: Role, **options: Any) -> None:
        super().__init__(stream, role, **options)
        self.deflating = False
        self._compressed = False  # the message that is being read
        self._compress: Any = None
        self._inflate: Any = None

    @classmethod
    async def opened(
        cls, role: Role, stream: ByteStream, compression: Deflate | None, **options: Any
    ) -> Peer:
        """Do the opening handshake in `role`, and agree on compression if there is to be any."""
        headers = list(options.pop("headers", ()))
        if compression is not None:
            headers.append((_EXTENSIONS, _NAME))
        handshake = cls.as_server if role == "server" else cls.as_client
        peer = await handshake(stream, headers=headers, **options)
        if compression is not None:
            assert (peer.header(_EXTENSIONS) or "").startswith(_NAME)
            peer.deflating = True
            peer._compress, peer._inflate = zlib.compressobj(wbits=-15), zlib.decompressobj(wbits=-15)
        return peer

    def encode(self, opcode: int, payload: str | bytes = b"", **options: Unpack[FrameOptions]) -> bytes:
        """The bytes of a data frame. A payload of no bytes is made as small as a frame can be."""
        payload = payload.encode() if isinstance(payload, str) else payload
        if self.deflating:
            last = options.get("fin", True) and "declared_length" not in options  # else more follows
            payload = self._packed(payload, last=last)
            options = {"rsv1": opcode != 0, **options}
        return frame(opcode, payload, **self._masked(options))

    def _packed(self, payload: bytes, *, last: bool) -> bytes:
        if not payload:
            return b"\x00" if last else b""  # RFC 7692 section 7.2.3.6
        data = self._compress.compress(payload) + self._compress.flush(zlib.Z_SYNC_FLUSH)
        return data.removesuffix(_TAIL) if last else data

    def part(self, payload: bytes, *, last: bool = False) -> bytes:
        """What `payload` is inside a frame that has begun, where the masking key changes nothing."""
        if not self.deflating:
            return payload
        self._compress = zlib.compressobj(wbits=-15)  # it does not know what passes by it
        return _packed_alone(payload).removesuffix(_TAIL if last else b"")

    async def text(self, payload: str | bytes = "", **options: Unpack[FrameOptions]) -> None:
        await self.send(self.encode(1, payload, **options))

    async def binary(self, payload: bytes = b"", **options: Unpack[FrameOptions]) -> None:
        await self.send(self.encode(2, payload, **options))

    async def continuation(self, payload: str | bytes = b"", **options: Unpack[FrameOptions]) -> None:
        await self.send(self.encode(0, payload, **options))

    async def read_frame(self) -> Frame:
        received = await super().read_frame()
        if received.kind in ("text", "binary"):
            self._compressed = received.rsv1
        elif received.kind != "continuation":
            return received
        if not (self.deflating and self._compressed):
            return received
        data = received.payload + (_TAIL if received.fin else b"")
        return replace(received, payload=self._inflate.decompress(data), rsv1=False)


@lru_cache(maxsize=8)
def _packed_alone(payload: bytes) -> bytes:
    """Blocks that refer to nothing before them, and so can stand anywhere."""
    context = zlib.compressobj(wbits=-15)
    return context.compress(payload) + context.flush(zlib.Z_SYNC_FLUSH)


class Net:
    """Opens either end of a connection on 127.0.0.1, with TLS if the scheme is ``wss``.

    Both ends are wsstream's (`serve`, `connect`), or a byte stream (`raw_client`, `raw_server`) for a
    :class:`Peer` (`as_client`, `as_server`).
    """

    def __init__(
        self,
        scheme: str,
        server_tls: ssl.SSLContext,
        client_tls: ssl.SSLContext,
        compression: Deflate | None,
    ) -> None:
        self.scheme = scheme
        self.compression = compression
        self.server_tls = server_tls if scheme == "wss" else None
        self.client_tls = client_tls if scheme == "wss" else None

    def serve(
        self, handler: Callable[[wsstream.WebSocketStream], Awaitable[object]], **options: Any
    ) -> AbstractAsyncContextManager[wsstream.Server]:
        """``wsstream.serve`` on a free port."""
        options.setdefault("compression", self.compression)
        return wsstream.serve(handler, "127.0.0.1", ssl=self.server_tls, **options)

    def connect(
        self, url: str | wsstream.Server, **options: Any
    ) -> AbstractAsyncContextManager[wsstream.WebSocketStream]:
        """``wsstream.connect`` to a URL or to a server of `serve`."""
        url = url if isinstance(url, str) else url.url
        options.setdefault("compression", self.compression)
        return wsstream.connect(url, ssl=self.client_tls, **options)

    async def as_server(self, stream: ByteStream, **options: Any) -> Peer:
        """The raw peer of a client of ours; it does the opening handshake."""
        return await Peer.opened("server", stream, self.compression, **options)

    async def as_client(self, stream: ByteStream, **options: Any) -> Peer:
        """The raw peer of a server of ours; it does the opening handshake."""
        return await Peer.opened("client", stream, self.compression, **options)

    async def raw_client(self, server: wsstream.Server, *, receive_buffer: int | None = None) -> ByteStream:
        """A byte stream to `server`, before the opening handshake."""
        sock = socket.socket()
        if receive_buffer is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        sock.connect(("127.0.0.1", server.port))  # over loopback that needs no waiting
        stream: ByteStream = await SocketStream.from_socket(sock)
        if self.client_tls is None:
            return stream
        return await TLSStream.wrap(
            stream, hostname="127.0.0.1", ssl_context=self.client_tls, standard_compatible=False
        )

    @asynccontextmanager
    async def raw_server(
        self, handler: Callable[[ByteStream], Awaitable[object]], *, receive_buffer: int | None = None
    ) -> AsyncIterator[str]:
        """Listen, and call `handler` with the byte stream of each client; gives the URL.

        Leaving cancels the handlers that still run. `receive_buffer` is the kernel's, in bytes.
        """
        sockets = await anyio.create_tcp_listener(local_host="127.0.0.1")
        if receive_buffer is not None:  # accepted sockets inherit it
            for listening in sockets.listeners:
                raw = listening.extra(SocketAttribute.raw_socket)
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        listener: Any = sockets
        if self.server_tls is not None:
            listener = TLSListener(sockets, self.server_tls, standard_compatible=False)
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, handler)
            yield f"{self.scheme}://127.0.0.1:{_port(sockets)}"
            tasks.cancel_scope.cancel()


def _port(listener: Any) -> int:
    first: SocketListener = listener.listeners[0]
    address = first.extra(SocketAttribute.local_address)
    assert isinstance(address, tuple)
    return address[1]


@pytest.fixture
def net(
    scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext, compression: Deflate | None
) -> Net:
    return Net(scheme, server_tls, client_tls, compression)


Opened = AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, Peer]]


@pytest.fixture
def opened(net: Net) -> Callable[..., Opened]:
    """A client over a socket, and a peer that does what the test says and reads nothing by itself."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[tuple[wsstream.WebSocketStream, Peer]]:
        peers: list[Peer] = []
        ready = anyio.Event()

        async def peer(stream: ByteStream) -> None:
            async with stream:
                peers.append(await net.as_server(stream))
                with anyio.move_on_after(0):  # asyncio's streams read ahead until they have waited once
                    await stream.receive()
                ready.set()
                await anyio.sleep_forever()

        async with net.raw_server(peer) as url, net.connect(url, **options) as ws:
            await ready.wait()
            yield ws, peers[0]

    return opened


RawPair = Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, Peer]]]


@pytest.fixture
def raw_pair(compression: Deflate | None) -> RawPair:
    """``raw_pair("client", streams=None, **options)``: our endpoint in that role, and a raw peer.

    Without a network. Leaving closes; as the peer answers nothing by itself, `close_timeout` is 0 unless
    the test's peer reads to the end and says otherwise. With `extensions` as its header field the peer
    leaves compressing to the test.
    """

    @asynccontextmanager
    async def raw_pair(
        role: str = "client",
        streams: tuple[ByteStream, ByteStream] | None = None,
        *,
        extensions: str | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[wsstream.WebSocketStream, Peer]]:
        ours, theirs = streams or memory_pair()
        options = {"close_timeout": 0, "compression": compression, **options}
        peers: list[Peer] = []

        async def open_peer() -> None:
            their_role: Role = "server" if role == "client" else "client"
            if extensions is None:
                peers.append(await Peer.opened(their_role, theirs, options["compression"]))
            else:
                headers = [(_EXTENSIONS, extensions)]
                peers.append(await Peer.opened(their_role, theirs, None, headers=headers))

        async with AsyncExitStack() as stack:
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(open_peer)
                opening = (
                    wsstream.connect("ws://testserver/", transport=ours, **options)
                    if role == "client"
                    else wsstream.accept(ours, **options)
                )
                ws = await stack.enter_async_context(opening)
            yield ws, peers[0]

    return raw_pair


class Heap:
    """How far Python's heap has grown since it was made; make it when everything is warm."""

    def __init__(self) -> None:
        gc.collect()
        tracemalloc.start()
        self.start = tracemalloc.get_traced_memory()[0]

    def peak(self) -> int:
        """Bytes at the highest point."""
        return tracemalloc.get_traced_memory()[1] - self.start

    def left(self) -> int:
        """Bytes now, without garbage."""
        gc.collect()
        return tracemalloc.get_traced_memory()[0] - self.start

    def stop(self) -> None:
        """Measure no longer, which is faster."""
        tracemalloc.stop()


@pytest.fixture
def heap() -> Iterator[type[Heap]]:
    yield Heap
    tracemalloc.stop()
