"""A tunnel through an HTTP proxy: CONNECT (RFC 9110 section 9.3.6)."""

from __future__ import annotations

import h11

from wsstream.errors import ProxyError, first_line
from wsstream.opening.authority import bracketed
from wsstream.opening.handshake import basic_credentials
from wsstream.opening.headers import HeaderPairs, Headers
from wsstream.opening.http import Response
from wsstream.opening.http1_request import RequestResponse
from wsstream.opening.proxy_url import Proxy

__all__ = ["TunnelHandshake", "validate_proxy_headers"]

# Host names the end of the tunnel; the others are about a body, which CONNECT does not have, or the
# connection.
_RESERVED = frozenset({"host", "connection", "upgrade", "content-length", "transfer-encoding"})


def validate_proxy_headers(headers: HeaderPairs | None) -> Headers:
    """Check the header fields that an application adds to CONNECT, and return them.

    Raises:
        TypeError: a name or a value is not a ``str``.
        ValueError: a field is malformed, or is one that CONNECT sets itself.
    """
    fields = Headers(() if headers is None else headers)
    if reserved := _RESERVED.intersection(fields):
        raise ValueError(
            f"proxy_headers must not have {', '.join(sorted(reserved))}: wsstream sets that itself"
        )
    return fields


class TunnelHandshake:
    """The client's side of one CONNECT.

    Args:
        proxy: the proxy. Its userinfo is sent by the Basic scheme, unless `headers` has a
            ``Proxy-Authorization``.
        host: where the tunnel ends: a host as in :class:`~wsstream.opening.url.URL`.
        port: 1 to 65535.
        headers: more header fields, as :func:`validate_proxy_headers` returned them.
    """

    def __init__(self, proxy: Proxy, host: str, port: int, headers: Headers = Headers()) -> None:  # noqa: B008 - immutable
        target = f"{bracketed(host)}:{port}"
        fields = [("Host", target)]
        if proxy.userinfo is not None and "proxy-authorization" not in headers:
            fields.append(("Proxy-Authorization", basic_credentials(*proxy.userinfo)))
        self._proxy = proxy
        self._request_response = RequestResponse("CONNECT", target, Headers([*fields, *headers.items()]))

    def data_to_send(self) -> bytes:
        """The request at the first call, nothing later."""
        return self._request_response.data_to_send()

    @property
    def head_received(self) -> bool:
        """Whether the proxy refused, and at most a part of its response's body is missing."""
        return self._request_response.head_received

    def receive_data(self, data: bytes) -> Response | None:
        """Parse received data, ``b""`` at the end of the stream; ``None`` means that more is needed.

        Call this until it returns a response, whose status is 2xx: then the tunnel is open; or until it
        raises. Once `head_received` is true, ``b""`` may be given though the stream goes on.

        Raises:
            ProxyError: the status is not 2xx, the response is not HTTP/1.1 or is cut off, or data follows
                it: the client speaks first in the tunnel.
        """
        try:
            response = self._request_response.receive_data(data)
        except EOFError as exc:
            raise self._failure("closed the connection before it answered") from exc
        except h11.RemoteProtocolError as exc:
            raise self._failure(f"sent a response that cannot be read: {exc}") from exc
        if response is not None and not 200 <= response.status <= 299:
            raise self._refusal(response)
        if response is not None and self._request_response.rest():
            raise self._failure("sent unexpected data after its response")
        return response

    def broken(self, cause: Exception) -> ProxyError:
        """The error for a connection that broke before the proxy responded. The message names `cause`."""
        return self._failure(f"did not answer before the connection to it broke: {cause}")

    def _failure(self, what: str) -> ProxyError:
        error = ProxyError(f"the proxy {self._proxy} {what}")
        if self._proxy.scheme == "http" and self._request_response.may_be_tls:
            error.hint = "if the proxy speaks TLS, use https:// in its URL"
        return error

    def _refusal(self, response: Response) -> ProxyError:
        message = f"the proxy {self._proxy} answered CONNECT with HTTP status {response.status}"
        fields = [(name.lower(), value) for name, value in response.headers.items()]
        return ProxyError(message + first_line(response.body), response.status, fields, response.body)
