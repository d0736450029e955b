"""What is measured: the rows of the table, and the series that show how cost grows."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

KIB, MIB = 1024, 1024 * 1024
FILE = 256 * MIB  # bytes of the file that is sent
RECEIVED = 64 * MIB  # bytes of the file that is received

WSSTREAM = ("wsstream-asyncio", "wsstream-uvloop", "wsstream-trio")
PURE = "wsstream-pure"
RAW = "raw"
PEERS = (
    "picows-asyncio",
    "picows-uvloop",
    "websockets-asyncio",
    "websockets-uvloop",
    "websockets-trio",
    "aiohttp-asyncio",
    "aiohttp-uvloop",
    "trio-websocket",
)
RAWS = (RAW, "raw-trio")
THREADS = ("wsstream-sync", "websockets-sync")

Measure = Literal["rate", "cpu", "memory"]

# What the partner does while a subject does its work.
ROLES = {
    "consume": "blast",
    "consume_chunks": "blast",
    "read_chunks": "blast",
    "receive_file": "blast",
    "produce": "swallow",
    "produce_chunks": "swallow",
    "send_file": "swallow",
    "echo": "exchange",
    "ask": "answer",
    "feed": "absorb",
    "idle": "hold",
    "handshakes": "shake",
    "proxy": "blast",
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Attributes:
        work: what the subject does, see `ROLES`.
        size: bytes of a message.
        side: the subject is a server or a client.
        measure: what is compared: messages per second, CPU time per message, or memory per connection.
        connections: how many are opened before the measurement.
        held: how many are opened within it.
        fragments: of each message that is received.
        chunk: bytes that are read or written at a time, where messages are not whole.
        level: of compression; 0: none.
        send_buffer: the size of the kernel's buffer that wsstream's user asks for; 0: the kernel chooses it.
        rounds: at most so many; None: as many as are asked for.
        fresh: each round takes place in a new process.
    """

    name: str
    title: str
    work: str
    size: int
    side: str = "server"
    measure: Measure = "rate"
    connections: int = 1
    held: int = 0
    fragments: int = 1
    chunk: int = MIB
    tls: bool = False
    level: int = 0
    send_buffer: int = 0
    subjects: tuple[str, ...] = (*RAWS, *WSSTREAM, PURE, *PEERS)
    rounds: int | None = None
    fresh: bool = False

    @property
    def forwards(self) -> bool:
        """There is a second partner, to which the subject sends on what it receives."""
        return self.work == "proxy"

    @property
    def connects(self) -> bool:
        """The subject connects to a partner."""
        return self.side == "client" or self.forwards

    @property
    def action(self) -> str:
        return ROLES[self.work]

    def quick(self) -> Case:
        """The same with less to do."""
        return replace(self, held=min(self.held, 50), connections=min(self.connections, 50), rounds=1)

    def spec(self, seconds: float, files: dict[str, str]) -> dict[str, Any]:
        """What both processes are told."""
        return {
            "work": self.work,
            "side": self.side,
            "size": self.size,
            "connections": self.connections,
            "held": self.held,
            "fragments": self.fragments,
            "chunk": self.chunk,
            "seconds": seconds,
            "tls": self.tls,
            "level": self.level,
            "send_buffer": self.send_buffer,
            "port": 0,
            "file": "",
            "target": "",
            "profile": False,
            **files,
        }


CASES = (
    Case("consume-256-server", "receive 256 B, server", "consume", 256),
    Case("consume-256-client", "receive 256 B, client", "consume", 256, side="client"),
    Case("consume-64k", "receive 64 KiB", "consume", 64 * KIB),
    Case("consume-64m", "receive 64 MiB in chunks", "consume_chunks", 64 * MIB),
    Case("receive-file", "receive 64 MiB into a file", "receive_file", RECEIVED),
    Case("produce-256", "send 256 B", "produce", 256),
    Case("produce-1m-server", "send 1 MiB, server", "produce", MIB),
    Case("produce-1m-client", "send 1 MiB, client", "produce", MIB, side="client"),
    Case(
        "produce-1m-bound",
        "send 1 MiB, client, SO_SNDBUF of 512 KiB",
        "produce",
        MIB,
        side="client",
        send_buffer=512 * KIB,
    ),
    Case("send-file", "send a file of 256 MiB", "send_file", FILE, measure="cpu"),
    Case("echo-256", "echo 256 B, one in flight", "echo", 256),
    Case(
        "sync-consume-256",
        "receive 256 B, client without async",
        "consume",
        256,
        side="client",
        subjects=THREADS,
    ),
    Case(
        "sync-produce-256",
        "send 256 B, client without async",
        "produce",
        256,
        side="client",
        subjects=THREADS,
    ),
    Case(
        "sync-echo-256",
        "send 256 B and receive it, client without async",
        "ask",
        256,
        side="client",
        subjects=THREADS,
    ),
    Case("proxy-1m", "forward 1 MiB", "proxy", MIB),
    Case("deflate-consume", "receive 4 KiB of JSON, compressed", "consume", 4 * KIB, level=6),
    Case("deflate-produce", "send 4 KiB of JSON, compressed", "produce", 4 * KIB, level=6),
    Case("deflate-fast", "the same, at level 1", "produce", 4 * KIB, level=1),
    Case("tls-consume", "receive 64 KiB, TLS", "consume", 64 * KIB, tls=True),
    Case("tls-produce", "send 64 KiB, TLS", "produce", 64 * KIB, tls=True),
    Case(
        "idle",
        "idle connection, memory",
        "idle",
        256,
        measure="memory",
        held=1000,
        rounds=3,
        fresh=True,
    ),
    Case("handshakes", "opening handshakes", "handshakes", 0),
    Case("handshakes-tls", "opening handshakes, TLS", "handshakes", 0, tls=True),
    Case("echo-1000", "echo 256 B on 1,000 connections", "echo", 256, connections=1000, rounds=3),
    Case(
        "feed-1000",
        "one message of 256 B to 1,000 connections",
        "feed",
        256,
        connections=1000,
        rounds=3,
    ),
)
BY_NAME = {case.name: case for case in CASES}


@dataclass(frozen=True)
class Series:
    """How cost grows: one case with one thing changed from point to point.

    Attributes:
        axis: what the points are.
        changes: the attribute of `case` that is set to each point.
    """

    name: str
    title: str
    axis: str
    points: tuple[int, ...]
    case: Case
    changes: str
    subjects: tuple[str, ...]

    @property
    def base(self) -> int:
        """The points are powers of it."""
        return 10 if self.changes == "connections" else 4

    def quick(self) -> Series:
        """Its first point and one of the later ones."""
        return replace(self, points=(self.points[0], self.points[-3]))

    def at(self, point: int) -> Case:
        changed: dict[str, Any] = {self.changes: point}
        rounds = 1 if self.changes == "connections" and point > 1000 else None  # opening them takes long
        return replace(self.case, name=f"{self.name}, {point}", rounds=rounds, **changed)


_BEST = ("picows-uvloop", "websockets-asyncio", "aiohttp-asyncio")
_SIZES = tuple(4**power for power in range(2, 14))  # 16 B to 64 MiB

SERIES = (
    Series(
        "sizes-consume",
        "Receiving messages of growing size",
        "bytes of a message",
        _SIZES,
        Case("", "", "consume", 0),
        "size",
        (RAW, *WSSTREAM, *_BEST),
    ),
    Series(
        "sizes-produce",
        "Sending messages of growing size",
        "bytes of a message",
        _SIZES,
        Case("", "", "produce", 0),
        "size",
        (RAW, *WSSTREAM, *_BEST),
    ),
    Series(
        "connections",
        "Echo of 256 B on many connections",
        "connections, one message in flight on each",
        (1, 10, 100, 1000, 10_000),
        Case("", "", "echo", 256),
        "connections",
        (*WSSTREAM, *_BEST),
    ),
    Series(
        "chunks-write",
        "Sending one message of 16 MiB in chunks",
        "bytes of a chunk",
        tuple(4**power for power in range(4, 11)),
        Case("", "", "produce_chunks", 16 * MIB),
        "chunk",
        (*WSSTREAM, "picows-uvloop", "websockets-asyncio"),
    ),
    Series(
        "chunks-read",
        "Receiving messages of 16 MiB in chunks",
        "bytes of a chunk, at most",
        tuple(4**power for power in range(4, 11)),
        Case("", "", "read_chunks", 16 * MIB),
        "chunk",
        WSSTREAM,
    ),
    Series(
        "fragments",
        "Receiving messages of 1 MiB in fragments",
        "fragments of a message",
        tuple(4**power for power in range(7)),
        Case("", "", "consume", MIB),
        "fragments",
        (*WSSTREAM, *_BEST),
    ),
)
SERIES_BY_NAME = {series.name: series for series in SERIES}
