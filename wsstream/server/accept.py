"""`accept`: the server's side over one byte stream that is already open."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import Unpack

import anyio
from anyio.abc import ByteStream

from wsstream.display import never_raises
from wsstream.driver.options import ConnectionOptions, ServerKeywords
from wsstream.opening.decision import ProcessRequest
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.origins import OriginsArgument
from wsstream.streams.block import AsyncBlock
from wsstream.streams.close_on_exit import leave
from wsstream.streams.websocket import WebSocketStream, ending_of
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.upgrade.server import ServerUpgrade, UpgradePolicy

__all__ = ["accept"]


def accept(
    transport: ByteStream,
    *,
    subprotocols: Iterable[str] = (),
    origins: OriginsArgument = "same",
    hosts: Iterable[str] | None = None,
    trusted_proxies: Iterable[str] = (),
    process_request: ProcessRequest | None = None,
    **options: Unpack[ServerKeywords],
) -> AbstractAsyncContextManager[WebSocketStream]:
    """``async with accept(stream) as ws``: the server's side over a byte stream that is already open.

    The arguments are checked at once. Entering does the opening handshake; if that fails or is cancelled, the
    stream is closed. Leaving the block closes as leaving that of :func:`connect` does.

    Args:
        transport: the stream; owned from now on.
        subprotocols, origins, hosts, trusted_proxies, process_request: as for :func:`serve`.
        options: those of :func:`serve` that concern one connection: `max_message_size`, `compression`,
            `flow`, `open_timeout`, `close_timeout`, `ping_interval`, `ping_timeout`, `receive_timeout` and
            `receive_rate`, with the same defaults.

    Raises:
        TypeError, ValueError: an argument is wrong.
        HandshakeError: on entering: the client sent no opening handshake, or it was rejected; then the
            response was sent.
        TimeoutError: on entering: `open_timeout` has passed; the message says what was waited for.
    """
    checked = ConnectionOptions.of_keywords("accept", options)
    policy = UpgradePolicy(
        subprotocols,
        origins,
        process_request,
        checked,
        hosts=hosts,
        trusted_proxies=TrustedProxies(trusted_proxies),
    )
    return _Accept(transport, policy)


class _Accept(AsyncBlock[WebSocketStream]):
    use = "accept(stream) as ws"

    def __init__(self, stream: ByteStream, policy: UpgradePolicy) -> None:
        self._stream = stream
        self._policy = policy
        self._ws: WebSocketStream | None = None

    @never_raises
    def __repr__(self) -> str:
        return f"<accept: {self._ws or type(self._stream).__name__!r}>"

    async def __aenter__(self) -> WebSocketStream:
        self.enter_once()
        timeout = self._policy.options.open_timeout
        transport = StreamTransport(self._stream)
        upgrade = ServerUpgrade(self._policy, transport, transport.extra("peername"))
        with anyio.move_on_after(timeout):
            self._ws = await upgrade.run()
            return self._ws
        raise TimeoutError(
            f"the opening handshake did not end within open_timeout, {timeout} s: "
            f"still waiting for {upgrade.waiting_for}"
        )

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, tb: TracebackType | None
    ) -> None:
        assert self._ws is not None
        await leave(ending_of(self._ws), exc)
