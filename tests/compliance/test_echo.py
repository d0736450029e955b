"""The echo server and the echo client for fuzzing suites, as processes, against a small suite of our own."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from pathlib import Path
from random import Random
from urllib.parse import urlsplit

import anyio
import pytest
import websockets.sync.client
from anyio.abc import ByteStream, SocketAttribute

from wsstream.testing import Frame, RawPeer, ping, text
from wsstream.testing import frame as any_frame

HERE = Path(__file__).parent
BACKENDS = ["asyncio", pytest.param("uvloop", marks=pytest.mark.slow), "trio"]
DEFLATE = ("--compression", "--no-context-takeover", "--peer-window-bits", "10")
TIME_LIMIT = 20  # seconds; what takes longer hangs
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30
BLOCK = Random(7).randbytes(64 * KIB)
NO_MASK = bytes(4)  # a masking key that changes nothing, so that a client can send BLOCK as it is

Case = Callable[[RawPeer], Awaitable[object]]


def command(script: str, *arguments: str) -> list[str]:
    return [sys.executable, "-W", "error", str(HERE / script), *arguments]


# -- what both roles have to pass: each plays the suite's side against an endpoint that echoes -----


async def echoed_as_it_arrives(peer: RawPeer) -> None:
    await peer.text("first, ", fin=False)
    assert await next_unmasked(peer) == Frame(1, b"first, ", fin=False)
    await peer.continuation("second")
    assert await rest_of_message(peer) == b"second"
    await peer.close(1000)
    assert await ending(peer) == (1000, [])


async def a_violation_after_messages(peer: RawPeer) -> None:
    """All in one segment: the messages come back whole, then the connection fails."""
    messages = text("one", mask=peer.mask) + text("two", mask=peer.mask)
    await peer.send(messages + any_frame(3, mask=peer.mask) + ping(mask=peer.mask))
    assert await ending(peer) == (1002, [Frame(1, b"one"), Frame(1, b"two")])


async def a_lost_connection(peer: RawPeer) -> None:
    await peer.text("unfinished", declared_length=1000)


# What the library itself does with frames is in rfc6455; here the scripts are to echo and to survive.
CASES: list[Case] = [echoed_as_it_arrives, a_violation_after_messages, a_lost_connection]


async def next_unmasked(peer: RawPeer) -> Frame:
    """The next frame, as if it were not masked."""
    frame = await peer.read_frame()
    return Frame(frame.opcode, frame.payload, fin=frame.fin, rsv1=frame.rsv1)


async def rest_of_message(peer: RawPeer) -> bytes:
    payload = b""
    while True:
        frame = await peer.read_frame()
        payload += frame.payload
        if frame.fin:
            return payload


async def ending(peer: RawPeer) -> tuple[int, list[Frame]]:
    """The code of the Close frame, which is the last, and the frames before it."""
    frames = []
    while (frame := await next_unmasked(peer)).opcode != 8:
        frames.append(frame)
    if peer.role == "server":
        await peer.aclose()  # section 7.1.1: the server closes TCP
    else:
        assert await peer.read_to_end() == []
    return int.from_bytes(frame.payload[:2]), frames


# -- the server ------------------------------------------------------------------------------------


class EchoServers:
    """One process for each set of options, which all its tests share."""

    def __init__(self, processes: ExitStack) -> None:
        self._processes = processes
        self._running: dict[tuple[str, ...], tuple[str, int]] = {}

    def url(self, *options: str) -> str:
        return self._started(options)[0]

    def pid(self, *options: str) -> int:
        return self._started(options)[1]

    def _started(self, options: tuple[str, ...]) -> tuple[str, int]:
        if options not in self._running:
            process = subprocess.Popen(
                command("echo_server.py", "--port", "0", *options),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            self._processes.callback(end, process)
            assert process.stdout is not None
            assert process.stderr is not None
            line = process.stdout.readline()
            assert line.startswith("listening on "), process.stderr.read()
            self._running[options] = line.split()[-1], process.pid
        return self._running[options]


def end(process: subprocess.Popen[str]) -> None:
    process.terminate()
    _, errors = process.communicate(timeout=TIME_LIMIT)
    assert errors == ""


@pytest.fixture(scope="module")
def servers() -> Iterator[EchoServers]:
    with ExitStack() as processes:
        yield EchoServers(processes)


async def raw_client(url: str, mask: bytes = b"\x12\x34\x56\x78") -> RawPeer:
    address = urlsplit(url)
    stream = await anyio.connect_tcp(str(address.hostname), address.port or 0)
    return await RawPeer.as_client(stream, mask=mask)


@pytest.mark.heavy
@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("options", [(), DEFLATE], ids=["plain", "deflate"])
def test_the_server_sends_back_what_another_library_sends(
    servers: EchoServers, backend: str, options: tuple[str, ...]
) -> None:
    compression = "deflate" if options else None
    messages: list[str | bytes] = ["", b"", "hëllo", bytes(range(256)), "streamed " * 30_000, bytes(300_000)]
    with websockets.sync.client.connect(
        servers.url("--backend", backend, *options), compression=compression, max_size=None
    ) as ws:
        assert ws.response is not None
        agreed = ws.response.headers.get("Sec-WebSocket-Extensions", "")
        wanted = "permessage-deflate; server_no_context_takeover; client_max_window_bits=10"
        assert agreed == (wanted if options else "")
        for message in messages:
            ws.send(message)
            assert ws.recv(TIME_LIMIT) == message
        ws.send(["in ", "several ", "fragments"])
        assert ws.recv(TIME_LIMIT) == "in several fragments"


@pytest.mark.anyio
@pytest.mark.parametrize("case", CASES, ids=lambda case: case.__name__)
async def test_the_server_passes(servers: EchoServers, anyio_backend: str, case: Case) -> None:
    url = servers.url("--backend", anyio_backend)
    with anyio.fail_after(TIME_LIMIT):
        async with await raw_client(url) as peer:
            await case(peer)


# -- the client ------------------------------------------------------------------------------------


class Suite:
    """A suite in the role of the server. A case that is ``bytes`` is its answer to the opening handshake."""

    def __init__(self, cases: Sequence[Case | bytes]) -> None:
        self.requests: list[str] = []
        self.failures: list[tuple[int, Exception]] = []
        self._cases = cases

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[str]:
        listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
        async with listener, anyio.create_task_group() as tasks:
            tasks.start_soon(listener.serve, self._answer)
            yield f"ws://127.0.0.1:{listener.extra(SocketAttribute.local_port)}"
            tasks.cancel_scope.cancel()

    async def _answer(self, stream: ByteStream) -> None:
        number = len(self.requests)
        case = self._cases[number - 1] if 0 < number <= len(self._cases) else None
        if isinstance(case, bytes):
            self.requests.append("")
            await stream.receive()
            await stream.send(case)
            await stream.aclose()
            return
        async with await RawPeer.as_server(stream) as peer:
            self.requests.append(peer.head.split()[1].decode())
            if case is not None:
                await self._run(number, case, peer)
                return
            if number == 0:
                await peer.text(str(len(self._cases)))
            await peer.close(1000)
            assert await ending(peer) == (1000, [])

    async def _run(self, number: int, case: Case, peer: RawPeer) -> None:
        try:
            await case(peer)
        except Exception as error:
            self.failures.append((number, error))


async def run_client(*arguments: str) -> subprocess.CompletedProcess[bytes]:
    with anyio.fail_after(TIME_LIMIT):
        return await anyio.run_process(command("echo_client.py", *arguments), check=False)


REJECTED = b"HTTP/1.1 500 Internal Server Error\r\nContent-Length: 0\r\n\r\n"
NOT_HTTP = b"SSH-2.0-OpenSSH\r\n"


@pytest.mark.heavy
@pytest.mark.anyio
async def test_the_client_runs_every_case_and_passes(anyio_backend: str) -> None:
    suite = Suite([REJECTED, NOT_HTTP, b"", *CASES])
    async with suite.listen() as url:
        done = await run_client(f"{url}/", "--agent", "wsstream & co/2", "--backend", anyio_backend)
    assert suite.failures == []
    agent, count = "agent=wsstream%20%26%20co%2F2", 3 + len(CASES)
    assert suite.requests == [
        "/getCaseCount",
        *("", "", ""),
        *(f"/runCase?case={number}&{agent}" for number in range(4, count + 1)),
        f"/updateReports?{agent}",
    ]
    assert (done.returncode, done.stderr) == (0, b"")
    assert re.findall(rb"^(\d+)/(\d+): \w+", done.stdout, re.MULTILINE) == [
        (b"%d" % number, b"%d" % count) for number in range(1, count + 1)
    ]


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_case_that_never_ends_is_left_and_the_run_goes_on(anyio_backend: str) -> None:
    async def silence(peer: RawPeer) -> None:
        with suppress(anyio.EndOfStream, anyio.BrokenResourceError):
            while True:
                await peer.stream.receive()

    suite = Suite([silence, echoed_as_it_arrives])
    async with suite.listen() as url:
        done = await run_client(url, "--backend", anyio_backend, "--time-limit", "0.3")
    assert suite.failures == []
    paths = [request.partition("?")[0] for request in suite.requests]
    assert paths == ["/getCaseCount", "/runCase", "/runCase", "/updateReports"]
    assert done.returncode == 1
    assert done.stdout.startswith(b"1/2: not over in time\n2/2: CloseInfo(code=1000")


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_suite_that_is_not_there_is_reported_without_a_traceback(anyio_backend: str) -> None:
    listener = await anyio.create_tcp_listener(local_host="127.0.0.1")
    port = listener.extra(SocketAttribute.local_port)
    await listener.aclose()
    done = await run_client(f"ws://127.0.0.1:{port}", "--backend", anyio_backend)
    assert (done.returncode, done.stdout) == (1, b"")
    assert re.fullmatch(rb"the suite does not answer as it should: \w+: .+\n", done.stderr), done.stderr


def test_pure_is_set_before_anything_of_the_library_is_imported() -> None:
    program = f"""
import os, sys
sys.path.insert(0, {str(HERE)!r})
from echo_mode import parser, run
async def main(arguments):
    return 7 if os.environ.get("WSSTREAM_PURE") == "1" and "wsstream" not in sys.modules else 8
sys.exit(run(main, parser("").parse_args(["--pure"])))
"""
    done = subprocess.run([sys.executable, "-c", program], timeout=TIME_LIMIT, check=False)
    assert done.returncode == 7


# -- memory ----------------------------------------------------------------------------------------


async def warm_up(peer: RawPeer) -> None:
    for _ in range(100):
        await peer.binary(BLOCK)
        await rest_of_message(peer)


async def echo_one_frame(peer: RawPeer, size: int) -> None:
    """A message of `size` bytes in one frame, every byte of which has to come back."""
    sent, received = hashlib.sha256(), hashlib.sha256()

    async def send() -> None:
        await peer.binary(BLOCK, declared_length=size)
        sent.update(BLOCK)
        for _ in range(size // len(BLOCK) - 1):
            await peer.send(BLOCK)
            sent.update(BLOCK)

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(send)
        while True:
            frame = await peer.read_frame()
            received.update(frame.payload)
            if frame.fin:
                break
    assert received.digest() == sent.digest()


def peak_memory(pid: int) -> int:
    """Bytes, since the process began."""
    status = Path(f"/proc/{pid}/status")
    if not status.exists():
        pytest.skip("the peak of another process's memory is read from /proc")
    match = re.search(r"VmHWM:\s+(\d+) kB", status.read_text())
    assert match is not None
    return int(match[1]) * KIB


@pytest.mark.slow
@pytest.mark.anyio
async def test_a_gibibyte_goes_through_the_server_in_constant_memory(
    servers: EchoServers, anyio_backend: str
) -> None:
    options = ("--backend", anyio_backend)
    async with await raw_client(servers.url(*options), NO_MASK) as peer:
        await warm_up(peer)
        before = peak_memory(servers.pid(*options))
        await echo_one_frame(peer, GIB)
        assert peak_memory(servers.pid(*options)) - before < 4 * MIB
