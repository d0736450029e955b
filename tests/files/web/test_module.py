"""wsstream-files.js in Node, against the server of files and against servers that break the protocol."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import time
from collections.abc import Awaitable, Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.programs import find_program

import wsstream
from wsstream import WebSocketStream
from wsstream.files import SUBPROTOCOL, Progress
from wsstream.files.protocol.digests import new_digest
from wsstream.files.storage.partial import Partial

HERE = Path(__file__).parent
MODULE = files("wsstream.files.web").joinpath("static")
KIB, MIB = 1024, 1024 * 1024
CONTENT = os.urandom(1009) * 6000  # nearly 6 MiB
TIME_LIMIT = 30  # seconds

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.slow,
    pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True),  # Node is what is tested here
]

Node = Callable[..., Awaitable[Any]]


@pytest.fixture
def node() -> Node:
    """``await node(url, code)``: run `code` with the module in Node; return what it returns."""
    program = find_program("node")
    if not (HERE.parents[1] / "interop" / "node_modules" / "ws").is_dir():
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(
            "the package ws is not installed: npm ci --prefix tests/interop"
        )

    async def run(url: str, code: str, *flags: str, **options: Any) -> Any:
        command = [
            program,
            *flags,
            str(HERE / "runner.mjs"),
            str(MODULE),
            url,
            json.dumps(options),
            code,
        ]
        with anyio.fail_after(TIME_LIMIT):
            done = await anyio.run_process(command, check=False, stderr=subprocess.PIPE)
        assert done.returncode == 0, done.stderr.decode()
        return json.loads(done.stdout)

    return run


@pytest.fixture
def slow_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each chunk takes longer than the time between two reports of progress."""
    write = Partial.write

    def write_slowly(self: Partial, chunks: Any) -> None:
        for chunk in chunks:
            time.sleep(0.06)
            write(self, [chunk])

    monkeypatch.setattr(Partial, "write", write_slowly)


def tree(data: bytes) -> str:
    digest = new_digest("sha256-tree")
    digest.update(data)
    return digest.hexdigest()


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".lock"))


class Cut:
    """Breaks the connections once so many bytes are through."""

    def __init__(self, *at: int) -> None:
        self.began: list[int] = []  # where each attempt began
        self._at = list(at)

    def __call__(self, ws: WebSocketStream, progress: Progress) -> None:
        if progress.phase in ("sending", "receiving") and progress.window:
            if not self.began or self.began[-1] != progress.resumed_at:
                self.began.append(progress.resumed_at)
            if self._at and progress.acknowledged >= self._at[0]:
                self._at.pop(0)
                ws.abort()


# -- whole files -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 1, 256 * KIB, 256 * KIB + 1, len(CONTENT)])
async def test_a_file_goes_up_and_down(
    node: Node, serving: Any, folder: Path, tmp_path: Path, size: int
) -> None:
    data = CONTENT[:size]
    (tmp_path / "a.bin").write_bytes(data)
    code = f"""
        const up = await files.upload(open({str(tmp_path / "a.bin")!r})).result;
        const to = sink();
        const down = await files.download("a.bin", to).result;
        return {{ up, down, size: to.size, sha256: to.sha256(), closed: to.closed }};
    """
    async with serving() as server:
        said = await node(server.url, code)
    expected = {"name": "a.bin", "size": size, "digest": tree(data), "hash": "sha256-tree"}
    assert said["up"] == said["down"] == expected
    assert (said["size"], said["sha256"], said["closed"]) == (size, sha256(data), True)
    assert (folder / "a.bin").read_bytes() == data
    assert (folder / "a.bin").stat().st_mtime == 1.7e9


async def test_nodes_own_websocket_carries_a_file(node: Node, serving: Any, folder: Path, path: Path) -> None:
    async with serving() as server:
        code = f"return files.upload(open({str(path)!r})).result"
        said = await node(server.url, code, "--experimental-websocket")
    assert said["digest"] == tree(CONTENT)
    assert (folder / "file.bin").read_bytes() == CONTENT


async def test_several_files_wait_for_each_other_and_show_in_the_list(
    node: Node, serving: Any, folder: Path, path: Path
) -> None:
    code = f"""
        const file = {str(path)!r};
        const made = ["1.bin", "2.bin", "3.bin"].map((name) => files.upload(open(file, name)).result);
        const results = await Promise.all(made);
        const listed = [];
        for await (const entry of files.list()) listed.push(entry);
        return {{ names: results.map(({{ name }}) => name), listed, operations: await files.operations() }};
    """
    async with serving() as server:
        said = await node(server.url, code)
    assert said["names"] == ["1.bin", "2.bin", "3.bin"]
    assert [(entry["name"], entry["size"]) for entry in said["listed"]] == [
        (f"{n}.bin", len(CONTENT)) for n in (1, 2, 3)
    ]
    assert said["operations"] == ["get", "list", "put"]


async def test_a_folder_of_several_pages_is_listed(node: Node, serving: Any, folder: Path) -> None:
    (folder / "sub").mkdir()
    for number in range(230):
        (folder / "sub" / f"{number:03}").touch()
    code = "let n = 0; for await (const entry of files.list('sub')) n += Number(entry.name) + 1; return n"
    async with serving() as server:
        assert await node(server.url, code) == sum(range(231))


async def test_progress_shows_credit_and_what_waits(node: Node, serving: Any, path: Path) -> None:
    code = f"""
        const seen = [];
        const onProgress = (progress) => seen.push(progress);
        await files.upload(open({str(path)!r}), {{ onProgress }}).result;
        return seen;
    """
    async with serving() as server:
        seen = await node(server.url, code)
    phases = [progress["phase"] for progress in seen]
    assert list(dict.fromkeys(phases)) == ["connecting", "waiting", "sending", "verifying", "done"]
    assert all(progress["inFlight"] <= max(progress["window"], 8 * MIB) for progress in seen)
    assert seen[-1]["acknowledged"] == len(CONTENT)


async def test_sha256_in_script_is_sha256() -> None:
    program = find_program("node")
    code = f"""
        const {{ sha256InScript }} = await import("file://{MODULE}/wsstream-digest.js");
        const {"{ createHash }"} = await import("node:crypto");
        for (const size of [0, 1, 55, 56, 63, 64, 65, 119, 120, 128, 1000, 262145]) {{
            const bytes = new Uint8Array(size).map((_, i) => i * 7);
            const [ours, theirs] = [sha256InScript(bytes), createHash("sha256").update(bytes).digest()];
            if (Buffer.compare(ours, theirs)) throw new Error(`differs at ${{size}}`);
        }}
    """
    with anyio.fail_after(TIME_LIMIT):
        await anyio.run_process([program, "--input-type=module", "-e", code])


# -- connections that are lost -----------------------------------------------------------------------


@pytest.mark.usefixtures("slow_disk")
async def test_an_upload_goes_on_where_the_servers_disk_has_it(
    node: Node, serving: Any, folder: Path, path: Path
) -> None:
    cut = Cut(2 * MIB, 4 * MIB)
    code = f"""
        const tokens = new Set();
        const onToken = (token) => tokens.add(token);
        const {{ digest }} = await files.upload(open({str(path)!r}), {{ onToken }}).result;
        return {{ digest, tokens: tokens.size }};
    """
    async with serving(on_progress=cut) as server:
        said = await node(server.url, code)
    assert said == {"digest": tree(CONTENT), "tokens": 1}
    assert (folder / "file.bin").read_bytes() == CONTENT
    assert len(cut.began) == 3
    assert 0 == cut.began[0] < MIB < cut.began[1] < cut.began[2]


async def test_a_download_goes_on_where_the_sink_has_it(node: Node, serving: Any, folder: Path) -> None:
    content = CONTENT * 2
    (folder / "a.bin").write_bytes(content)
    cut = Cut(2 * MIB, 4 * MIB)
    code = """
        const to = sink(20);
        const { digest } = await files.download("a.bin", to).result;
        return { digest, sha256: to.sha256(), restarts: to.restarts, closed: to.closed };
    """
    async with serving(on_progress=cut) as server:
        said = await node(server.url, code)
    assert said == {"digest": tree(content), "sha256": sha256(content), "restarts": 0, "closed": True}
    assert len(cut.began) == 3
    assert 0 == cut.began[0] < MIB < cut.began[1] < cut.began[2]


async def test_a_download_begins_again_if_the_file_is_another_one_by_then(
    node: Node, serving: Any, folder: Path
) -> None:
    (folder / "a.bin").write_bytes(CONTENT)
    other = CONTENT[::-1]

    class Replace(Cut):
        def __call__(self, ws: WebSocketStream, progress: Progress) -> None:
            super().__call__(ws, progress)
            if not self._at and (folder / "a.bin").read_bytes() == CONTENT:
                (folder / "new").write_bytes(other)
                (folder / "new").replace(folder / "a.bin")

    code = """
        const to = sink(20);
        await files.download("a.bin", to).result;
        return { restarts: to.restarts, sha256: to.sha256() };
    """
    async with serving(on_progress=Replace(3 * MIB)) as server:
        assert await node(server.url, code) == {"restarts": 1, "sha256": sha256(other)}


@pytest.mark.usefixtures("slow_disk")
async def test_an_upload_of_another_content_by_the_same_date_starts_at_0(
    node: Node, serving: Any, folder: Path, path: Path, tmp_path: Path
) -> None:
    """The part is of the first file; the server's check shows that."""
    other = tmp_path / "other.bin"
    other.write_bytes(CONTENT[::-1])
    first = f"return failure(files.upload(open({str(path)!r}), {{ retries: 0 }}).result)"
    second = f"return files.upload(open({str(other)!r}, 'file.bin')).result"
    cut = Cut(3 * MIB)
    async with serving(on_progress=cut) as server:
        assert (await node(server.url, first, retries=0))["error"] == "lost"
        said = await node(server.url, second)
    assert said["digest"] == tree(CONTENT[::-1])
    assert (folder / "file.bin").read_bytes() == CONTENT[::-1]


async def test_a_server_that_says_goodbye_is_asked_again_on_another_connection(node: Node) -> None:
    connections = 0

    async def handler(ws: WebSocketStream) -> None:
        nonlocal connections
        connections += 1
        await ws.send(json.dumps(HELLO))
        await ws.receive()
        request = json.loads(await ws.receive())
        await ws.send(json.dumps({"t": "bye", "reason": "", "reconnect_ms": 1}))
        await ws.send(json.dumps({"t": "entries", "id": request["id"], "entries": []}))
        await ws.wait_closed()

    async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        code = "await files.list().next(); await files.list().next(); return 'listed'"
        assert await node(server.url, code) == "listed"
    assert connections == 2


# -- cancelled, paused -------------------------------------------------------------------------------


@pytest.mark.usefixtures("slow_disk")
async def test_a_cancelled_upload_leaves_nothing_and_the_connection_goes_on(
    node: Node, serving: Any, folder: Path, path: Path
) -> None:
    code = f"""
        const onProgress = (progress) => progress.acknowledged > 1e6 && transfer.cancel();
        const big = new File([open({str(path)!r}), open({str(path)!r}), open({str(path)!r})], "big.bin");
        const transfer = files.upload(big, {{ onProgress }});
        const first = await failure(transfer.result);
        return [first, (await files.upload(open({str(path)!r})).result).digest];
    """
    connections = set()
    async with serving(on_progress=lambda ws, progress: connections.add(ws.id)) as server:
        first, second = await node(server.url, code)
    assert first["error"] == "cancelled"
    assert second == tree(CONTENT)
    assert names(folder) == ["file.bin"]
    assert len(connections) == 1


async def test_a_cancelled_download_is_read_to_its_end_and_the_connection_goes_on(
    node: Node, serving: Any, folder: Path
) -> None:
    (folder / "a.bin").write_bytes(CONTENT)
    (folder / "b.bin").write_bytes(b"b")
    code = """
        const to = sink(20);
        const onProgress = (progress) => progress.acknowledged > 1e6 && transfer.cancel();
        const transfer = files.download("a.bin", to, { onProgress });
        const first = await failure(transfer.result);
        return [first.error, to.discarded, to.closed, (await files.download("b.bin", sink()).result).digest];
    """
    connections = set()
    async with serving(on_progress=lambda ws, progress: connections.add(ws.id)) as server:
        assert await node(server.url, code) == ["cancelled", True, False, tree(b"b")]
    assert len(connections) == 1


async def test_a_paused_transfer_moves_nothing_but_stays(
    node: Node, serving: Any, folder: Path, path: Path
) -> None:
    code = f"""
        const up = files.upload(open({str(path)!r}));
        up.pause();
        await sleep(700);
        const before = up.progress;
        up.resume();
        const {{ digest }} = await up.result;
        return [before.phase, before.acknowledged, digest];
    """
    async with serving() as server:
        assert await node(server.url, code) == ["paused", 0, tree(CONTENT)]


async def test_a_slow_sink_slows_the_server(node: Node, serving: Any, folder: Path) -> None:
    (folder / "a.bin").write_bytes(CONTENT * 3)
    most = 0

    def watch(ws: WebSocketStream, progress: Progress) -> None:
        nonlocal most
        most = max(most, progress.credit_used)

    code = """
        const to = sink(20);
        let most = 0;
        const onProgress = ({ inFlight }) => (most = Math.max(most, inFlight));
        await files.download("a.bin", to, { onProgress }).result;
        return [most, to.sha256()];
    """
    async with serving(on_progress=watch) as server:
        waited, digest = await node(server.url, code, maxInFlight=1 << 20)
    assert digest == sha256(CONTENT * 3)
    assert 0 < waited <= MIB
    assert 0 < most <= MIB


# -- errors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "code", "error"),
    [
        ({}, "files.upload(open(path, 'there.bin')).result", "exists"),
        ({"allow": ("get", "list")}, "files.upload(open(path)).result", "denied"),
        ({"allow": ("put",)}, "files.download('there.bin', sink()).result", "denied"),
        ({"allow": ("put",)}, "files.list().next()", "denied"),
        ({}, "files.upload(open(path, '../a.bin')).result", "invalid-name"),
        ({}, "files.download('nothing.bin', sink()).result", "not-found"),
        ({}, "files.list('nothing').next()", "not-found"),
        ({"max_size": 1000}, "files.upload(open(path)).result", "too-large"),
        ({"quota": 1000}, "files.upload(open(path)).result", "quota"),
    ],
)
async def test_what_the_server_refuses_is_told_by_name(
    node: Node, serving: Any, folder: Path, path: Path, options: dict[str, Any], code: str, error: str
) -> None:
    (folder / "there.bin").write_bytes(b"other")
    async with serving(**options) as server:
        said = await node(server.url, f"const path = {str(path)!r}; return failure({code})")
    assert (said["error"], said["retry"]) == (error, "never")


async def test_a_sink_that_fails_ends_the_download(node: Node, serving: Any, folder: Path) -> None:
    (folder / "a.bin").write_bytes(CONTENT)
    code = """
        const to = { ...sink(), write() { throw new Error("no disk") }, discard() {} };
        return [await failure(files.download("a.bin", to).result), (await files.list().next()).value.name];
    """
    async with serving() as server:
        said, listed = await node(server.url, code)
    assert said == {"error": "io", "reason": "no disk", "retry": "never"}
    assert listed == "a.bin"


async def test_a_server_that_is_not_there_is_tried_again_and_given_up(node: Node) -> None:
    code = "return failure(files.operations().then(() => files.list().next()))"
    assert (await node("ws://127.0.0.1:1/", code))["error"] == "lost"
    code = "const t = files.upload(new File(['x'], 'x')); return failure(t.result)"
    assert (await node("ws://127.0.0.1:1/", code, retries=1))["error"] == "lost"


async def test_a_server_without_the_protocol_is_told_so(node: Node) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.wait_closed()

    async with wsstream.serve(handler, "127.0.0.1") as server:
        code = "return failure(files.operations())"
        said = await node(server.url, code)  # `ws` refuses as the standard says
    assert said["error"] == "lost"


# -- servers that break the protocol -----------------------------------------------------------------

HELLO = {
    "t": "hello",
    "v": 1,
    "agent": "test/1",
    "max_segment": 256 * KIB,
    "hashes": ["sha256-tree"],
    "ops": ["get", "list", "put"],
    "max_size": None,
    "resume": True,
}
ACCEPT = {"offset": 0, "hash": "sha256-tree", "window": 512 * KIB, "segment": 256 * KIB, "token": "t"}
OFFER = {"name": "a", "size": 600 * KIB, "mtime": None, "hashes": ["sha256-tree"], "etag": "1"}
UPLOAD = "files.upload(new File([new Uint8Array(3e6)], 'a')).result"
DOWNLOAD = "files.download('a', sink()).result"


@pytest.mark.parametrize(
    ("code", "answers"),
    [
        (UPLOAD, ["not JSON"]),
        (UPLOAD, [{"t": 5}]),
        (UPLOAD, [{"t": "accept", "id": 99, **ACCEPT}]),
        (UPLOAD, [{"t": "accept"}]),
        (UPLOAD, [b"data"]),
        (UPLOAD, [{"t": "accept", "id": 1, **ACCEPT, "offset": 1}]),
        (UPLOAD, [{"t": "accept", "id": 1, **ACCEPT, "offset": 4_000_000}]),
        (UPLOAD, [{"t": "accept", "id": 1, **ACCEPT, "hash": "md5"}]),
        (UPLOAD, [{"t": "accept", "id": 1, **ACCEPT, "window": 5}]),
        (
            UPLOAD,
            [{"t": "accept", "id": 1, **ACCEPT}, {"t": "ack", "id": 1, "written": 2_000_000, "durable": 0}],
        ),
        (UPLOAD, [{"t": "accept", "id": 1, **ACCEPT}, {"t": "ack", "id": 1, "written": -1, "durable": 0}]),
        (
            UPLOAD,
            [
                {
                    "t": "done",
                    "id": 1,
                    "size": 3_000_000,
                    "digest": "0" * 64,
                    "hash": "sha256-tree",
                    "name": "a",
                }
            ],
        ),
        (DOWNLOAD, [b"data"]),
        (DOWNLOAD, [{"t": "offer", "id": 1, **OFFER, "hashes": ["md5"]}]),
        (DOWNLOAD, [{"t": "offer", "id": 1, **OFFER}, b"", b""]),
        (DOWNLOAD, [{"t": "offer", "id": 1, **OFFER}, None, bytes(256 * KIB + 1)]),
        (DOWNLOAD, [{"t": "offer", "id": 1, **OFFER}, None, *[bytes(256 * KIB)] * 3]),
        (DOWNLOAD, [{"t": "ack", "id": 1, "written": 0, "durable": 0}]),
        ("files.list().next()", [{"t": "offer", "id": 1, **OFFER}]),
        ("files.list().next()", [b"data"]),
    ],
)
async def test_a_server_that_breaks_the_protocol_is_told_and_left(
    node: Node, code: str, answers: list[Any]
) -> None:
    heard: list[Any] = []
    ended: list[int | None] = []

    async def handler(ws: WebSocketStream) -> None:
        await ws.send(json.dumps(HELLO))
        await ws.receive()
        heard.append(json.loads(await ws.receive()))
        for answer in answers:
            if answer is None:  # once the client has answered
                await ws.receive()
            else:
                await ws.send(answer if isinstance(answer, str | bytes) else json.dumps(answer))
        try:
            async for message in ws:
                heard.append(json.loads(message) if isinstance(message, str) else None)
        finally:
            ended.append(ws.close_info and ws.close_info.code)

    async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        said = await node(server.url, f"return failure({code})")
    assert (said["error"], said["retry"]) == ("protocol", "never")
    assert [message["code"] for message in heard if message and message["t"] == "error"] == ["protocol"]
    assert ended == [4002]


async def test_a_file_whose_digest_is_wrong_is_never_complete(node: Node) -> None:
    cancels: list[str] = []

    async def handler(ws: WebSocketStream) -> None:
        await ws.send(json.dumps(HELLO))
        async for message in ws:
            said = json.loads(message)
            if said["t"] == "get":
                offer = {**OFFER, "size": 3}
                await ws.send(json.dumps({"t": "offer", "id": said["id"], **offer}))
            elif said["t"] == "accept":
                assert said["offset"] == 0
                await ws.send(b"abc")
                await ws.send(json.dumps({"t": "end", "id": said["id"], "size": 3, "digest": "0" * 64}))
            elif said["t"] == "cancel":
                cancels.append(said["code"])
                abort = {"t": "abort", "id": said["id"], "code": said["code"], "reason": "", "keep": False}
                await ws.send(json.dumps(abort))

    async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        code = """
            const to = sink();
            const { error } = await failure(files.download("a", to).result);
            return [error, to.closed];
        """
        assert await node(server.url, code, retries=2) == ["digest-mismatch", False]
    assert cancels == ["digest-mismatch"] * 3


@pytest.mark.parametrize(
    ("code", "error"), [("unauthorized", "unauthorized"), ("busy", "busy"), ("new", "internal")]
)
async def test_the_error_of_a_connection_is_what_the_page_hears(node: Node, code: str, error: str) -> None:
    async def handler(ws: WebSocketStream) -> None:
        await ws.send(json.dumps({"t": "error", "code": code, "reason": "why", "retry": "never"}))
        ws.begin_close(4401)

    async with wsstream.serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL]) as server:
        said = await node(server.url, "return failure(files.operations())")
    assert said == {"error": error, "reason": "why", "retry": "never"}
