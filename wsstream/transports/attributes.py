"""The properties of a connection as anyio's typed attributes: addresses, socket, TLS."""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from anyio import TypedAttributeProvider
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from wsstream.transports.base import Transport

__all__ = ["ATTRIBUTES", "TransportAttributes"]

ATTRIBUTES: dict[str, Any] = {
    "peername": SocketAttribute.remote_address,
    "sockname": SocketAttribute.local_address,
    "socket": SocketAttribute.raw_socket,
    "ssl_object": TLSAttribute.ssl_object,
}
"""The names that :meth:`Transport.extra` knows, and anyio's attributes for them."""

_OF_TLS: Sequence[tuple[Any, Callable[[ssl.SSLObject], object]]] = (
    (TLSAttribute.alpn_protocol, lambda tls: tls.selected_alpn_protocol()),
    (TLSAttribute.cipher, lambda tls: tls.cipher()),
    (TLSAttribute.peer_certificate, lambda tls: tls.getpeercert(False)),
    (TLSAttribute.peer_certificate_binary, lambda tls: tls.getpeercert(True)),
    (TLSAttribute.tls_version, lambda tls: tls.version()),
)


class TransportAttributes(TypedAttributeProvider):
    """The typed attributes of a transport, without those that it does not know."""

    __slots__ = ("_transport",)

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def extra_attributes(self) -> Mapping[Any, Callable[[], Any]]:
        """The attributes that are known now."""
        lookup = self._transport.extra
        known: dict[Any, Callable[[], Any]] = {
            key: partial(lookup, name) for name, key in ATTRIBUTES.items() if lookup(name) is not None
        }
        if (tls := lookup("ssl_object")) is not None:
            known |= {key: partial(value, tls) for key, value in _OF_TLS}
        return known
