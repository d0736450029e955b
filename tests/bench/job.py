"""What a subject is to do, what it counted, and what that cost its process."""

from __future__ import annotations

import cProfile
import gc
import ssl
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anyio
import frames

_BATCH = 256 * 1024  # bytes that are sent between two looks at the clock


class Job:
    """One measurement, as the subject sees it. The hot loops count in their own variables where they can."""

    def __init__(self, spec: dict[str, Any]) -> None:
        self.work: str = spec["work"]
        self.side: str = spec["side"]
        self.port: int = spec["port"]  # of the partner that listens
        self.size: int = spec["size"]
        self.chunk: int = spec["chunk"]
        self.connections: int = spec["connections"]
        self.fragments: int = spec["fragments"]
        self.seconds: float = spec["seconds"]
        self.level: int = spec["level"]  # of compression; 0: none is agreed on
        self.send_buffer: int = spec["send_buffer"]  # bytes; 0: as the kernel chooses
        self.file: str = spec["file"]
        self.target: str = spec["target"]  # a file to receive into
        self.tls: bool = spec["tls"]
        self._tls = spec if spec["tls"] else None
        self._profile = cProfile.Profile() if spec["profile"] else None
        self.messages = 0
        self.bytes = 0
        self.last: bytes | str = b""  # the last message, whole
        self.crowd: list[Any] = []  # the connections of a feed
        self.complete = anyio.Event()  # all of them are open
        self.ready = anyio.Event()  # what is to be sent has been made
        self.go = anyio.Event()
        self.finished = anyio.Event()
        self.error: str = ""

    # -- for the loops -------------------------------------------------------------------------

    def payloads(self) -> Sequence[Any]:
        """The messages to send between two looks at the clock."""
        if self.level:
            return frames.texts(self.size)
        content = frames.payload(self.size)
        return [content] * max(1, _BATCH // max(1, self.size))

    def chunks(self) -> Sequence[bytes]:
        """One message in chunks."""
        content = frames.payload(self.size)
        return [content[at : at + self.chunk] for at in range(0, self.size, self.chunk)]

    async def started(self) -> float:
        """Wait for the start of the measurement; when to stop, by ``time.perf_counter``."""
        self.ready.set()
        await self.go.wait()
        return time.perf_counter() + self.seconds

    def received(self, messages: int, size: int, last: bytes | str = b"") -> None:
        """All that came was counted."""
        self.messages, self.bytes, self.last = messages, size, last
        self.finished.set()

    def sent(self, rounds: int, payloads: Sequence[Any]) -> None:
        """So many rounds of these messages were sent, and the connection is closed."""
        self.messages = rounds * len(payloads)
        self.bytes = rounds * sum(map(len, payloads))  # the texts are ASCII
        self.finished.set()

    def joined(self, connection: Any) -> None:
        """One more connection of a feed is open."""
        self.crowd.append(connection)
        if len(self.crowd) == self.connections:
            self.complete.set()

    def failed(self, error: BaseException) -> None:
        self.error = f"{type(error).__name__}: {error}"
        self.finished.set()

    @property
    def sends(self) -> bool:
        """The work waits for the start of the measurement."""
        return self.work in ("produce", "produce_chunks", "send_file", "feed", "ask")

    @property
    def lasts(self) -> bool:
        """The work goes on until the connections are closed, after the measurement."""
        return self.work in ("echo", "idle", "handshakes")

    # -- TLS -----------------------------------------------------------------------------------

    def server_context(self) -> ssl.SSLContext | None:
        if self._tls is None:
            return None
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(self._tls["certificate"])
        return context

    def client_context(self) -> ssl.SSLContext | None:
        return None if self._tls is None else ssl.create_default_context(cafile=self._tls["authority"])

    def url(self) -> str:
        return f"{'ws' if self._tls is None else 'wss'}://127.0.0.1:{self.port}/"

    # -- what it costs -------------------------------------------------------------------------

    def begin(self) -> None:
        gc.collect()
        _forget_peak()
        self._resident = _resident()
        self._cpu = time.process_time()
        if self._profile is not None:
            self._profile.enable()

    def _calls(self) -> list[dict[str, Any]]:
        """Of a profile: how often a function was called, and the seconds in itself."""
        entries = [] if self._profile is None else self._profile.getstats()
        return [
            {"function": _name_of(entry.code), "calls": entry.callcount, "own": entry.inlinetime}
            for entry in entries
        ]

    def end(self) -> dict[str, Any]:
        cpu = time.process_time() - self._cpu
        if self._profile is not None:
            self._profile.disable()
        if self.work == "idle":
            gc.collect()
        last = self.last.encode() if isinstance(self.last, str) else self.last
        return {
            "messages": self.messages,
            "bytes": self.bytes,
            "cpu": cpu,
            "peak": _peak() - self._resident,
            "resident": _resident() - self._resident,
            "crc": zlib.crc32(last) if last else None,
            "calls": self._calls(),
        } | ({"error": self.error} if self.error else {})


def _name_of(code: Any) -> str:
    """Of a function, as a profile tells it."""
    if isinstance(code, str):
        return code.removeprefix("<").removesuffix(">")
    path = Path(code.co_filename)
    return f"{'/'.join(path.parts[-2:])} {code.co_name}"


def _status(path: str, name: str) -> int:
    """A line of a status file, in bytes; 0 where the system has none."""
    try:
        text = Path(path).read_text()
    except OSError:
        return 0
    line = next(line for line in text.splitlines() if line.startswith(name))
    return int(line.split()[1]) * 1024


def _forget_peak() -> None:
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        pass


def _resident() -> int:
    return _status("/proc/self/smaps_rollup", "Rss:")


def _peak() -> int:
    return _status("/proc/self/status", "VmHWM:")
