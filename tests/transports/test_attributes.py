"""What a transport knows of its connection, in anyio's words."""

from __future__ import annotations

import anyio
import pytest
from anyio.abc import SocketAttribute
from anyio.streams.tls import TLSAttribute

from wsstream.testing import memory_pair
from wsstream.transports.anyio_stream import StreamTransport
from wsstream.transports.attributes import TransportAttributes
from wsstream.transports.sockets import SocketTransport
from wsstream.transports.tls import TLSTransport

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


async def test_a_socket_knows_its_addresses(pair: tuple[SocketTransport, SocketTransport]) -> None:
    transport = pair[0]
    attributes = TransportAttributes(transport)
    assert attributes.extra(SocketAttribute.remote_address) == transport.extra("peername")
    assert attributes.extra(SocketAttribute.local_address) == transport.extra("sockname")
    assert attributes.extra(SocketAttribute.raw_socket) is transport.extra("socket")
    with pytest.raises(anyio.TypedAttributeLookupError):
        attributes.extra(TLSAttribute.ssl_object)


async def test_what_is_not_known_is_not_there() -> None:
    attributes = TransportAttributes(StreamTransport(memory_pair()[0]))
    assert attributes.extra_attributes == {}
    assert attributes.extra(SocketAttribute.remote_address, "unknown") == "unknown"


async def test_a_closed_socket_knows_no_address_any_more(
    pair: tuple[SocketTransport, SocketTransport],
) -> None:
    attributes = TransportAttributes(pair[0])
    pair[0].close()
    assert attributes.extra(SocketAttribute.remote_address, None) is None


async def test_tls_knows_the_certificate_and_what_was_agreed_on(
    tls_pair: tuple[TLSTransport, TLSTransport],
) -> None:
    client, server = map(TransportAttributes, tls_pair)
    tls = tls_pair[0].extra("ssl_object")
    assert client.extra(TLSAttribute.ssl_object) is tls
    assert client.extra(TLSAttribute.peer_certificate)["subjectAltName"] == (("DNS", "localhost"),)
    assert client.extra(TLSAttribute.peer_certificate_binary) == tls.getpeercert(True)
    assert client.extra(TLSAttribute.tls_version) == server.extra(TLSAttribute.tls_version) == tls.version()
    assert client.extra(TLSAttribute.cipher) == tls.cipher()
    assert client.extra(TLSAttribute.alpn_protocol) == tls.selected_alpn_protocol()
    assert server.extra(TLSAttribute.peer_certificate) is None  # the client has none
