"""A message of any size passes through files in constant memory."""

from __future__ import annotations

import sys

import pytest
from kit import processes

MIB = 1 << 20

PEER = f"""
import anyio, itertools, wsstream

async def handler(ws):
    size = int(await ws.receive())
    if size > 0:
        await ws.send(bytes({MIB}) for _ in range(size))
    else:
        async with ws.readable.message() as reader:
            async for chunk in reader:
                pass
            await ws.send(str(reader.bytes_received))

async def main():
    async with wsstream.serve(handler, "127.0.0.1") as server:
        print(server.url, flush=True)
        await server.wait_closed()

anyio.run(main)
"""

PROGRAM = """
import resource, shutil, sys
from wsstream.sync import connect

class Zeros:
    def __init__(self, size):
        self.left = size
    def read(self, most):
        taken = min(most, self.left)
        self.left -= taken
        return bytes(taken)

def download(mebibytes):
    with connect(sys.argv[1]) as ws, open("/dev/null", "wb") as file:
        ws.send(str(mebibytes))
        with ws.readable.message() as reader:
            shutil.copyfileobj(reader, file)
            assert reader.bytes_received == mebibytes << 20

def upload(mebibytes):
    with connect(sys.argv[1]) as ws:
        ws.send("0")
        with ws.writable.message() as writer:
            shutil.copyfileobj(Zeros(mebibytes << 20), writer)
        assert ws.receive() == str(mebibytes << 20)

work = globals()[sys.argv[2]]
work(16)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
work(int(sys.argv[3]))
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss is in KiB on Linux only")
@pytest.mark.parametrize("way", ["download", "upload"])
def test_256_mib_through_copyfileobj(way: str) -> None:
    with processes.server("-c", PEER) as url:
        grown = int(processes.run_program("-c", PROGRAM, url, way, "256"))
    assert grown < 4096, f"{grown} KiB more for 256 MiB than for 16 MiB"
