"""Without async: save one message of any size in a file, in bounded memory.

    python examples/sync_download.py [URL FILE]

Without arguments it downloads 64 MiB from a server of its own.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from wsstream.sync import WebSocketStream, connect, serve


def disk_image() -> Iterator[bytes]:
    for number in range(64):
        yield bytes([number]) * (1 << 20)


def offer(ws: WebSocketStream) -> None:
    ws.send(disk_image())  # one message, made as it is sent


def download(url: str, path: Path) -> None:
    with connect(url) as ws, ws.readable.message() as reader, path.open("wb") as file:
        shutil.copyfileobj(reader, file, 1 << 20)  # a slow disk slows the server
    print(f"{path.stat().st_size} bytes in {path.name}")


if len(sys.argv) > 2:
    download(sys.argv[1], Path(sys.argv[2]))
else:
    with serve(offer, "127.0.0.1") as server, tempfile.TemporaryDirectory() as folder:
        download(server.url, Path(folder, "disk.img"))
