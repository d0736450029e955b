"""Frames, handshakes and contents, made by hand: what both ends of a measurement agree on.

Nothing here is measured: frames are encoded before the clock starts. Only the standard library is used.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import socket
import zlib
from collections.abc import Iterator, Sequence
from functools import cache

CONTINUATION, TEXT, BINARY, CLOSE = 0x0, 0x1, 0x2, 0x8
FIN, RSV1, MASK = 0x80, 0x40, 0x80
DEFLATE = "permessage-deflate"
CLOSE_SIZE = {False: 4, True: 8}  # bytes of a Close frame with a code, unmasked and masked
END = b"end"  # the last message of a feed
TEXTS = 64  # different messages that are sent, one after the other, where they are compressed

_GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_KEY = base64.b64encode(bytes(range(16))).decode()


def payload(size: int) -> bytes:
    """Bytes that look random, always the same ones; above 1 MiB they repeat."""
    start = random.Random(size).randbytes(min(size, 1024 * 1024))
    return (start * -(-size // len(start)))[:size] if size else b""


@cache
def texts(size: int) -> list[str]:
    """JSON-like texts of about `size` bytes: the same names over and over, other values."""
    source = random.Random(size)
    return [_text(source, size) for _ in range(TEXTS)]


def _text(source: random.Random, size: int) -> str:
    records: list[dict[str, object]] = []
    while len(json.dumps(records)) < size:
        records.append(
            {
                "id": source.getrandbits(32),
                "event": source.choice(["created", "updated", "deleted"]),
                "symbol": "".join(source.choices("ABCDEFGHIJKLMNOP", k=4)),
                "price": round(source.uniform(1, 1000), 2),
                "unit": "degrees Celsius",
                "active": source.random() < 0.5,
            }
        )
    return json.dumps(records)[:size]


def mask(data: bytes, key: bytes) -> bytes:
    size = len(data)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(data, "little") ^ int.from_bytes(stream, "little")).to_bytes(size, "little")


def header(opcode: int, size: int, *, masked: bool, fin: bool = True, rsv1: bool = False) -> bytes:
    """The header, without the masking key."""
    first = opcode | (FIN if fin else 0) | (RSV1 if rsv1 else 0)
    bit = MASK if masked else 0
    if size < 126:
        return bytes([first, bit | size])
    if size < 1 << 16:
        return bytes([first, bit | 126]) + size.to_bytes(2)
    return bytes([first, bit | 127]) + size.to_bytes(8)


def frame(opcode: int, data: bytes, *, masked: bool, fin: bool = True, rsv1: bool = False) -> bytes:
    start = header(opcode, len(data), masked=masked, fin=fin, rsv1=rsv1)
    if not masked:
        return start + data
    key = random.randbytes(4)
    return start + key + mask(data, key)


def end_of_feed(*, masked: bool) -> bytes:
    """The last message of a feed, as a frame."""
    return frame(BINARY, END, masked=masked)


def close_frame(*, masked: bool) -> bytes:
    return frame(CLOSE, (1000).to_bytes(2), masked=masked)


def is_close(data: bytes, *, masked: bool) -> bool:
    """Whether these bytes are what :func:`close_frame` makes."""
    if masked:
        return data[:2] == b"\x88\x82" and mask(data[6:], data[2:6]) == b"\x03\xe8"
    return data == close_frame(masked=False)


def message(opcode: int, data: bytes, *, masked: bool, fragments: int = 1, rsv1: bool = False) -> bytes:
    """One message in so many frames of about the same size."""
    pieces = [data[start:stop] for start, stop in _pieces(len(data), fragments)]
    last = len(pieces) - 1
    return b"".join(
        frame(CONTINUATION if at else opcode, piece, masked=masked, fin=at == last, rsv1=rsv1 and not at)
        for at, piece in enumerate(pieces)
    )


def message_size(size: int, *, masked: bool, fragments: int = 1) -> int:
    """How many bytes :func:`message` makes."""
    sizes = [stop - start for start, stop in _pieces(size, fragments)]
    return sum(len(header(BINARY, each, masked=masked)) + 4 * masked + each for each in sizes)


def _pieces(size: int, fragments: int) -> list[tuple[int, int]]:
    step = -(-size // fragments)
    return [(at, min(at + step, size)) for at in range(0, size, step)]


def compressed(contents: Sequence[bytes], level: int) -> Iterator[bytes]:
    """Each message compressed, with the context of those before (RFC 7692 section 7.2.1).

    The first one refers to nothing, so what is made here may be sent again and again.
    """
    deflater = zlib.compressobj(level, wbits=-15)
    for content in contents:
        data = deflater.compress(content) + deflater.flush(zlib.Z_SYNC_FLUSH)
        yield data.removesuffix(b"\x00\x00\xff\xff")


def inflate(data: bytes) -> bytes:
    return zlib.decompressobj(wbits=-15).decompress(data + b"\x00\x00\xff\xff")


def receive_head(sock: socket.socket) -> tuple[str, bytes]:
    """The head of a request or response, and what came behind it."""
    data = b""
    while b"\r\n\r\n" not in data:
        more = sock.recv(65536)
        if not more:
            raise ConnectionError(f"the connection ended inside the opening handshake: {data!r}")
        data += more
    head, _, rest = data.partition(b"\r\n\r\n")
    return head.decode("latin-1"), rest


def request(port: int, *, deflate: bool) -> bytes:
    extension = f"Sec-WebSocket-Extensions: {DEFLATE}\r\n" if deflate else ""
    return (
        f"GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Key: {_KEY}\r\nSec-WebSocket-Version: 13\r\n{extension}\r\n"
    ).encode()


def answer(key: str, *, deflate: bool) -> bytes:
    extension = f"Sec-WebSocket-Extensions: {DEFLATE}\r\n" if deflate else ""
    return (
        "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        f"Sec-WebSocket-Accept: {_accept(key)}\r\n{extension}\r\n"
    ).encode()


def check_response(head: str, *, deflate: bool) -> None:
    if not head.startswith("HTTP/1.1 101 ") or _accept(_KEY) not in head:
        raise ConnectionError(f"the opening handshake failed: {head}")
    if (DEFLATE in head) != deflate:
        raise ConnectionError(f"compression is not as it should be: {head}")


def _accept(key: str) -> str:
    return base64.b64encode(hashlib.sha1(key.encode() + _GUID).digest()).decode()


def client_handshake(sock: socket.socket, port: int, *, deflate: bool = False) -> bytes:
    """Shake hands as a client; what came behind the response."""
    sock.sendall(request(port, deflate=deflate))
    head, rest = receive_head(sock)
    check_response(head, deflate=deflate)
    return rest


def server_handshake(sock: socket.socket, *, deflate: bool = False) -> bytes:
    """Shake hands as a server; what came behind the request."""
    head, rest = receive_head(sock)
    sock.sendall(response_to(head, deflate=deflate))
    return rest


def response_to(head: str, *, deflate: bool) -> bytes:
    """What a server answers to the head of a request."""
    fields = dict(line.partition(": ")[::2] for line in head.split("\r\n")[1:])
    fields = {name.lower(): value for name, value in fields.items()}
    if deflate and DEFLATE not in fields.get("sec-websocket-extensions", ""):
        raise ConnectionError(f"no compression was offered: {head}")
    return answer(fields["sec-websocket-key"], deflate=deflate)
