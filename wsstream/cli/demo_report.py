"""The demo's result: compared and printed."""

from __future__ import annotations

import argparse
import json
from dataclasses import dataclass

from wsstream.cli.demo_data import Source
from wsstream.cli.report import Reporter
from wsstream.cli.units import format_size, mebibytes

__all__ = ["Account", "Report", "announce"]

_NAMES = {"sha256": "SHA-256", "blake3": "BLAKE3"}


def announce(options: argparse.Namespace, source: Source, url: str) -> None:
    """Say what goes to the server at `url` and back."""
    text = f"{source.name} to {url} and back, {format_size(source.size)}"
    Reporter(options).note("begin", text, source=source.name, url=url, size=source.size)


@dataclass(frozen=True, slots=True)
class Account:
    """The bytes counted at one place: their number, and their digest in hexadecimal."""

    bytes: int
    digest: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The result. Times are seconds; sizes are bytes.

    Attributes:
        source: the name of the data.
        way: how it went there and back.
        hash: the kind of the digests.
        sent, passed, received: the bytes that the client sent, the server passed on, and the client received.
        seconds: of all.
        up_seconds, down_seconds: of each direction.
        client_peak, server_peak: the peak resident memory, ``None`` if the system does not report it.
        backend: the event loop of both processes.
        tls: the version of TLS, or ``None`` without TLS.
    """

    source: str
    way: str
    hash: str
    sent: Account
    passed: Account
    received: Account
    seconds: float
    up_seconds: float
    down_seconds: float
    client_peak: int | None
    server_peak: int | None
    backend: str
    tls: str | None

    def mismatch(self) -> str | None:
        """Return how the three accounts differ, ``None`` if they do not."""
        accounts = {"sent": self.sent, "passed on": self.passed, "received": self.received}
        if len(set(accounts.values())) == 1:
            return None
        differing = (f"{name} {it.bytes} bytes {it.digest}" for name, it in accounts.items())
        return "the data that came back differs from the data sent: " + ", ".join(differing)

    def as_table(self) -> str:
        """Return a line for each result, for people."""
        peaks = {"client": self.client_peak, "server": self.server_peak}
        memory = (f"{name} {'unknown' if it is None else format_size(it)}" for name, it in peaks.items())
        rows = {
            "source": self.source,
            "size": f"{self.sent.bytes} bytes ({format_size(self.sent.bytes)}), {self.way}",
            "time": f"{self.seconds:.2f} s",
            "up": f"{self._rate(self.sent, self.up_seconds)} MiB/s",
            "down": f"{self._rate(self.received, self.down_seconds)} MiB/s",
            "peak memory": ", ".join(memory),
            "backend": self.backend,
            "TLS": self.tls or "no",
            _NAMES.get(self.hash, self.hash): self.sent.digest,
            "verdict": self.mismatch() or "ok: sent, passed on and received are the same",
        }
        return "\n".join(f"{name:<12} {value}" for name, value in rows.items())

    def as_json(self) -> str:
        """Return one JSON object in one line, for programs."""
        accounts = {"sent": self.sent, "passed": self.passed, "received": self.received}
        return json.dumps(
            {
                "ok": self.mismatch() is None,
                "source": self.source,
                "bytes": {name: it.bytes for name, it in accounts.items()},
                "hash": self.hash,
                "digests": {name: it.digest for name, it in accounts.items()},
                "seconds": {
                    "all": round(self.seconds, 6),
                    "up": round(self.up_seconds, 6),
                    "down": round(self.down_seconds, 6),
                },
                "mib_per_second": {
                    "up": self._rate(self.sent, self.up_seconds),
                    "down": self._rate(self.received, self.down_seconds),
                },
                "peak_memory": {"client": self.client_peak, "server": self.server_peak},
                "backend": self.backend,
                "tls": self.tls,
            }
        )

    @staticmethod
    def _rate(account: Account, seconds: float) -> float:
        return mebibytes(account.bytes / seconds) if seconds > 0 else 0.0
