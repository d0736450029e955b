"""Dropping a stream so that the other end sees a reset, and never the end before it."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from anyio.abc import SocketAttribute, SocketStream
from anyio.streams.tls import TLSStream

from wsstream.testing import memory_pair
from wsstream.transports.reset import reset

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


@pytest.fixture
def connected(connect_sockets: Callable[[str], tuple[socket.socket, socket.socket]]):
    """A stream of anyio, and a blocking socket at its other end."""

    async def connected(kind: str) -> tuple[SocketStream, socket.socket]:
        ours, theirs = connect_sockets(kind)
        of = anyio.abc.UNIXSocketStream if kind == "unix" else SocketStream
        return await of.from_socket(ours), theirs

    return connected


def what_comes(peer: socket.socket) -> str:
    """Read to the end from a thread that is there before the reset is."""
    with peer:
        peer.settimeout(5)
        try:
            while peer.recv(65536):
                pass
        except ConnectionResetError:
            return "reset"
        return "end"


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("kind", ["tcp4", "tcp6"])
@pytest.mark.parametrize("sent", [0, 100, 4_000_000])
async def test_tcp_sees_a_reset_and_no_end_before_it(connected, kind: str, sent: int) -> None:
    for _ in range(3):
        stream, peer = await connected(kind)
        seen = []

        async def read(peer: socket.socket = peer, seen: list[str] = seen) -> None:
            seen.append(await anyio.to_thread.run_sync(what_comes, peer))

        async with anyio.create_task_group() as tasks:
            if sent < 1000:
                await stream.send(bytes(sent))
                tasks.start_soon(read)
                await anyio.sleep(0.01)  # the thread is in recv()
            else:
                with anyio.move_on_after(0.01):
                    await stream.send(bytes(sent))
                tasks.start_soon(read)
            await reset(stream)
            with pytest.raises(anyio.ClosedResourceError):
                await stream.send(b"x")
        assert seen == ["reset"]


async def test_the_socket_is_closed_when_reset_returns_also_if_cancelled(connected) -> None:
    for cancelled in (False, True):
        stream, peer = await connected("tcp4")
        sock = stream.extra(SocketAttribute.raw_socket)
        with anyio.CancelScope() as scope, peer:
            if cancelled:
                scope.cancel()
            await reset(stream)
            assert sock.fileno() == -1
            assert what_comes(peer) == "reset"


async def test_tls_is_reset_without_a_farewell(
    connected, server_context: ssl.SSLContext, client_context: ssl.SSLContext
) -> None:
    stream, peer = await connected("tcp4")

    def shake_hands() -> str:
        tls = client_context.wrap_socket(peer, server_hostname="localhost")
        tls.send(b"hello")
        return what_comes(socket.socket(fileno=tls.detach()))  # ssl takes a reset for an end

    seen = []
    async with anyio.create_task_group() as tasks:

        async def read() -> None:
            seen.append(await anyio.to_thread.run_sync(shake_hands))

        tasks.start_soon(read)
        tls = await TLSStream.wrap(stream, server_side=True, ssl_context=server_context)
        assert await tls.receive() == b"hello"
        await reset(tls)
    assert seen == ["reset"]


async def test_other_streams_end(connected) -> None:
    stream, peer = await connected("unix")
    await reset(stream)
    assert what_comes(peer) == "end"


async def test_streams_that_can_tell_of_a_reset_do() -> None:
    ours, theirs = memory_pair()
    await reset(ours)
    with pytest.raises(anyio.BrokenResourceError):
        await theirs.receive()


async def test_a_stream_that_is_closed_already_is_left_alone(connected, tmp_path: Path) -> None:
    for kind in ("tcp4", "unix"):
        stream, peer = await connected(kind)
        with peer:
            await stream.aclose()
            await reset(stream)
            await reset(stream)
