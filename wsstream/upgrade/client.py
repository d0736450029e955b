"""The client's side of the opening handshake over a transport, for `connect`."""

from __future__ import annotations

from collections.abc import Sequence

from wsstream.driver.driver import Driver
from wsstream.driver.options import ConnectionOptions
from wsstream.errors import HandshakeError
from wsstream.opening.deflate_offer import confirm_response
from wsstream.opening.extensions import Extension, format_extensions
from wsstream.opening.http1 import ClientHandshake
from wsstream.opening.url import URL
from wsstream.protocol.connection import Connection
from wsstream.protocol.deflate import Agreed
from wsstream.streams.websocket import WebSocketStream
from wsstream.transports.base import Transport, release
from wsstream.transports.failures import add_tls_hint
from wsstream.transports.round_trip import round_trip

__all__ = ["ClientUpgrade"]


class ClientUpgrade:
    """One opening handshake, seen from the client.

    Args:
        transport: owned from now on.
        url: where `transport` leads.
        handshake: the request to send, and what it offers.
        options: those of the connection.
    """

    def __init__(
        self, transport: Transport, url: URL, handshake: ClientHandshake, options: ConnectionOptions
    ) -> None:
        self._transport = transport
        self._url = url
        self._handshake = handshake
        self._options = options

    async def run(self) -> WebSocketStream:
        """Return the open connection. If this fails or is cancelled, the transport is released.

        Raises:
            HandshakeRejected: the server sent a response other than 101.
            HandshakeError: the response does not open a WebSocket.
            ssl.SSLError: TLS broke.
        """
        try:
            accepted = await round_trip(self._transport, self._handshake)
            deflate = self._confirm_deflate(accepted.extensions)
        except BaseException as error:
            await release(self._transport)
            if isinstance(error, OSError):
                add_tls_hint(error, plain="ws")
            raise
        connection = Connection(client=True, deflate=deflate)
        driver = Driver(self._transport, connection, accepted.trailing, self._options)
        driver.start()
        return WebSocketStream(
            driver,
            url=self._url,
            subprotocol=accepted.subprotocol,
            extensions=format_extensions(accepted.extensions),
            request=self._handshake.request,
            response=accepted.response,
        )

    def _confirm_deflate(self, accepted: Sequence[Extension]) -> Agreed | None:
        # RFC 7692 section 7.1: a response with parameters that the client cannot accept fails the connection.
        if self._options.compression is None:
            return None
        try:
            return confirm_response(self._options.compression, accepted)
        except ValueError as error:
            raise HandshakeError(f"the server's Sec-WebSocket-Extensions are wrong: {error}") from error
