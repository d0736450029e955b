"""`delete`: files of a server, over real sockets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.waiting import until

import wsstream
from wsstream.files import SUBPROTOCOL, Allow, Deny, TransferError, delete, serve_files
from wsstream.files.storage.source import Source

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def refused(call: Any) -> str:
    with pytest.raises(TransferError) as caught:
        await call
    return caught.value.error


async def test_a_file_is_deleted_and_no_other(serving: Any, folder: Path) -> None:
    (folder / "sub").mkdir()
    for name in ("a", "b", "sub/c"):
        (folder / name).write_bytes(b"x")
    async with serving(allow=["delete"]) as server:
        await delete(server.url + "/a")
        await delete(server.url, name="sub/c")
        assert await refused(delete(server.url + "/a")) == "not-found"
    assert sorted(path.name for path in folder.iterdir()) == ["b", "sub"]


async def test_it_is_not_allowed_by_default(folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    handler = serve_files(folder)
    async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        assert await refused(delete(server.url + "/a")) == "denied"
    assert (folder / "a").exists()


async def test_who_decides_is_asked(serving: Any, folder: Path) -> None:
    asked: list[Any] = []

    async def authorize(identity: str | None, op: str, name: str, size: int | None) -> Allow | Deny:
        asked.append((identity, op, name, size))
        return Deny("denied") if name == "a" else Allow("real")

    for name in ("a", "b", "real"):
        (folder / name).write_bytes(b"x")
    async with serving(allow=["delete"], authorize=authorize, identify=lambda ws: "me") as server:
        assert await refused(delete(server.url + "/a")) == "denied"
        await delete(server.url + "/b")
    assert asked == [("me", "delete", "a", None), ("me", "delete", "b", None)]
    assert sorted(path.name for path in folder.iterdir()) == ["a", "b"]


async def test_another_version_stays(serving: Any, folder: Path) -> None:
    path = folder / "a"
    path.write_bytes(b"x")
    with path.open("rb") as file, Source(file.fileno()) as source:
        etag = source.etag
        source.fd = -1
    async with serving(allow=["delete"]) as server:
        assert await refused(delete(server.url + "/a", etag="other")) == "changed"
        assert path.exists()
        await delete(server.url + "/a", etag=etag)
    assert not path.exists()


async def test_what_is_no_file_and_what_is_hidden_stays(serving: Any, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "outside").write_bytes(b"x")
    (folder / "sub").mkdir()
    (folder / "link").symlink_to("../outside")
    (folder / ".wsstream-abc.part").write_bytes(b"x")
    async with serving(allow=["delete"]) as server:
        for name, error in {
            "sub": "denied",
            "link": "denied",
            "../outside": "invalid-name",
            ".wsstream-abc.part": "invalid-name",
            "": "invalid-name",
        }.items():
            assert await refused(delete(server.url, name=name)) == error, name
    assert (tmp_path / "outside").exists()
    assert len(list(folder.iterdir())) == 3


async def test_after_a_lost_answer_a_missing_file_was_deleted(serving: Any, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    attempts = 0

    async with serving(allow=["delete"]) as server:

        async def lose(identity: str | None, op: str, name: str, size: int | None) -> Allow:
            nonlocal attempts
            attempts += 1
            if attempts == 1:
                (folder / "a").unlink()  # as the attempt whose answer is lost does
                for ws in list(losing.connections):
                    ws.abort()
            return Allow()

        handler = serve_files(folder, allow=["delete"], authorize=lose)
        async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as losing:
            await delete(losing.url + "/a", delays=[0.0] * 5)
            assert attempts == 2
            assert await refused(delete(losing.url + "/a", delays=[0.0] * 5)) == "not-found"
        assert server.url


async def test_a_cancelled_call_takes_its_request_back(serving: Any, folder: Path) -> None:
    (folder / "a").write_bytes(b"x")
    begun, decided = anyio.Event(), anyio.Event()

    async def decide(*_: Any) -> Deny:
        begun.set()
        await decided.wait()
        return Deny()

    async with serving(allow=["delete"], authorize=decide) as server:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(delete, server.url + "/a")
            await begun.wait()
            tasks.cancel_scope.cancel()
        decided.set()
        await until(lambda: not server.connections)
    assert (folder / "a").exists()
