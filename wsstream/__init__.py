"""One WebSocket, two async streams, with backpressure, on asyncio and trio.

A server that sends back what it receives, and a client::

    import anyio
    from wsstream import connect, serve

    async def echo(ws):
        async for message in ws:  # str or bytes
            await ws.send(message)

    async def main():
        async with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
            await ws.send("hello")
            print(await ws.receive())

    anyio.run(main)  # or backend="trio"

The names, by purpose:

- Opening: `connect`, `reconnect` with its `Target` and `Backoff`; `serve` with its `Server`, `accept`;
  `Router`, for several handlers. `listen_fds` takes the sockets of systemd, each an `ActivatedSocket`.
- A connection: `WebSocketStream`, whose halves are `Readable` and `Writable`. A message in chunks:
  `MessageReader`, `MessageWriter`. What is known of it: `ConnectionState`, `Statistics`.
- From stream to stream: `pipe`, `proxy`, `join`. Messages as objects: `typed` makes a `TypedStream`.
- Options: `FlowControl`, `Deflate`, `ReceiveRate`.
- The opening handshake: `Request`, `Response`, `Headers`, `Accept`.
- How a connection ended: `CloseInfo`, `CloseCode`.
- Errors: `WebSocketError` is the base of all. Opening raises `InvalidURL`, `HandshakeError`,
  `HandshakeRejected`, `ProxyError`. An open connection raises `ConnectionClosed`, which is `StreamEnded`,
  `ClosedLocally` or `ConnectionBroken`. The cause is `MessageTooBig`, `InvalidUTF8`, `ProtocolViolation`,
  `MessageAborted`, `KeepaliveTimeout` or `ReceiveTimeout`.

`wsstream.testing` helps to test what is built with them.
"""

from __future__ import annotations

from importlib import import_module

__version__ = "0.1.0"

TYPE_CHECKING = False  # as type checkers read it; importing typing would cost the command line 10 ms
if TYPE_CHECKING:
    from wsstream.public import *  # noqa: F403 - so each name is written once
else:
    # The public names are loaded when one of them is first used: the command line answers --help without
    # anyio and h11. `from wsstream import *` and help() ask for __all__, which is made then, too. Hidden from
    # type checkers, for which a module with __getattr__ has every name.

    def _load() -> None:
        from typing import get_type_hints

        public = vars(import_module("wsstream.public"))
        names = {name: value for name, value in public.items() if name[0] != "_"}
        for value in names.values():
            if isinstance(value, type) and (own := vars(value).get("__annotations__")):
                own.update((name, hint) for name, hint in get_type_hints(value).items() if name in own)
            value.__module__ = __name__  # where users find it; tracebacks, help() and pickles show this name
        globals().update(names, __all__=sorted(names, key=str.lower))

    def __getattr__(name: str) -> object:
        if name == "__all__" or not name.startswith("_"):
            _load()
            if name in globals():
                return globals()[name]
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

    def __dir__() -> list[str]:
        _load()
        return sorted(globals())
