"""How fast programs bring a whole file over: ``python tests/bench/transfers.py [--size 1G] [--rounds N]``.

Each program sends one file of random bytes over the loopback interface, from one process to another one, with
a digest computed at both ends, and leaves it on the disk. The time goes from the start of the sender to its
end, when it knows that the file is there. A file of one byte is sent, too: what that takes is the start of
the programs and their agreeing, and the rate is that of the rest. Each begins once all that earlier ones left
is written: wsstream waits until its file is on the disk, the others leave theirs to the system.

magic-wormhole runs with servers of its own, and needs a virtual environment of its own::

    python -m venv VENV
    VENV/bin/pip install magic-wormhole magic-wormhole-mailbox-server magic-wormhole-transit-relay
    python tests/bench/transfers.py --wormhole VENV
"""

from __future__ import annotations

import argparse
import asyncio  # noqa: TID251 - this API of websockets is asyncio's
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

from tables import markdown

from wsstream.cli.options.values import size

MIB = 1 << 20
BLOCK = MIB  # bytes that the loop of websockets reads, hashes and sends at a time


class Sample(NamedTuple):
    """One transfer: seconds, CPU seconds of both processes, and the most memory that one of them had."""

    seconds: float
    cpu: float
    peak: int


Command = list[str]
Receiver = subprocess.Popen[str]


class Pair(NamedTuple):
    """The receiver's command; the sender's, once the receiver runs; whether the receiver must be stopped."""

    receive: Command
    send: Callable[[Receiver], Command]
    serves: bool = True


Start = Callable[[Path, Path], Pair]
"""From the file, and the folder where it goes."""


# -- wsstream --------------------------------------------------------------------------------------


def wsstream_on(backend: str) -> Start:
    program = [sys.executable, "-m", "wsstream"]

    def start(file: Path, folder: Path) -> Pair:
        common = ["--backend", backend]
        serve = [*program, "serve", "files", str(folder), "--bind", "127.0.0.1:0", "--allow", "put", *common]

        def send(receiver: Receiver) -> Command:
            assert receiver.stderr is not None
            url = receiver.stderr.readline().split()[-1]
            return [*program, "send", str(file), url, "-q", *common]

        return Pair(serve, send)

    return start


# -- a plain loop over websockets ------------------------------------------------------------------


def websockets_loop(file: Path, folder: Path) -> Pair:
    program = [sys.executable, __file__]

    def send(receiver: Receiver) -> Command:
        assert receiver.stderr is not None
        return [*program, "--send", str(file), receiver.stderr.readline().strip()]

    return Pair([*program, "--receive", str(folder / file.name)], send)


async def receive_by_loop(path: str) -> None:
    """Serve for ever: write what comes, hash it, and answer with the digest when it is on the disk."""
    from websockets.asyncio.server import serve

    async def handle(ws: Any) -> None:
        digest = hashlib.sha256()
        with Path(path).open("wb", buffering=0) as file:
            async for message in ws:
                if isinstance(message, str):
                    os.fsync(file.fileno())
                    await ws.send(digest.hexdigest())
                    return
                digest.update(message)
                file.write(message)

    async with serve(handle, "127.0.0.1", 0, compression=None, max_size=None) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"ws://127.0.0.1:{port}/", file=sys.stderr, flush=True)
        await server.serve_forever()


async def send_by_loop(path: str, url: str) -> None:
    """Send a file in messages of a block, and compare the digests at the end."""
    from websockets.asyncio.client import connect

    digest = hashlib.sha256()
    async with connect(url, compression=None, max_size=None, proxy=None) as ws:
        with Path(path).open("rb", buffering=0) as file:
            while block := file.read(BLOCK):
                digest.update(block)
                await ws.send(block)
        await ws.send("end")
        if await ws.recv() != digest.hexdigest():
            raise SystemExit("the digests differ")


# -- magic-wormhole --------------------------------------------------------------------------------


class Wormhole:
    """magic-wormhole with a mailbox and a transit relay of its own, which run while the block does."""

    def __init__(self, venv: Path) -> None:
        self._bin = venv / "bin"
        self._ports = free_port(), free_port()
        self._code = 0

    @contextmanager
    def servers(self) -> Iterator[None]:
        mailbox, transit = (f"tcp:{port}:interface=127.0.0.1" for port in self._ports)
        with ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            for plugin in (["wormhole-mailbox", f"--port={mailbox}"], ["transitrelay", f"--port={transit}"]):
                server = subprocess.Popen(
                    [str(self._bin / "twist"), *plugin], cwd=folder, stdout=subprocess.DEVNULL
                )
                stack.enter_context(server)
                stack.callback(server.terminate)
            for port in self._ports:
                wait_for(port)
            yield

    def start(self, file: Path, folder: Path) -> Pair:
        self._code += 1
        code = f"{self._code}-loopback"
        mailbox, transit = self._ports
        program = [str(self._bin / "wormhole"), "--relay-url", f"ws://127.0.0.1:{mailbox}/v1"]
        program += ["--transit-helper", f"tcp:127.0.0.1:{transit}"]
        receive = ["receive", "--hide-progress", "--accept-file", "-o", str(folder / file.name), code]

        def send(receiver: Receiver) -> Command:
            return [*program, "send", "--hide-progress", "--no-qr", "--code", code, str(file)]

        return Pair([*program, *receive], send, serves=False)


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as unused:
        port: int = unused.getsockname()[1]
        return port


def wait_for(port: int) -> None:
    deadline = time.monotonic() + 30
    while True:
        try:
            socket.create_connection(("127.0.0.1", port)).close()
            return
        except ConnectionRefusedError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


# -- measuring -------------------------------------------------------------------------------------


def transfer(start: Start, file: Path, folder: Path) -> Sample:
    """Send `file` once. The receiver starts first, and ends by itself or by a signal."""
    folder.mkdir()
    pair = start(file, folder)
    with subprocess.Popen(
        pair.receive, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as receiver:
        try:
            command = pair.send(receiver)
            os.sync()
            began = time.perf_counter()
            sender = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            _, status, of_sender = os.wait4(sender.pid, 0)
            seconds = time.perf_counter() - began
            sender.returncode = os.waitstatus_to_exitcode(status)
            if sender.returncode:
                raise SystemExit(f"{command[0]} ended with {sender.returncode}")
            if pair.serves:
                receiver.send_signal(signal.SIGTERM)
            _, status, of_receiver = os.wait4(receiver.pid, 0)
            receiver.returncode = os.waitstatus_to_exitcode(status)
        finally:
            if receiver.returncode is None:
                receiver.kill()
    if (folder / file.name).stat().st_size != file.stat().st_size:
        raise SystemExit("the file has not arrived")
    shutil.rmtree(folder)
    both = of_sender, of_receiver
    cpu = sum(each.ru_utime + each.ru_stime for each in both)
    return Sample(seconds, cpu, max(each.ru_maxrss for each in both) * 1024)


def measure(programs: dict[str, Start], count: int, rounds: int) -> None:
    """Print a table; the rounds are interleaved."""
    with tempfile.TemporaryDirectory() as name:
        large, small = Path(name, "large"), Path(name, "small")
        with large.open("wb") as file:
            for _ in range(-(-count // MIB)):
                file.write(os.urandom(MIB))
        small.write_bytes(b"x")
        samples: dict[str, list[tuple[Sample, Sample]]] = {each: [] for each in programs}
        for _ in range(rounds):
            for each, start in programs.items():
                empty, full = (transfer(start, file, Path(name, "received")) for file in (small, large))
                samples[each].append((empty, full))
        print(f"{large.stat().st_size // MIB} MiB, medians of {rounds} rounds\n")
    head = ["", "MB/s", "seconds", "of them for 1 byte", "CPU seconds", "peak, MiB"]
    print(markdown(head, [[each, *line(count, found)] for each, found in samples.items()]))


def line(count: int, samples: Sequence[tuple[Sample, Sample]]) -> list[str]:
    empty = median(sample.seconds for sample, _ in samples)
    full = median(sample.seconds for _, sample in samples)
    cpu = median(sample.cpu for _, sample in samples)
    peak = max(sample.peak for _, sample in samples)
    rate = count / max(1e-9, full - empty) / 1e6
    return [f"{rate:,.0f}", f"{full:.2f}", f"{empty:.2f}", f"{cpu:.2f}", f"{peak / MIB:.0f}"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--size", type=size, default=1 << 30, help="bytes of the file (1G)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--wormhole", metavar="VENV", type=Path, help="where magic-wormhole is installed")
    parser.add_argument("--send", nargs=2, help=argparse.SUPPRESS)
    parser.add_argument("--receive", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.send:
        asyncio.run(send_by_loop(*options.send))
    elif options.receive:
        asyncio.run(receive_by_loop(options.receive))
    else:
        programs: dict[str, Start] = {f"wsstream, {each}": wsstream_on(each) for each in ("asyncio", "trio")}
        programs["a loop over websockets"] = websockets_loop
        with ExitStack() as stack:
            if options.wormhole:
                wormhole = Wormhole(options.wormhole)
                stack.enter_context(wormhole.servers())
                programs["magic-wormhole"] = wormhole.start
            measure(programs, options.size, options.rounds)


if __name__ == "__main__":
    main()
