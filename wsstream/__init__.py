"""One WebSocket, two async streams, with backpressure, on asyncio and trio."""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # as type checkers read it; importing typing would cost the command line 10 ms
if TYPE_CHECKING:
    from typing import Any

    from wsstream.client.attempts import Target as Target
    from wsstream.client.connect import connect as connect
    from wsstream.client.reconnect import reconnect as reconnect
    from wsstream.driver.flow import FlowControl as FlowControl
    from wsstream.errors import ClosedLocally as ClosedLocally
    from wsstream.errors import CloseInfo as CloseInfo
    from wsstream.errors import ConnectionBroken as ConnectionBroken
    from wsstream.errors import ConnectionClosed as ConnectionClosed
    from wsstream.errors import HandshakeError as HandshakeError
    from wsstream.errors import HandshakeRejected as HandshakeRejected
    from wsstream.errors import InvalidURL as InvalidURL
    from wsstream.errors import InvalidUTF8 as InvalidUTF8
    from wsstream.errors import KeepaliveTimeout as KeepaliveTimeout
    from wsstream.errors import MessageAborted as MessageAborted
    from wsstream.errors import MessageTooBig as MessageTooBig
    from wsstream.errors import ProtocolViolation as ProtocolViolation
    from wsstream.errors import ProxyError as ProxyError
    from wsstream.errors import ReceiveTimeout as ReceiveTimeout
    from wsstream.errors import StreamEnded as StreamEnded
    from wsstream.errors import WebSocketError as WebSocketError
    from wsstream.opening.decision import Accept as Accept
    from wsstream.opening.headers import Headers as Headers
    from wsstream.opening.http import Request as Request
    from wsstream.opening.http import Response as Response
    from wsstream.opening.retry import Backoff as Backoff
    from wsstream.protocol.arrival import ReceiveRate as ReceiveRate
    from wsstream.protocol.deflate import Deflate as Deflate
    from wsstream.server.accept import accept as accept
    from wsstream.server.serve import Server as Server
    from wsstream.server.serve import serve as serve
    from wsstream.streams.condition import ConnectionState as ConnectionState
    from wsstream.streams.join import join as join
    from wsstream.streams.pipe import pipe as pipe
    from wsstream.streams.pipe import proxy as proxy
    from wsstream.streams.readable import Readable as Readable
    from wsstream.streams.reader import MessageReader as MessageReader
    from wsstream.streams.websocket import Statistics as Statistics
    from wsstream.streams.websocket import WebSocketStream as WebSocketStream
    from wsstream.streams.writable import Writable as Writable
    from wsstream.streams.writer import MessageWriter as MessageWriter

__version__ = "0.1.0"

# Imported at first use: the command line answers --help without loading anyio and h11.
_HOMES = {
    "wsstream.opening.decision": ("Accept",),
    "wsstream.client.attempts": ("Target",),
    "wsstream.client.connect": ("connect",),
    "wsstream.errors": (
        "CloseInfo",
        "ClosedLocally",
        "ConnectionBroken",
        "ConnectionClosed",
        "HandshakeError",
        "HandshakeRejected",
        "InvalidURL",
        "InvalidUTF8",
        "KeepaliveTimeout",
        "MessageAborted",
        "MessageTooBig",
        "ProtocolViolation",
        "ProxyError",
        "ReceiveTimeout",
        "StreamEnded",
        "WebSocketError",
    ),
    "wsstream.protocol.arrival": ("ReceiveRate",),
    "wsstream.protocol.deflate": ("Deflate",),
    "wsstream.opening.headers": ("Headers",),
    "wsstream.opening.http": ("Request", "Response"),
    "wsstream.opening.retry": ("Backoff",),
    "wsstream.client.reconnect": ("reconnect",),
    "wsstream.server.accept": ("accept",),
    "wsstream.server.serve": ("Server", "serve"),
    "wsstream.streams.condition": ("ConnectionState",),
    "wsstream.driver.flow": ("FlowControl",),
    "wsstream.streams.join": ("join",),
    "wsstream.streams.reader": ("MessageReader",),
    "wsstream.streams.writer": ("MessageWriter",),
    "wsstream.streams.pipe": ("pipe", "proxy"),
    "wsstream.streams.readable": ("Readable",),
    "wsstream.streams.websocket": ("Statistics", "WebSocketStream"),
    "wsstream.streams.writable": ("Writable",),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__all__ = [  # noqa: RUF022 - sorted without regard to case
    "accept",
    "Accept",
    "Backoff",
    "ClosedLocally",
    "CloseInfo",
    "connect",
    "ConnectionBroken",
    "ConnectionClosed",
    "ConnectionState",
    "Deflate",
    "FlowControl",
    "HandshakeError",
    "HandshakeRejected",
    "Headers",
    "InvalidURL",
    "InvalidUTF8",
    "join",
    "KeepaliveTimeout",
    "MessageAborted",
    "MessageReader",
    "MessageTooBig",
    "MessageWriter",
    "pipe",
    "ProtocolViolation",
    "proxy",
    "ProxyError",
    "Readable",
    "ReceiveRate",
    "ReceiveTimeout",
    "reconnect",
    "Request",
    "Response",
    "serve",
    "Server",
    "Statistics",
    "StreamEnded",
    "Target",
    "WebSocketError",
    "WebSocketStream",
    "Writable",
]


def __getattr__(name: str) -> Any:
    home = _HOME_OF.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
