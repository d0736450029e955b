"""What a peer compresses and inflates with: zlib alone, nothing of the library's own."""

from __future__ import annotations

import zlib
from typing import Any

from wsstream.opening.extensions import parse_extensions

__all__ = ["HELLO", "NAME", "NO_TAKEOVER", "TAIL", "ZlibPeer", "deflate", "inflate_strictly"]

NAME = "permessage-deflate"
NO_TAKEOVER = f"{NAME}; server_no_context_takeover; client_no_context_takeover"
TAIL = b"\x00\x00\xff\xff"  # RFC 7692 section 7.2.1
HELLO = bytes.fromhex("f248cdc9c90700")  # section 7.2.3.1


def deflate(*messages: bytes, level: int = -1, window: int = 15, strategy: int = 0) -> list[bytes]:
    """Messages that share one context."""
    context = zlib.compressobj(level, zlib.DEFLATED, -window, 8, strategy)
    return [
        (context.compress(each) + context.flush(zlib.Z_SYNC_FLUSH)).removesuffix(TAIL) for each in messages
    ]


class ZlibPeer:
    """The two contexts of our endpoint's peer.

    Args:
        role: our endpoint's.
        answer: what was agreed on, as the server answered it.
    """

    def __init__(self, role: str, answer: str = NAME) -> None:
        params = dict(parse_extensions([answer])[0].params)
        theirs = "client" if role == "server" else "server"
        self.receive_window = int(params.get(f"{role}_max_window_bits") or 15)
        self.receive_takeover = f"{role}_no_context_takeover" not in params
        self._send_window = int(params.get(f"{theirs}_max_window_bits") or 15)
        self._send_takeover = f"{theirs}_no_context_takeover" not in params
        self._compress: Any = None
        self._inflate: Any = None

    def pieces(self, *parts: bytes) -> list[bytes]:
        """The payloads of a message that is fragmented in `parts`."""
        if self._compress is None or not self._send_takeover:
            # zlib makes no window of 2**8 bytes, so a message for one refers to nothing.
            no_references = zlib.Z_HUFFMAN_ONLY if self._send_window == 8 else zlib.Z_DEFAULT_STRATEGY
            self._compress = zlib.compressobj(wbits=-max(self._send_window, 9), strategy=no_references)
        data = [self._compress.compress(part) + self._compress.flush(zlib.Z_SYNC_FLUSH) for part in parts]
        return [*data[:-1], data[-1].removesuffix(TAIL)]

    def message(self, payload: bytes) -> bytes:
        """The payload of a message in one frame."""
        return self.pieces(payload)[0]

    def inflate(self, payload: bytes) -> bytes:
        """A whole message; fails where it refers to what lies further back than the window."""
        if self._inflate is None or not self.receive_takeover:
            self._inflate = zlib.decompressobj(wbits=-self.receive_window)
        return inflate_strictly(self._inflate, payload + TAIL)


def inflate_strictly(context: Any, data: bytes) -> bytes:
    """Inflate with no more memory than the window of `context`, and see that a block has just ended.

    zlib finds too distant references only beyond the output of one call, so each returns a single byte.
    """
    out = []
    for start in range(len(data)):
        piece = data[start : start + 1]
        while byte := context.decompress(piece, 1):
            out.append(byte)
            piece = context.unconsumed_tail
    assert not context.eof, "our endpoint sends no final blocks"
    probe = context.copy()
    assert probe.decompress(b"\x03\x00") == b"", "the data ends inside a block"
    assert probe.eof, "the data ends inside a block"
    return b"".join(out)
