"""`send_file` and `receive_file`: either end of an open WebSocket may be the sender."""

from __future__ import annotations

import io
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import anyio.lowlevel
import pytest

import wsstream
from wsstream.files import SUBPROTOCOL, Progress, TransferError, TransferResult, receive_file, send_file
from wsstream.files.channel import Channel, hello
from wsstream.files.protocol.messages import Accept, Done, End, Get, Offer
from wsstream.files.protocol.messages import Progress as Report
from wsstream.files.protocol.states import State
from wsstream.files.storage.safe_root import SafeRoot
from wsstream.testing import connected_pair

MIB = 1024 * 1024
CONTENT = os.urandom(1009) * 2000  # nearly 2 MiB

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]

Pair = tuple[wsstream.WebSocketStream, wsstream.WebSocketStream]


@asynccontextmanager
async def pair() -> AsyncIterator[Pair]:
    """A client and a server that have agreed on the subprotocol."""
    options = {"subprotocols": [SUBPROTOCOL]}
    with anyio.fail_after(30):
        async with connected_pair(client_options=options, server_options=options) as ends:
            yield ends


async def both(*calls: Callable[[], Awaitable[Any]]) -> list[Any]:
    """Make calls at the same time; return what each returned, or the exception that it raised."""
    outcomes: list[Any] = [None] * len(calls)

    async def make(number: int, call: Callable[[], Awaitable[Any]]) -> None:
        try:
            outcomes[number] = await call()
        except Exception as error:
            outcomes[number] = error

    async with anyio.create_task_group() as tasks:
        for number, call in enumerate(calls):
            tasks.start_soon(make, number, call)
    return outcomes


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "received"
    folder.mkdir()
    return folder


@pytest.mark.heavy
@pytest.mark.parametrize("sender", ["client", "server"])
async def test_either_end_sends_one_file_after_the_other(path: Path, folder: Path, sender: str) -> None:
    async with pair() as ends:
        source, sink = ends if sender == "client" else ends[::-1]
        for name in ("1.bin", "2.bin", "3.bin"):
            sent, received = await both(
                lambda name=name: send_file(source, path, name=name), lambda: receive_file(sink, folder)
            )
            assert isinstance(sent, TransferResult)
            assert sent == received
            assert (folder / name).read_bytes() == CONTENT


async def test_both_ends_send_in_turn(path: Path, folder: Path) -> None:
    async with pair() as (client, server):
        await both(lambda: send_file(client, path), lambda: receive_file(server, folder))
        await both(lambda: send_file(server, path, name="back"), lambda: receive_file(client, folder))
    assert (folder / "file.bin").read_bytes() == (folder / "back").read_bytes() == CONTENT


async def test_a_stream_is_sent_as_it_comes(folder: Path) -> None:
    async with pair() as (client, server):
        sent, received = await both(
            lambda: send_file(client, io.BytesIO(CONTENT), name="stream"),
            lambda: receive_file(server, folder),
        )
        assert sent == received
        assert sent.size == len(CONTENT)
    assert (folder / "stream").read_bytes() == CONTENT


async def test_a_stream_needs_a_name(folder: Path) -> None:
    async with pair() as (client, _):
        with pytest.raises(TypeError, match="name must be given"):
            await send_file(client, io.BytesIO(b""))
        with pytest.raises(TypeError, match="path must be a path or a binary file"):
            await send_file(client, 5)  # type: ignore[arg-type]


async def test_what_the_receiver_refuses_leaves_the_connection_usable(path: Path, folder: Path) -> None:
    (folder / "file.bin").write_bytes(b"another")
    async with pair() as (client, server):
        outcomes = await both(lambda: send_file(client, path), lambda: receive_file(server, folder))
        assert [each.error for each in outcomes] == ["exists", "exists"]
        outcomes = await both(
            lambda: send_file(client, path, name="../up"), lambda: receive_file(server, folder)
        )
        assert [each.error for each in outcomes] == ["invalid-name", "invalid-name"]
        outcomes = await both(
            lambda: send_file(client, path, name="large"), lambda: receive_file(server, folder, max_size=MIB)
        )
        assert [each.error for each in outcomes] == ["too-large", "too-large"]
        outcomes = await both(
            lambda: send_file(client, path), lambda: receive_file(server, folder, on_exist="rename")
        )
        assert [each.name for each in outcomes] == ["file (1).bin", "file (1).bin"]


async def test_a_stream_that_grows_too_large_is_cut_off(folder: Path) -> None:
    async with pair() as (client, server):
        outcomes = await both(
            lambda: send_file(client, io.BytesIO(CONTENT), name="stream"),
            lambda: receive_file(server, folder, max_size=MIB),
        )
    assert [each.error for each in outcomes] == ["too-large", "too-large"]
    assert not (folder / "stream").exists()


async def test_a_missing_file_raises_before_anything_is_said(path: Path, folder: Path) -> None:
    async with pair() as (client, server):
        with pytest.raises(TransferError, match="not-found"):
            await send_file(client, path.parent / "none")
        sent, received = await both(lambda: send_file(client, path), lambda: receive_file(server, folder))
        assert sent == received


@pytest.mark.heavy
async def test_a_cancelled_send_ends_the_transfer_and_not_the_connection(path: Path, folder: Path) -> None:
    async with pair() as (client, server):

        async def send() -> None:
            with anyio.CancelScope() as scope:

                def watch(progress: Progress) -> None:
                    if progress.phase == "sending":
                        scope.cancel()

                await send_file(client, path, progress=watch)
            assert scope.cancelled_caught

        _, received = await both(send, lambda: receive_file(server, folder))
        assert isinstance(received, TransferError)
        assert received.error == "cancelled"
        sent, received = await both(lambda: send_file(client, path), lambda: receive_file(server, folder))
        assert sent == received


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="descriptors are looked up in /proc")
@pytest.mark.parametrize("call", ["partial", "check_room"])
async def test_a_receiver_that_is_cancelled_while_it_opens_the_part_leaves_nothing(
    path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    function = getattr(SafeRoot, call)
    scope = anyio.CancelScope()

    def cancelled_meanwhile(self: SafeRoot, *args: Any, **options: Any) -> Any:
        result = function(self, *args, **options)
        anyio.from_thread.run_sync(scope.cancel)
        return result

    monkeypatch.setattr(SafeRoot, call, cancelled_meanwhile)

    async def receive() -> None:
        with scope:
            await receive_file(server, folder)
        server.abort()
        assert scope.cancelled_caught

    async with pair() as (client, server):
        sent, received = await both(lambda: send_file(client, path), receive)
    assert isinstance(sent, TransferError | wsstream.ConnectionClosed)
    assert received is None
    targets = [os.path.realpath(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd")]
    assert [target for target in targets if target.startswith(str(folder))] == []
    assert os.listdir(folder) == []


async def test_without_the_subprotocol_nothing_is_sent(path: Path, folder: Path) -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TransferError, match="unsupported"):
            await send_file(client, path)
        with pytest.raises(TransferError, match="unsupported"):
            await receive_file(server, folder)
        await client.send("still open")
        assert await server.receive() == "still open"


async def test_a_connection_that_ends_raises_at_both_ends(path: Path, folder: Path) -> None:
    async with pair() as (client, server):

        def abort(progress: Progress) -> None:
            client.abort()

        outcomes = await both(
            lambda: send_file(client, path, progress=abort), lambda: receive_file(server, folder)
        )
    assert all(isinstance(each, wsstream.ConnectionClosed) for each in outcomes)


# -- a peer that a test plays ------------------------------------------------------------------------


async def test_a_wrong_digest_is_found_and_nothing_is_kept(folder: Path) -> None:
    async with pair() as (client, server):

        async def lie() -> None:
            channel = Channel(client, hello(), client=True)
            async with channel.run():
                while channel.session.peer is None:
                    await channel.change()
                id = channel.session.next_id
                channel.post(Offer(id, "file", 4, None, ("sha256",), "etag"))
                while not isinstance(await channel.event(), Accept):
                    pass
                assert await channel.send_data(memoryview(b"data"))
                channel.post(End(id, 4, "0" * 64))
                while True:
                    await channel.event()

        outcomes = await both(lie, lambda: receive_file(server, folder))
    assert [each.error for each in outcomes] == ["digest-mismatch", "digest-mismatch"]
    assert not list(folder.iterdir())


@pytest.mark.heavy
async def test_what_this_end_does_not_offer_is_denied(folder: Path, path: Path) -> None:
    async with pair() as (client, server):

        async def ask() -> None:
            channel = Channel(client, hello(), client=True)
            async with channel.run():
                while channel.session.peer is None:
                    await channel.change()
                channel.post(Get(channel.session.next_id, "file"))

        outcome, _ = await both(ask, lambda: receive_within(server, folder))
    assert isinstance(outcome, TransferError)
    assert outcome.error == "denied"


async def receive_within(ws: wsstream.WebSocketStream, folder: Path) -> None:
    with anyio.move_on_after(0.2):
        await receive_file(ws, folder)


@pytest.mark.heavy
async def test_a_flood_of_reports_takes_no_memory(folder: Path) -> None:
    async with pair() as (client, server):
        receiver = Channel(server, hello("put"), client=False)

        async def flood() -> None:
            channel = Channel(client, hello(), client=True)
            async with channel.run():
                while channel.session.peer is None:
                    await channel.change()
                id = channel.session.next_id
                channel.post(Offer(id, "file", 4, None, ("sha256",), "etag"))
                for number in range(500):
                    channel.post(Report(id, "hashing", number, None))
                    if number % 100 == 0:
                        await anyio.lowlevel.checkpoint()
                await anyio.sleep(0.2)

        async def look() -> None:
            async with receiver.run():
                await anyio.sleep(0.5)
                assert len(receiver._events) <= 2, "the offer, and the last report"
                assert receiver.session.state is State.DECIDING

        assert [each for each in await both(flood, look) if each is not None] == []


async def test_a_result_says_what_the_receiver_said(path: Path, folder: Path) -> None:
    async with pair() as (client, server):

        async def read() -> None:
            channel = Channel(server, hello("put"), client=False)
            async with channel.run():
                while not isinstance(offer := await channel.event(), Offer):
                    pass
                channel.post(Accept(offer.id, 0, "sha256", 1 << 20, 1 << 18, "x" * 8))
                end = None
                while end is None:
                    if data := channel.take_data(1 << 20):
                        channel.session.written(sum(map(len, data)), anyio.current_time())
                        channel.notify()
                    elif isinstance(event := channel.take_event(), End):
                        end = event
                    elif event is None:
                        await channel.change()
                channel.post(Done(offer.id, end.size, end.digest, "sha256", "elsewhere", 0))
                await channel.until_idle()
                await anyio.sleep(0.1)

        sent, _ = await both(lambda: send_file(client, path), read)
    assert sent == TransferResult("elsewhere", len(CONTENT), sent.digest, "sha256", len(CONTENT))
