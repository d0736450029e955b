"""A relay between two ends of `wsstream.file.v1` that reads along: what was sent is seen on the wire.

The frames are taken apart by wsproto, not by the code that is tested.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import Any

from wsproto.frame_protocol import FrameProtocol, Opcode

__all__ = ["Attempt", "FileRelay"]

_BLOCK = 16 << 10  # bytes
_PATIENCE = 30.0  # seconds in which the server must be listening


class Attempt:
    """One connection, as it was seen on the wire.

    Attributes:
        offset: that of `accept`; ``None`` if there was none.
        data: the bytes of the file that passed.
        ended: whether `end` passed.
        texts: the kinds of all control messages, in the order in which they passed.
    """

    def __init__(self) -> None:
        self.offset: int | None = None
        self.data = bytearray()
        self.ended = False
        self.texts: list[str] = []


class FileRelay:
    """Listens on `port` of 127.0.0.1 and carries each connection to `target`, at `rate` bytes a second.

    Args:
        target: the port of the server.
        rate: may be changed at any time.
        on_accept: called with an attempt whose `accept` came, before the other end has it.
    """

    def __init__(self, target: int, rate: float, on_accept: Callable[[Attempt], object]) -> None:
        self.rate = rate
        self.attempts: list[Attempt] = []
        self.errors: list[BaseException] = []
        self._target = target
        self._on_accept = on_accept
        self._changed = threading.Condition()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._threads = [threading.Thread(target=self._listen)]
        self._sockets: list[socket.socket] = []

    def wait_for(self, condition: Callable[[], object], timeout: float) -> bool:
        """Wait until `condition` is true after something has passed; whether it is."""
        with self._changed:
            return bool(self._changed.wait_for(condition, timeout))

    def __enter__(self) -> FileRelay:
        self._threads[0].start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for each in [self._listener, *self._sockets]:
            _close(each)
        for thread in self._threads:
            thread.join(10)
        if self.errors:  # then whatever else failed is a consequence
            raise self.errors[0]

    def _listen(self) -> None:
        with suppress(OSError):  # the end
            while True:
                client, _ = self._listener.accept()
                if (server := self._connect()) is None:
                    _close(client)
                    continue
                self._sockets += [client, server]
                attempt = Attempt()
                with self._changed:
                    self.attempts.append(attempt)
                    self._changed.notify_all()
                for source, sink, from_client in ((client, server, True), (server, client, False)):
                    self._threads.append(
                        threading.Thread(target=self._carry, args=(source, sink, from_client, attempt))
                    )
                    self._threads[-1].start()

    def _connect(self) -> socket.socket | None:
        """A connection to the server, which may be about to start."""
        deadline = time.monotonic() + _PATIENCE
        while time.monotonic() < deadline and self._listener.fileno() >= 0:
            with suppress(ConnectionRefusedError):
                return socket.create_connection(("127.0.0.1", self._target))
            time.sleep(0.01)
        return None

    def _carry(self, source: socket.socket, sink: socket.socket, from_client: bool, attempt: Attempt) -> None:
        wire = _Wire(from_client)
        try:
            while block := source.recv(_BLOCK):
                for text, data in wire.messages(block):
                    self._note(attempt, text, data)
                sink.sendall(block)
                time.sleep(len(block) / self.rate)
        except OSError:
            pass  # one of them was killed
        except BaseException as error:
            self.errors.append(error)
        finally:
            _close(source)
            _close(sink)

    def _note(self, attempt: Attempt, text: dict[str, Any] | None, data: bytes) -> None:
        if text is not None and text["t"] == "accept":
            attempt.offset = text["offset"]
            self._on_accept(attempt)
        with self._changed:
            attempt.data += data
            if text is not None:
                attempt.texts.append(text["t"])
                attempt.ended = attempt.ended or text["t"] == "end"
            self._changed.notify_all()


class _Wire:
    """One direction of a WebSocket connection."""

    def __init__(self, from_client: bool) -> None:
        self._head: bytes | None = b""
        self._frames = FrameProtocol(client=not from_client, extensions=[])
        self._text = ""

    def messages(self, block: bytes) -> list[tuple[dict[str, Any] | None, bytes]]:
        """The control messages that are complete, and the bytes of the file, in order."""
        if self._head is not None:
            self._head += block
            if b"\r\n\r\n" not in self._head:
                return []
            _, _, block = self._head.partition(b"\r\n\r\n")
            self._head = None
        found: list[tuple[dict[str, Any] | None, bytes]] = []
        self._frames.receive_bytes(block)
        for frame in self._frames.received_frames():
            if frame.opcode is Opcode.BINARY:
                found.append((None, bytes(frame.payload)))
            elif frame.opcode is Opcode.TEXT:
                self._text += str(frame.payload)
                if frame.message_finished:
                    found.append((json.loads(self._text), b""))
                    self._text = ""
        return found


def _close(each: socket.socket) -> None:
    with suppress(OSError):
        each.shutdown(socket.SHUT_RDWR)
    each.close()
