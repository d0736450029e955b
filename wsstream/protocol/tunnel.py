"""A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import h11

from wsstream.errors import ProxyError
from wsstream.protocol.authority import bracketed
from wsstream.protocol.handshake import basic_credentials
from wsstream.protocol.http import Headers
from wsstream.protocol.http1_messages import Exchange, what_is_wrong

__all__ = ["TunnelHandshake"]


class TunnelHandshake:
    """The client's side of one CONNECT.

    Args:
        host: where the tunnel ends: a host as in :class:`~wsstream.protocol.url.URL`.
        port: 1 to 65535.
        userinfo: user and password for the proxy, sent by the Basic scheme, or ``None``.
    """

    def __init__(self, host: str, port: int, userinfo: tuple[str, str] | None = None) -> None:
        target = f"{bracketed(host)}:{port}"
        fields = [("Host", target)]
        if userinfo is not None:
            fields.append(("Proxy-Authorization", basic_credentials(*userinfo)))
        self._exchange = Exchange("CONNECT", target, Headers(fields))

    def data_to_send(self) -> bytes:
        """What has to be sent now: the request at the first call, nothing later."""
        return self._exchange.data_to_send()

    def receive_data(self, data: bytes) -> bool:
        """Take what has arrived, ``b""`` for the end of the stream; true: the tunnel is open.

        To be called until it gives true or raises.

        Raises:
            ProxyError: the status is not 2xx, the answer is not HTTP/1.1 or cut off, or something
                follows it: the one who speaks first in the tunnel is the client.
        """
        try:
            response = self._exchange.receive_data(data)
        except EOFError as exc:
            raise ProxyError("the proxy closed the connection before it answered") from exc
        except h11.RemoteProtocolError as exc:
            raise ProxyError(f"the proxy's answer is not HTTP/1.1: {what_is_wrong(exc)}") from exc
        if response is None:
            return False
        if not 200 <= response.status <= 299:
            message = f"the proxy answered CONNECT with HTTP status {response.status}"
            fields = [(name.lower(), value) for name, value in response.headers.items()]
            raise ProxyError(message, response.status, fields, response.body)
        if self._exchange.rest():
            raise ProxyError("the proxy sent something in the tunnel before the client did")
        return True
