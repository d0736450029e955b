"""What the acceptance tables share: the two schemes, and both ends of a connection over loopback."""

from __future__ import annotations

import gc
import socket
import ssl
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any

import anyio
import pytest
import trustme
from anyio.abc import ByteStream, SocketAttribute, SocketListener, SocketStream
from anyio.streams.tls import TLSListener, TLSStream

import wsstream
from wsstream.testing import RawPeer, memory_pair


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
    return context


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


@pytest.fixture(params=["ws", "wss"])
def scheme(request: pytest.FixtureRequest) -> str:
    return str(request.param)


class Net:
    """Opens either end of a connection on 127.0.0.1, with TLS if the scheme is ``wss``.

    Both ends are wsstream's (`serve`, `connect`), or a byte stream for a
    :class:`wsstream.testing.RawPeer` (`raw_client`, `raw_server`).
    """

    def __init__(self, scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> None:
        self.scheme = scheme
        self.server_tls = server_tls if scheme == "wss" else None
        self.client_tls = client_tls if scheme == "wss" else None

    def serve(
        self, handler: Callable[[wsstream.WebSocketStream], Awaitable[object]], **options: Any
    ) -> AbstractAsyncContextManager[wsstream.Server]:
        """``wsstream.serve`` on a free port."""
        return wsstream.serve(handler, "127.0.0.1", ssl=self.server_tls, **options)

    def connect(
        self, url: str | wsstream.Server, **options: Any
    ) -> AbstractAsyncContextManager[wsstream.WebSocketStream]:
        """``wsstream.connect`` to a URL or to a server of `serve`."""
        url = url if isinstance(url, str) else url.url
        return wsstream.connect(url, ssl=self.client_tls, **options)

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
def net(scheme: str, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext) -> Net:
    return Net(scheme, server_tls, client_tls)


Opened = AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]


@pytest.fixture
def opened(net: Net) -> Callable[..., Opened]:
    """A client over a socket, and a peer that does what the test says and reads nothing by itself."""

    @asynccontextmanager
    async def opened(**options: Any) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
        peers: list[RawPeer] = []
        ready = anyio.Event()

        async def peer(stream: ByteStream) -> None:
            async with stream:
                peers.append(await RawPeer.as_server(stream))
                with anyio.move_on_after(0):  # asyncio's streams read ahead until they have waited once
                    await stream.receive()
                ready.set()
                await anyio.sleep_forever()

        async with net.raw_server(peer) as url, net.connect(url, **options) as ws:
            await ready.wait()
            yield ws, peers[0]

    return opened


RawPair = Callable[..., AbstractAsyncContextManager[tuple[wsstream.WebSocketStream, RawPeer]]]


@pytest.fixture(scope="session")
def raw_pair() -> RawPair:
    """``raw_pair("client", streams=None, **options)``: our endpoint in that role, and a RawPeer.

    Without a network. Leaving closes; as a RawPeer answers nothing by itself, `close_timeout` is 0
    unless the test's peer reads to the end and says otherwise. `extensions` is the peer's header field.
    """

    @asynccontextmanager
    async def raw_pair(
        role: str = "client",
        streams: tuple[ByteStream, ByteStream] | None = None,
        *,
        extensions: str | None = None,
        **options: Any,
    ) -> AsyncIterator[tuple[wsstream.WebSocketStream, RawPeer]]:
        ours, theirs = streams or memory_pair()
        options.setdefault("close_timeout", 0)
        peers: list[RawPeer] = []

        async def open_peer() -> None:
            open_raw = RawPeer.as_server if role == "client" else RawPeer.as_client
            headers = [] if extensions is None else [("Sec-WebSocket-Extensions", extensions)]
            peers.append(await open_raw(theirs, headers=headers))

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
