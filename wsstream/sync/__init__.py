"""WebSockets without async: the same streams, in plain functions and threads.

A client that saves a large message in a file, and then reads small ones::

    import shutil
    from wsstream.sync import connect

    with connect("wss://feed.example/") as ws:
        with ws.readable.message() as reader, open("copy.img", "wb") as file:
            shutil.copyfileobj(reader, file)  # in bounded memory: slow work here slows the peer
        ws.send("thanks")
        for message in ws:  # str or bytes
            print(message)

Names, options, exceptions and promises are those of :mod:`wsstream`. ``aclose`` is ``close`` here, and what
waits takes a `timeout`, after which it raises ``TimeoutError`` and has lost nothing. Ctrl-C ends each wait as
a cancellation does there. All connections share one event loop, in a thread of its own.
"""

from __future__ import annotations

from wsstream.sync.client import ConnectOptions, connect, reconnect
from wsstream.sync.readable import Readable
from wsstream.sync.reader import MessageReader
from wsstream.sync.serve import ServeOptions, serve
from wsstream.sync.server import Server
from wsstream.sync.websocket import WebSocketStream
from wsstream.sync.writable import Writable
from wsstream.sync.writer import MessageWriter

__all__ = [
    "ConnectOptions",
    "MessageReader",
    "MessageWriter",
    "Readable",
    "ServeOptions",
    "Server",
    "WebSocketStream",
    "Writable",
    "connect",
    "reconnect",
    "serve",
]

for _name in __all__:
    globals()[_name].__module__ = __name__  # where users find it
