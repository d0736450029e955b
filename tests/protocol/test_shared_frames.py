"""Compressed frames that another compressor made, between those of the connection's own."""

from __future__ import annotations

import zlib
from typing import Any

from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import TAIL, Agreed, Deflate
from wsstream.testing import parse_frames

AGREED = Agreed(Deflate(), 12, True, 12, True)
WORDS = b"some words " * 20


def frame(connection: Connection) -> bytes:
    connection.send_message("binary", WORDS)
    sent = b"".join(map(bytes, connection.queue.buffers()))
    connection.queue.advance(len(sent))
    return sent


def inflated(peer: Any, sent: bytes) -> bytes:
    """One message."""
    payload = b"".join(part.payload for part in parse_frames(sent, masked=False))
    data: bytes = peer.decompress(payload + TAIL)
    return data


def test_what_follows_shared_frames_refers_to_nothing_before_them() -> None:
    """The peer's window has the shared message, too: a reference past it would find other bytes."""
    connection = Connection(client=False, deflate=AGREED)
    assert connection.agreed_deflate == AGREED
    first = frame(connection)
    assert len(frame(connection)) < len(first), "it refers to the first"
    connection.keep_no_context()
    assert frame(connection) == first
    assert frame(connection) == first, "shared messages may come at any time"


def test_a_message_that_was_begun_is_compressed_to_its_end() -> None:
    """The second message refers to the first, and its end to its beginning."""
    connection, peer = Connection(client=False, deflate=AGREED), zlib.decompressobj(-12)
    assert inflated(peer, frame(connection)) == WORDS
    connection.send_data("binary", WORDS, last=False)
    connection.keep_no_context()
    connection.send_data("binary", WORDS, last=True)
    sent = b"".join(map(bytes, connection.queue.buffers()))
    connection.queue.advance(len(sent))
    assert inflated(peer, sent) == WORDS * 2
    assert inflated(zlib.decompressobj(-12), frame(connection)) == WORDS


def test_a_connection_without_compression_has_nothing_to_forget() -> None:
    connection = Connection(client=False)
    assert connection.agreed_deflate is None
    connection.keep_no_context()
