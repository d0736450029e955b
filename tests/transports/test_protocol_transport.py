"""`ProtocolTransport` over an asyncio transport that the test plays: what it gives, when it pushes back."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from wsstream.transports.protocol_transport import ProtocolTransport

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]


class Played:
    """An asyncio transport that takes `room` bytes, and then calls `pause_writing`."""

    def __init__(self, room: int = 1 << 30) -> None:
        self.room = room
        self.written = bytearray()
        self.calls: list[str] = []
        self.protocol: ProtocolTransport

    def write(self, data: bytes) -> None:
        self.written += data
        if len(self.written) > self.room:
            self.protocol.pause_writing()

    def get_write_buffer_size(self) -> int:
        return max(0, len(self.written) - self.room)

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        assert high, "with 0, asyncio over TLS would never resume"

    def can_write_eof(self) -> bool:
        return True

    def __getattr__(self, name: str) -> Any:
        return lambda: self.calls.append(name)


def over(played: Played) -> ProtocolTransport:
    played.protocol = ProtocolTransport(played)
    return played.protocol


def read(transport: ProtocolTransport, size: int = 1 << 20) -> bytes | None:
    buffer = memoryview(bytearray(size))
    count = transport.recv_into(buffer)
    return None if count is None else bytes(buffer[:count])


async def test_what_has_come_is_read_in_pieces_of_any_size() -> None:
    transport = over(Played())
    assert read(transport) is None
    for data in (b"abc", b"", b"defg"):
        transport.data_received(data)
    assert [read(transport, 2), read(transport, 4), read(transport)] == [b"ab", b"cdef", b"g"]
    transport.eof_received()
    assert read(transport) == b""


async def test_reading_stops_while_64_kib_are_unread_and_goes_on_when_none_are() -> None:
    played = Played()
    transport = over(played)
    transport.data_received(bytes((1 << 16) - 1))
    assert played.calls == []
    transport.data_received(b"x")
    transport.data_received(b"y")  # asyncio may have read it before
    assert played.calls == ["pause_reading"]
    read(transport, 1 << 16)
    assert played.calls == ["pause_reading"]
    read(transport)
    assert played.calls == ["pause_reading", "resume_reading"]


async def test_it_gives_asyncio_nothing_while_that_holds_anything() -> None:
    played = Played(room=100_000)
    transport = over(played)
    assert transport.send([bytes(300_000)]) == 131_072, "pieces of 64 KiB until it is blocked"
    assert transport.unsent == 31_072
    assert transport.send([b"more"]) == 0
    async with anyio.create_task_group() as group:
        group.start_soon(transport.wait_writable)
        await anyio.wait_all_tasks_blocked()
        transport.resume_writing()
    played.room = 1 << 30
    assert transport.unsent == 0
    assert transport.send([bytes(1 << 20)]) == 1 << 18, "at most 256 KiB in one call"


async def test_a_lost_connection_is_told_to_reader_and_writer_with_its_cause() -> None:
    transport = over(Played())
    transport.data_received(b"last")
    transport.connection_lost(ConnectionResetError("reset"))
    assert read(transport) == b"last", "what came before is not lost"
    for fails in (lambda: read(transport), lambda: transport.send([b"x"])):
        with pytest.raises(anyio.BrokenResourceError) as raised:
            fails()
        assert isinstance(raised.value.__cause__, ConnectionResetError)
    with pytest.raises(anyio.BrokenResourceError):
        await transport.wait_writable()
    assert transport.released


async def test_closing_wakes_those_who_wait_and_drops_what_is_held() -> None:
    played = Played(room=0)
    transport = over(played)
    transport.send([b"x"])
    ended: list[str] = []

    async def wait(name: str) -> None:
        with pytest.raises(anyio.ClosedResourceError):
            await getattr(transport, name)()
        ended.append(name)

    async with anyio.create_task_group() as group:
        group.start_soon(wait, "wait_readable")
        group.start_soon(wait, "wait_writable")
        await anyio.wait_all_tasks_blocked()
        transport.close()
        transport.close()
    assert sorted(ended) == ["wait_readable", "wait_writable"]
    assert played.calls == ["abort"], "what asyncio holds would wait for a peer that does not read"


async def test_aclose_waits_for_asyncio_and_aborts_if_it_is_cancelled() -> None:
    played = Played()
    transport = over(played)
    with anyio.move_on_after(0.01):
        await transport.aclose()
    assert played.calls == ["close", "abort"]
    transport.connection_lost(None)
    await transport.aclose()
