"""The other end of every measurement: plain sockets, frames encoded before, lengths counted.

It is told by lines of JSON what to do: ``listen`` and ``accept``, or ``open``; then one of ``blast``,
``swallow``, ``answer``, ``exchange``, ``hold`` and ``shake``; then ``close``.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import sys
import time
import zlib
from collections.abc import Callable
from functools import cache
from typing import Any

import frames
from control import allow_descriptors, pin, reply
from swallow import Swallow

BATCH = 256 * 1024  # bytes of frames in one call
_AT_ONCE = 64 * 1024  # bytes of a feed that are read in one call
HANDS = 64  # opening handshakes at a time

Spec = dict[str, Any]


class Partner:
    def __init__(self) -> None:
        self.listener: socket.socket | None = None
        self.sockets: list[socket.socket] = []
        self.masked = True  # what goes out: this is a client
        self.early = b""  # what came with the opening handshake
        self.contents: list[bytes] = []  # what is sent by one call
        self.batch = b""  # the same in frames
        self.prepared: object = None

    # -- opening and closing -------------------------------------------------------------------

    def listen(self, spec: Spec) -> Spec:
        self.masked = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        return {"port": self.listener.getsockname()[1]}

    def accept(self, spec: Spec) -> Spec:
        assert self.listener is not None
        sock, _ = self.listener.accept()
        self.listener.close()
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.early = frames.server_handshake(sock, deflate=spec["level"] > 0)
        self.sockets.append(sock)
        return {}

    def open(self, spec: Spec) -> Spec:
        self.masked = True
        wanted = spec["connections"]
        while wanted > 0:
            self.sockets += self._open_some(spec, min(wanted, HANDS))
            wanted -= HANDS
        return {}

    def _open_some(self, spec: Spec, count: int) -> list[socket.socket]:
        sockets = [self._connect(spec) for _ in range(count)]
        for sock in sockets:
            sock.sendall(frames.request(spec["port"], deflate=spec["level"] > 0))
        for sock in sockets:
            head, self.early = frames.receive_head(sock)
            frames.check_response(head, deflate=spec["level"] > 0)
        return sockets

    def _connect(self, spec: Spec) -> socket.socket:
        sock = socket.create_connection(("127.0.0.1", spec["port"]))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if spec["tls"]:
            context = _client_context(spec["authority"])
            return context.wrap_socket(sock, server_hostname="127.0.0.1", suppress_ragged_eofs=True)
        return sock

    def close(self, spec: Spec) -> Spec:
        for sock in self.sockets:
            try:
                sock.sendall(frames.close_frame(masked=self.masked))
            except OSError:
                pass  # ended already, by the measurement
        for sock in self.sockets:
            _await_end(sock)
        self.sockets.clear()
        return {}

    # -- what is measured ----------------------------------------------------------------------

    def prepare(self, spec: Spec) -> Spec:
        """Encode what :meth:`blast` sends."""
        wanted = (spec["size"], spec["level"], spec["fragments"], self.masked)
        if self.prepared == wanted:
            return {}
        if spec["level"]:
            contents = [text.encode() for text in frames.texts(spec["size"])]
            messages = [
                frames.frame(frames.TEXT, data, masked=self.masked, rsv1=True)
                for data in frames.compressed(contents, spec["level"])
            ]
        else:
            contents = [frames.payload(spec["size"])] * max(1, BATCH // spec["size"])
            messages = [
                frames.message(frames.BINARY, data, masked=self.masked, fragments=spec["fragments"])
                for data in contents
            ]
        self.batch = b"".join(messages)
        self.contents, self.prepared = contents, wanted
        return {}

    def blast(self, spec: Spec) -> Spec:
        """Send for so many seconds, then Close; the clock stops when that is answered."""
        (sock,) = self.sockets
        send, batch, rounds = sock.sendall, self.batch, 0
        start = now = time.perf_counter()
        deadline = start + spec["seconds"]
        while now < deadline:
            send(batch)
            rounds += 1
            now = time.perf_counter()
        send(frames.close_frame(masked=self.masked))
        sock.recv(1)
        seconds = time.perf_counter() - start
        self._end(sock)
        return {
            "messages": rounds * len(self.contents),
            "bytes": rounds * sum(map(len, self.contents)),
            "seconds": seconds,
            "crc": zlib.crc32(self.contents[-1]),
        }

    def swallow(self, spec: Spec) -> Spec:
        """Count what comes until Close; the clock goes from the first byte to the last."""
        (sock,) = self.sockets
        counted = Swallow(sock, masked=not self.masked)
        counted.run(self.early)
        sock.sendall(frames.close_frame(masked=self.masked))
        self._end(sock)
        return {
            "messages": counted.messages,
            "frames": counted.frames,
            "bytes": counted.bytes,
            "seconds": counted.seconds,
            "start": counted.start_of_message.hex(),
        }

    def absorb(self, spec: Spec) -> Spec:
        """Count what comes on each connection until the last message of the feed; every byte is compared."""
        content = frames.payload(spec["size"])
        frame = frames.frame(frames.BINARY, content, masked=False)
        total, seconds = _absorb(self.sockets, frame, frames.end_of_feed(masked=False))
        return {"messages": total, "bytes": total * spec["size"], "seconds": seconds}

    def answer(self, spec: Spec) -> Spec:
        """Send each message back, of which one is in flight, until Close; the clock starts with the first."""
        (sock,) = self.sockets
        content = frames.payload(spec["size"])
        size = frames.message_size(spec["size"], masked=True)
        back = frames.frame(frames.BINARY, content, masked=False)
        data, count = sock.recv(size), 0
        start = time.perf_counter()
        while data and data[0] & 0xF != frames.CLOSE:
            while len(data) < size:
                data += sock.recv(size - len(data))
            sock.sendall(back)
            count += 1
            data = sock.recv(size)
        seconds = time.perf_counter() - start
        sock.sendall(frames.close_frame(masked=False))
        self._end(sock)
        return {"messages": count, "bytes": count * spec["size"], "seconds": seconds}

    def exchange(self, spec: Spec) -> Spec:
        """One message in flight on each connection: when it has come back, it goes out again."""
        content = frames.payload(spec["size"])
        out = frames.frame(frames.BINARY, content, masked=True)
        back = frames.frame(frames.BINARY, content, masked=False)
        rally = _rally if len(self.sockets) == 1 else _rallies
        start = time.perf_counter()
        messages = rally(self.sockets, out, back, start + spec["seconds"])
        seconds = time.perf_counter() - start
        return {"messages": messages, "bytes": messages * spec["size"], "seconds": seconds}

    def hold(self, spec: Spec) -> Spec:
        """Open so many connections more, exchange a message on each, and leave them open."""
        start = time.perf_counter()
        self.open({**spec, "connections": spec["held"]})
        messages = self.exchange({**spec, "seconds": 0})["messages"]
        return {
            "messages": messages,
            "bytes": messages * spec["size"],
            "seconds": time.perf_counter() - start,
        }

    def shake(self, spec: Spec) -> Spec:
        """Open connections and close them, some at a time, for so many seconds."""
        start = now = time.perf_counter()
        deadline = start + spec["seconds"]
        close = frames.close_frame(masked=True)
        count = 0
        while now < deadline:
            sockets = self._open_some(spec, HANDS)
            for sock in sockets:
                sock.sendall(close)
            for sock in sockets:
                _await_end(sock)
            count += len(sockets)
            now = time.perf_counter()
        return {"messages": count, "bytes": 0, "seconds": now - start}

    def _end(self, sock: socket.socket) -> None:
        if not self.masked:
            sock.shutdown(socket.SHUT_WR)
        _await_end(sock)
        self.sockets.remove(sock)


@cache
def _client_context(authority: str) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=authority)


def _await_end(sock: socket.socket) -> None:
    sock.settimeout(20)
    try:
        while sock.recv(65536):
            pass
    except TimeoutError:
        raise
    except OSError:
        pass  # reset: closed all the same
    sock.close()


def _rally(sockets: list[socket.socket], out: bytes, back: bytes, deadline: float) -> int:
    (sock,) = sockets
    send, receive, clock, size = sock.sendall, sock.recv, time.perf_counter, len(back)
    count = 0
    while True:
        for _ in range(16):
            send(out)
            data = receive(size)
            while len(data) < size:
                data += receive(size - len(data))
            if data != back:
                raise ConnectionError("the echo is not what was sent")
        count += 16
        if clock() >= deadline:
            return count


def _rallies(sockets: list[socket.socket], out: bytes, back: bytes, deadline: float) -> int:
    poll = select.epoll()
    by_number = {sock.fileno(): sock for sock in sockets}
    partial: dict[int, bytes] = {}
    for number, sock in by_number.items():
        poll.register(number, select.EPOLLIN)
        sock.sendall(out)
    count, in_flight, going = 0, len(sockets), time.perf_counter() < deadline
    while in_flight:
        for number, _ in poll.poll():
            data = by_number[number].recv(len(back))
            if data != back:
                data = partial.pop(number, b"") + data
                if data != back:
                    if not data or not back.startswith(data):
                        raise ConnectionError("the echo is not what was sent")
                    partial[number] = data
                    continue
            count += 1
            if going:
                by_number[number].sendall(out)
            else:
                in_flight -= 1
        if going and time.perf_counter() >= deadline:
            going = False
    poll.close()
    return count


def _absorb(sockets: list[socket.socket], frame: bytes, end: bytes) -> tuple[int, float]:
    """How many such frames came until each connection had its last one, and from first to last in seconds."""
    poll = select.epoll()
    by_number = {sock.fileno(): sock for sock in sockets}
    at = dict.fromkeys(by_number, 0)  # bytes of a frame that are there
    size, total, first = len(frame), 0, 0.0
    pattern = frame * (_AT_ONCE // size + 2)
    rest: dict[int, bytes] = {}  # of connections that no longer follow the pattern
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    waiting = len(by_number)
    while waiting:
        for number, _ in poll.poll():
            data = by_number[number].recv(_AT_ONCE)
            if not data:
                raise ConnectionError("the connection ended before the feed")
            first = first or time.perf_counter()
            start = at[number]
            if number not in rest and pattern.startswith(data, start):
                whole, at[number] = divmod(start + len(data), size)
                total += whole
                continue
            data = rest.pop(number, frame[:start]) + data
            while data.startswith(frame):
                data = data[size:]
                total += 1
            if data == end:
                poll.unregister(number)
                waiting -= 1
            elif end.startswith(data) or frame.startswith(data):
                rest[number] = data
            else:
                raise ConnectionError(f"not what was to be sent: {data[:64]!r}")
    poll.close()
    return total, time.perf_counter() - first


def main() -> None:
    pin(sys.argv)
    allow_descriptors()
    partner = Partner()
    for line in sys.stdin:
        spec = json.loads(line)
        act: Callable[[Spec], Spec] = getattr(partner, spec["do"])
        try:
            reply(**act(spec))
        except Exception as error:
            reply(error=f"{type(error).__name__}: {error}")
            raise


if __name__ == "__main__":
    main()
