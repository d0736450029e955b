"""`upload` and `download` with `serve_files`, over real sockets."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Awaitable, Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any

import anyio
import blake3
import pytest
from kit.waiting import until

import wsstream
from wsstream.files import (
    SUBPROTOCOL,
    Allow,
    Deny,
    Progress,
    TransferError,
    download,
    receive_file,
    receiver,
    send_file,
    serve_files,
    upload,
)
from wsstream.files.channel import Channel, hello
from wsstream.files.protocol.messages import Get, Offer, Reject
from wsstream.files.storage.partial import Partial
from wsstream.files.transfer import until_ready

KIB, MIB = 1024, 1024 * 1024
CONTENT = os.urandom(1009) * 6000  # nearly 6 MiB

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


def visible(folder: Path) -> set[str]:
    """The files that others see."""
    return {
        path.relative_to(folder).as_posix()
        for path in folder.rglob("*")
        if path.is_file() and not path.name.startswith(".wsstream-")
    }


def parts(folder: Path) -> list[Path]:
    return sorted(folder.rglob(".wsstream-*.part"))


class Cut:
    """Cuts the connection, as a broken line does, each time that so many bytes more are acknowledged."""

    def __init__(self, every: int, times: int) -> None:
        self.offsets: list[int] = []  # where each attempt began
        self._every = every
        self._times = times
        self._cuts = 0
        self._server: wsstream.Server | None = None

    def watch(self, server: wsstream.Server) -> Cut:
        self._server = server
        return self

    def __call__(self, progress: Progress) -> None:
        if progress.phase not in ("sending", "receiving"):
            return
        if not self.offsets or self.offsets[-1] != progress.resumed_at:
            self.offsets.append(progress.resumed_at)
        if len(self.offsets) > self._cuts < self._times and (
            progress.acknowledged >= progress.resumed_at + self._every
        ):
            self._cuts += 1
            assert self._server is not None
            for ws in self._server.connections:
                ws.abort()


# -- whole files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, len(CONTENT)])
async def test_a_file_goes_up_and_down(serving: Any, folder: Path, tmp_path: Path, size: int) -> None:
    (tmp_path / "file.bin").write_bytes(CONTENT[:size])
    async with serving() as server:
        (up,) = await upload(server.url, tmp_path / "file.bin")
        (down,) = await download(server.url, tmp_path / "copy.bin", name="file.bin")
    assert (folder / "file.bin").read_bytes() == CONTENT[:size]
    assert (tmp_path / "copy.bin").read_bytes() == CONTENT[:size]
    assert (up.name, up.size, up.sent) == ("file.bin", size, size)
    assert (down.name, down.size, down.sent) == ("copy.bin", size, size)
    assert up.hash == "blake3"
    assert up.digest == down.digest == blake3.blake3(CONTENT[:size]).hexdigest()
    assert not list(folder.glob(".wsstream-*"))


async def test_mtime_is_kept(serving: Any, folder: Path, path: Path) -> None:
    os.utime(path, (1_600_000_000, 1_600_000_000.25))
    async with serving() as server:
        await upload(server.url, path)
    assert (folder / "file.bin").stat().st_mtime == 1_600_000_000.25


async def test_the_url_names_the_file_or_the_folder(
    serving: Any, folder: Path, path: Path, tmp_path: Path
) -> None:
    async with serving() as server:
        await upload(server.url + "/other%20name", path)
        await upload(server.url + "/below/", path)
        (tmp_path / "back").mkdir()
        await download(server.url + "/below/file.bin", tmp_path / "back")
    assert visible(tmp_path / "back") == {"file.bin"}
    assert visible(folder) == {"other name", "below/file.bin"}


async def test_a_folder_goes_up_and_down(serving: Any, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "a" / "b").mkdir(parents=True)
    for name in ("1.txt", "a/2.txt", "a/b/3.txt"):
        (source / name).write_text(name)
    (source / "link").symlink_to("1.txt")
    (tmp_path / "back").mkdir()
    async with serving() as server:
        up = await upload(server.url, source)
        down = await download(server.url, tmp_path / "back", name="tree/")
    names = {"tree/1.txt", "tree/a/2.txt", "tree/a/b/3.txt"}
    assert {each.name for each in up} == {each.name for each in down} == names
    assert visible(folder) == visible(tmp_path / "back") == names


async def test_several_files_in_one_call(serving: Any, folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("1.txt", "2.txt", "3.txt")]
    for path in paths:
        path.write_text(path.name)
    async with serving() as server:
        results = await upload(server.url, paths)
        with pytest.raises(ValueError, match="must end in / for several files"):
            await upload(server.url + "/name", paths)
    assert [each.name for each in results] == ["1.txt", "2.txt", "3.txt"]
    assert visible(folder) == {"1.txt", "2.txt", "3.txt"}


async def test_progress_tells_of_each_phase(serving: Any, path: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    async with serving() as server:
        await upload(server.url, path, progress=seen.append)
        assert seen[0].phase == "waiting"
        assert {each.phase for each in seen} >= {"waiting", "sending", "verifying", "done"}
        sending = [each for each in seen if each.phase == "sending"]
        assert all(each.credit_used <= each.window for each in sending)
        assert [each.acknowledged for each in sending] == sorted(each.acknowledged for each in sending)
        assert (seen[-1].acknowledged, seen[-1].size, seen[-1].name) == (
            len(CONTENT),
            len(CONTENT),
            "file.bin",
        )
        seen.clear()
        await download(server.url, tmp_path / "copy", name="file.bin", progress=seen.append)
        assert {each.phase for each in seen} >= {"waiting", "receiving", "verifying", "syncing", "done"}


@pytest.mark.heavy
async def test_a_disk_that_writes_in_pieces_may_sync_between_them(
    serving: Any, folder: Path, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then more is durable than the sender knows to be written: it hears of both in their order."""
    monkeypatch.setattr(receiver, "_SYNC_BYTES", 1)
    monkeypatch.setattr(receiver, "_POLL", 0.001)
    write = Partial.write

    def write_in_pieces(self: Partial, chunks: Any) -> None:
        for chunk in chunks:
            write(self, [chunk])
            time.sleep(0.01)

    monkeypatch.setattr(Partial, "write", write_in_pieces)
    seen: list[Progress] = []
    async with serving() as server:
        (result,) = await upload(server.url, path, progress=seen.append, delays=[])
    assert result.sent == len(CONTENT)
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert any(progress.durable for progress in seen[:-1])
    assert all(progress.durable <= progress.acknowledged for progress in seen)


async def test_progress_of_several_files_tells_of_all(serving: Any, folder: Path, tmp_path: Path) -> None:
    source = tmp_path / "tree"
    (source / "sub").mkdir(parents=True)
    sizes = {"a": 0, "sub/b": MIB, "sub/c": 2 * MIB}
    for name, size in sizes.items():
        (source / name).write_bytes(CONTENT[:size])
    (tmp_path / "back").mkdir()
    seen: list[Progress] = []
    async with serving() as server:
        await upload(server.url, source, progress=seen.append)
        up = [each.totals for each in seen]
        seen.clear()
        await download(server.url + "/tree/", tmp_path / "back", progress=seen.append)
        down = [each.totals for each in seen]
        seen.clear()
        (tmp_path / "back" / "tree" / "sub" / "c").unlink()
        again = tmp_path / "back"
        await download(server.url + "/tree/", again, on_exist="skip", progress=seen.append)
        left_out = [each.totals for each in seen]
        seen.clear()
        await upload(server.url, source / "a", name="alone", progress=seen.append)
    assert {each.totals for each in seen} == {None}, "there is one file only"
    for totals in (up, down):
        assert all(each is not None and (each.files, each.size) == (3, 3 * MIB) for each in totals)
        known = [each for each in totals if each is not None]
        assert [each.files_done for each in known] == sorted(each.files_done for each in known)
        assert [each.acknowledged for each in known] == sorted(each.acknowledged for each in known)
        assert (known[-1].files_done, known[-1].acknowledged) == (3, 3 * MIB)
        assert known[-1].seconds_left in (0, None)
    assert left_out[-1] is not None
    assert (left_out[-1].files, left_out[-1].size) == (3, 2 * MIB), "what is left out does not count"
    assert (tmp_path / "back" / "tree" / "sub" / "c").stat().st_size == 2 * MIB


async def test_another_file_than_the_expected_one_is_not_stored(
    serving: Any, folder: Path, tmp_path: Path
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    back = tmp_path / "back"
    back.mkdir()
    async with serving() as server:
        get = partial(download, server.url + "/file.bin", back, delays=[0.0] * 5)
        assert await refused(get(expect="0" * 64)) == "digest-mismatch"
        assert list(back.iterdir()) == []
        await get(expect=sha256(CONTENT).hexdigest())
        (back / "file.bin").unlink()
        await get(expect=blake3.blake3(CONTENT).hexdigest())
        with pytest.raises(ValueError, match="it is the digest of one file"):
            await download(server.url, back, expect="0" * 64)
    assert visible(back) == {"file.bin"}


async def test_a_refused_file_leaves_nothing(serving: Any, folder: Path, path: Path) -> None:
    (folder / "file.bin").write_bytes(b"another")
    async with serving() as server:
        assert await refused(upload(server.url, path)) == "exists"
    assert [entry.name for entry in folder.iterdir()] == ["file.bin"]


@pytest.mark.heavy
@pytest.mark.virtual_time(idle=0.02)
async def test_all_files_of_a_call_share_one_limit(serving: Any, folder: Path, tmp_path: Path) -> None:
    paths = [tmp_path / name for name in ("1", "2", "3")]
    for each in paths:
        each.write_bytes(bytes(200 * KIB))
    async with serving() as server:
        began = anyio.current_time()
        await upload(server.url, paths, limit_rate=300 * KIB)
        assert anyio.current_time() - began >= 1.8
        with pytest.raises(ValueError, match="limit_rate must be at least 1024"):
            await upload(server.url, paths, limit_rate=5)


# -- resumed ones ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy_after_first
async def test_an_upload_goes_on_over_lost_connections(serving: Any, folder: Path, path: Path) -> None:
    cut = Cut(MIB, times=3)
    async with serving() as server:
        (result,) = await upload(server.url, path, progress=cut.watch(server), delays=[0.0] * 9)
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert len(cut.offsets) == 4
    assert cut.offsets == sorted(set(cut.offsets)), "each attempt began where the last one had arrived"
    assert result.sent == len(CONTENT) - cut.offsets[-1]


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy
async def test_a_download_goes_on_over_lost_connections(serving: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    cut = Cut(MIB, times=3)
    async with serving() as server:
        await download(server.url, tmp_path, name="file.bin", progress=cut.watch(server), delays=[0.0] * 9)
    assert (tmp_path / "file.bin").read_bytes() == CONTENT
    assert len(cut.offsets) == 4
    assert cut.offsets == sorted(set(cut.offsets))


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy
async def test_an_upload_goes_on_after_the_server_was_stopped_in_good_order(folder: Path, path: Path) -> None:
    handler = serve_files(folder, allow=["put"])
    begun = anyio.Event()
    results: list[Any] = []

    def watch(progress: Progress) -> None:
        if progress.acknowledged >= MIB:
            begun.set()

    async def send(url: str) -> None:
        results.extend(await upload(url, path, progress=watch, delays=[0.2] * 50))

    with anyio.fail_after(60):
        async with anyio.create_task_group() as tasks:
            async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
                port = server.port
                tasks.start_soon(send, server.url)
                await begun.wait()
            await anyio.sleep(0.3)
            async with wsstream.serve(handler, "127.0.0.1", port, subprotocols=[SUBPROTOCOL]):
                await until(lambda: results)
    assert 0 < results[0].sent <= len(CONTENT) - MIB
    assert (folder / "file.bin").read_bytes() == CONTENT


async def cancelled_at(size: int, call: Callable[..., Awaitable[Any]]) -> None:
    """Make a call, and cancel it when so many bytes are acknowledged."""
    with anyio.CancelScope() as scope:

        def watch(progress: Progress) -> None:
            if progress.acknowledged >= size:
                scope.cancel()

        await call(progress=watch)
    assert scope.cancelled_caught


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy_after_first
async def test_a_cancelled_upload_is_resumed_by_the_next_one(serving: Any, folder: Path, path: Path) -> None:
    async with serving() as server:
        await cancelled_at(MIB, partial(upload, server.url, path))
        await until(lambda: not server.connections)
        assert visible(folder) == set()
        assert len(parts(folder)) == 1
        (result,) = await upload(server.url, path)
    assert 0 < result.sent <= len(CONTENT) - MIB
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert not list(folder.glob(".wsstream-*"))


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy
async def test_a_part_that_differs_is_not_gone_on_with(serving: Any, folder: Path, path: Path) -> None:
    async with serving() as server:
        await cancelled_at(MIB, partial(upload, server.url, path))
        await until(lambda: not server.connections)
        (part,) = parts(folder)
        with part.open("r+b") as file:
            file.seek(-5, os.SEEK_END)
            file.write(b"wrong")
        (result,) = await upload(server.url, path)
    assert result.sent == len(CONTENT)
    assert (folder / "file.bin").read_bytes() == CONTENT


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy
async def test_a_part_that_differs_far_from_its_end_is_found_by_the_digest(
    serving: Any, folder: Path, path: Path
) -> None:
    async with serving() as server:
        await cancelled_at(3 * MIB, partial(upload, server.url, path))
        await until(lambda: not server.connections)
        (part,) = parts(folder)
        with part.open("r+b") as file:
            file.write(b"wrong")
        (result,) = await upload(server.url, path, delays=[0.0] * 3)
    assert result.sent == len(CONTENT), "after the mismatch, all of it was sent again"
    assert (folder / "file.bin").read_bytes() == CONTENT


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy
async def test_a_file_that_changed_is_sent_from_the_start(serving: Any, folder: Path, path: Path) -> None:
    async with serving() as server:
        await cancelled_at(MIB, partial(upload, server.url, path))
        path.write_bytes(CONTENT[::-1])
        (result,) = await upload(server.url, path)
    assert result.sent == len(CONTENT)
    assert (folder / "file.bin").read_bytes() == CONTENT[::-1]


async def test_a_file_that_is_there_is_not_sent_again(serving: Any, folder: Path, path: Path) -> None:
    async with serving() as server:
        await upload(server.url, path)
        (result,) = await upload(server.url, path)
    assert result.sent == 0
    assert result.digest == blake3.blake3(CONTENT).hexdigest()


@pytest.mark.parametrize("size", [0, 1, len(CONTENT)])
async def test_a_file_that_was_received_is_compared_and_not_received_again(
    serving: Any, folder: Path, tmp_path: Path, size: int
) -> None:
    """So a program goes on that was killed between the last file and its own end."""
    (folder / "files").mkdir()
    (folder / "files" / "a").write_bytes(CONTENT[:size])
    async with serving() as server:
        await download(server.url + "/files/", tmp_path)
        (folder / "files" / "b").write_bytes(b"another")
        first, second = await download(server.url + "/files/", tmp_path)
    assert (first.name, first.size, first.sent) == ("files/a", size, 0)
    assert first.digest == blake3.blake3(CONTENT[:size]).hexdigest()
    assert (second.name, second.sent) == ("files/b", 7)
    assert not parts(tmp_path)


@pytest.mark.parametrize("at", [0, len(CONTENT) - 1], ids=["start", "end"])
async def test_another_file_of_the_same_size_is_kept(
    serving: Any, folder: Path, tmp_path: Path, at: int
) -> None:
    (folder / "file").write_bytes(CONTENT)
    mine = bytearray(CONTENT)
    mine[at] ^= 1
    (tmp_path / "file").write_bytes(mine)
    async with serving() as server:
        assert await refused(download(server.url + "/file", tmp_path)) == "exists"
        async with wsstream.connect(server.url, subprotocols=[SUBPROTOCOL]) as ws:
            with pytest.raises(TransferError, match="another file"):
                await receive_file(ws, tmp_path, name="file")
            assert (await receive_file(ws, tmp_path, name="file", on_exist="rename")).name == "file (1)"
    assert (tmp_path / "file").read_bytes() == mine
    assert (tmp_path / "file (1)").read_bytes() == CONTENT


async def test_the_first_connection_must_succeed(path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(ConnectionRefusedError):
        await upload(f"ws://127.0.0.1:{port}/", path)


# -- what is refused -------------------------------------------------------------------------------


async def refused(call: Awaitable[Any]) -> str:
    with pytest.raises(TransferError) as error:
        await call
    return error.value.error


async def test_another_file_of_that_name_is_kept(
    serving: Any, folder: Path, path: Path, tmp_path: Path
) -> None:
    (folder / "file.bin").write_bytes(b"another")
    async with serving() as server:
        assert await refused(upload(server.url, path)) == "exists"
        assert await upload(server.url, path, on_exist="skip") == []
        assert await refused(upload(server.url, path, on_exist="overwrite")) == "exists"
        path.write_bytes(b"mine")
        assert await refused(download(server.url, path, name="file.bin")) == "exists"
        assert await download(server.url, path, name="file.bin", on_exist="skip") == []
        assert path.read_bytes() == b"mine"
        (result,) = await download(server.url, path, name="file.bin", on_exist="rename")
        assert result.name == "file (1).bin"
        await download(server.url, path, name="file.bin", on_exist="overwrite")
        assert path.read_bytes() == b"another"
    assert (folder / "file.bin").read_bytes() == b"another"


async def test_a_server_that_allows_it_replaces_files(serving: Any, folder: Path, path: Path) -> None:
    (folder / "file.bin").write_bytes(b"another")
    async with serving(allow=("put", "overwrite")) as server:
        assert await refused(upload(server.url, path)) == "exists"
        async with wsstream.connect(server.url, subprotocols=[SUBPROTOCOL]) as ws:
            with pytest.raises(TransferError, match="there is a file of that name"):
                await send_file(ws, path, replace=False)
        assert (folder / "file.bin").read_bytes() == b"another"
        await upload(server.url, path, on_exist="overwrite")
    assert (folder / "file.bin").read_bytes() == CONTENT


async def test_a_number_keeps_both_files_and_the_same_call_adds_no_third(
    serving: Any, folder: Path, tmp_path: Path
) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "b.txt").write_bytes(CONTENT)
    (folder / "a").mkdir()
    (folder / "a" / "b.txt").write_bytes(b"another")
    for sent in (len(CONTENT), 0):
        async with serving(allow=("put", "overwrite")) as server:
            (result,) = await upload(server.url, tmp_path / "a", on_exist="rename")
        assert (result.name, result.sent) == ("a/b (1).txt", sent)
        assert visible(folder) == {"a/b.txt", "a/b (1).txt"}
    assert (folder / "a" / "b.txt").read_bytes() == b"another"


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"allow": ("get", "list")}, "denied"),
        ({"max_size": 1000}, "too-large"),
        ({"min_free": 1 << 60}, "no-space"),
        ({"quota": 1000}, "quota"),
    ],
    ids=str,
)
async def test_what_a_server_does_not_take(
    serving: Any, folder: Path, path: Path, options: Any, error: str
) -> None:
    async with serving(**options) as server:
        assert await refused(upload(server.url, path, delays=[])) == error
    assert visible(folder) == set()


async def test_reading_may_be_forbidden(serving: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_bytes(b"x")
    async with serving(allow=("put",)) as server:
        assert await refused(download(server.url, tmp_path / "x", name="file")) == "denied"
        assert await refused(download(server.url, tmp_path, name="")) == "denied"


async def test_the_client_has_a_limit_of_size(serving: Any, folder: Path, tmp_path: Path) -> None:
    (folder / "file").write_bytes(bytes(1001))
    async with serving() as server:
        assert await refused(download(server.url, tmp_path / "x", name="file", max_size=1000)) == "too-large"
        await download(server.url, tmp_path / "x", name="file", max_size=1001)


async def test_authorize_decides(serving: Any, folder: Path, path: Path, tmp_path: Path) -> None:
    asked: list[Any] = []

    async def authorize(identity: str | None, op: str, name: str, size: int | None) -> Allow | Deny:
        asked.append((identity, op, name, size))
        if op == "put":
            return Allow(f"{identity}/{name}")
        return Deny("not-found") if name == "secret" else Allow()

    (folder / "secret").write_bytes(b"x")
    async with serving(authorize=authorize, identify=lambda ws: "me") as server:
        (result,) = await upload(server.url, path)
        assert result.name == "me/file.bin"
        assert await refused(download(server.url, tmp_path / "x", name="secret")) == "not-found"
    assert visible(folder) == {"secret", "me/file.bin"}
    assert asked == [("me", "put", "file.bin", len(CONTENT)), ("me", "get", "secret", None)]


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy_after_first
async def test_nobody_goes_on_with_somebody_elses_part(serving: Any, folder: Path, path: Path) -> None:
    who = iter(["me", "you"])
    async with serving(identify=lambda ws: next(who)) as server:
        await cancelled_at(MIB, partial(upload, server.url, path))
        (result,) = await upload(server.url, path)
    assert result.sent == len(CONTENT)


@pytest.mark.heavy
async def test_the_sum_of_windows_is_bounded(serving: Any, folder: Path, path: Path) -> None:
    windows: list[int] = []

    def watch(ws: Any, progress: Any) -> None:
        windows.append(progress.window)

    async with serving(max_windows=MIB, on_progress=watch) as server, anyio.create_task_group() as tasks:
        for number in range(4):
            tasks.start_soon(partial(upload, server.url, path, name=f"{number}.bin", delays=[0.05] * 200))
    assert visible(folder) == {f"{number}.bin" for number in range(4)}
    assert max(windows) <= MIB


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy_after_first
async def test_the_newest_of_two_uploads_of_one_file_wins(serving: Any, folder: Path, path: Path) -> None:
    outcomes: list[str] = []
    begun = anyio.Event()

    async def first(url: str) -> None:
        def watch(progress: Progress) -> None:
            if progress.acknowledged:
                begun.set()

        async def slowly() -> None:
            await upload(url, path, progress=watch, delays=[])

        try:
            await slowly()
            outcomes.append("done")
        except TransferError as error:
            outcomes.append(error.error)

    async with serving() as server, anyio.create_task_group() as tasks:
        tasks.start_soon(first, server.url)
        await begun.wait()
        await upload(server.url, path)
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert outcomes in (["superseded"], ["done"]), "it was not faster, or it was"


@pytest.mark.usefixtures("slow_disk")
@pytest.mark.heavy_after_first
async def test_a_file_that_changes_while_it_is_sent_is_not_committed(
    serving: Any, folder: Path, path: Path
) -> None:
    def change(progress: Progress) -> None:
        if progress.phase == "sending":
            with path.open("ab") as file:
                file.write(b"more")

    async with serving() as server:
        assert await refused(upload(server.url, path, progress=change, delays=[])) == "changed"
    assert visible(folder) == set()


async def test_a_server_without_the_subprotocol_is_told_apart(path: Path) -> None:
    async def chat(ws: wsstream.WebSocketStream) -> None:
        await ws.wait_closed()

    async with wsstream.serve(chat, "127.0.0.1") as server:
        with pytest.raises(wsstream.HandshakeError, match="none of the subprotocols"):
            await upload(server.url, path)


# -- a hostile client ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    ["", "[]", "{}", '{"t":"hello"}', '{"t":"ack","id":1,"written":0,"durable":0}', b"data", "x" * 300_000],
    ids=lambda message: repr(message[:12]),
)
async def test_what_breaks_the_protocol_ends_the_connection(serving: Any, message: str | bytes) -> None:
    async with serving() as server, wsstream.connect(server.url, subprotocols=[SUBPROTOCOL]) as ws:
        await ws.send(message)
        assert '"t":"hello"' in str(await ws.receive()).replace(" ", "")
        assert '"code":"protocol"' in str(await ws.receive()).replace(" ", "")
        with pytest.raises(wsstream.ConnectionClosed):
            await ws.receive()
        assert ws.close_info is not None
        assert ws.close_info.code == 1002


async def test_a_request_right_after_one_that_the_client_ended_is_answered(
    serving: Any, folder: Path
) -> None:
    (folder / "file.bin").write_bytes(CONTENT)
    async with serving() as server, wsstream.connect(server.url, subprotocols=[SUBPROTOCOL]) as ws:
        channel = Channel(ws, hello(), client=True)
        async with channel.run():
            await until_ready(channel)
            for id in (1, 3, 5):
                channel.post(Get(id, "file.bin"))
                offer = await channel.event()
                assert isinstance(offer, Offer)
                assert offer.id == id
                channel.post(Reject(id, "exists", "", "never"))


async def test_a_server_refuses_clients_without_the_subprotocol(serving: Any) -> None:
    async with serving() as server, wsstream.connect(server.url) as ws:
        with pytest.raises(wsstream.ConnectionClosed) as closed:
            await ws.receive()
        assert closed.value.info.code == 4501


@pytest.mark.parametrize(
    "options",
    [
        {"allow": ("everything",)},
        {"max_size": -1},
        {"max_windows": 1},
        {"authorize": 5},
    ],
    ids=str,
)
def test_wrong_options_are_refused(folder: Path, options: Any) -> None:
    with pytest.raises((TypeError, ValueError), match="must"):
        serve_files(folder, **options)


def test_a_missing_folder_is_refused(folder: Path) -> None:
    with pytest.raises(TransferError, match="not-found"):
        serve_files(folder / "none")
