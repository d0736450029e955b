"""How much one connection may do before other tasks run: every such bound, with its reason.

A step of the driver is synchronous, so its size is what other connections wait for; and each step costs the
same few microseconds, however little it moves. The bounds stand where a step takes 0.1 to 2 ms.

Bounds of single operations stand with them: `codec.decoder.MAX_STEPS` (frames decoded in one call, which
matters for floods of tiny frames) and `transports.tls.MAX_RECORDS` (encrypted in one call).
"""

from __future__ import annotations

from typing import Final

__all__ = [
    "BYTES_BETWEEN_YIELDS",
    "BYTES_PER_SEND",
    "COMPRESS_STEP",
    "FILE_STEP",
    "INFLATE_STEP",
    "PIECES_PER_CALL",
    "READS_AFTER_SEND_FAILURE",
    "SENDS_BETWEEN_YIELDS",
    "SEND_STEP",
    "STEPS_BETWEEN_YIELDS",
]

SEND_STEP: Final = 1 << 20
"""Bytes framed or sent in one step. They are masked and copied into the system's buffers in about 0.3 ms."""

COMPRESS_STEP: Final = 256 * 1024
"""Bytes framed or sent in one step where messages may be compressed, which takes zlib some milliseconds."""

FILE_STEP: Final = 1 << 22
"""Bytes of a file sent in one step, without a copy: 0.8 ms, if the peer takes them as fast as this."""

INFLATE_STEP: Final = 256 * 1024
"""Bytes inflated in one step. zlib takes about 1 ms for them."""

PIECES_PER_CALL: Final = 512
"""Chunks that one call of a reader takes from the queue. Small chunks cost about 1 µs each."""

BYTES_BETWEEN_YIELDS: Final = 1 << 20
"""Bytes that a reader takes in chunks before it lets other tasks run, as long as it never has to wait."""

STEPS_BETWEEN_YIELDS: Final = 4
"""Steps of reading that a task takes itself before other tasks run, while it reads a message in chunks.
Full of tiny frames, each takes half a millisecond; else they bring as much as BYTES_BETWEEN_YIELDS."""

SENDS_BETWEEN_YIELDS: Final = 256
"""Messages that are sent before other tasks run, as long as none of them has to wait."""

BYTES_PER_SEND: Final = 16 * 1024
"""So many bytes of a large message or chunk count as one more message sent; 4 MiB take about 1 ms."""

READS_AFTER_SEND_FAILURE: Final = 64
"""Reads of what the peer sent before sending to it failed: a Close may be among it."""
