"""Compressed frames that another compressor made, between those of the connection's own."""

from __future__ import annotations

from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed, Deflate

AGREED = Agreed(Deflate(), 12, True, 12, True)
WORDS = b"some words " * 20


def frame(connection: Connection) -> bytes:
    connection.send_message("binary", WORDS)
    sent = b"".join(map(bytes, connection.queue.buffers()))
    connection.queue.advance(len(sent))
    return sent


def test_what_follows_shared_frames_refers_to_nothing_before_them() -> None:
    """The peer's window has the shared message, too: a reference past it would find other bytes."""
    connection = Connection(client=False, deflate=AGREED)
    assert connection.agreed_deflate == AGREED
    first = frame(connection)
    assert len(frame(connection)) < len(first), "it refers to the first"
    connection.forget_context()
    assert frame(connection) == first


def test_a_connection_without_compression_has_nothing_to_forget() -> None:
    connection = Connection(client=False)
    assert connection.agreed_deflate is None
    connection.forget_context()
