"""Connections by a proxy which speaks the PROXY protocol: its header comes before everything else."""

from __future__ import annotations

import socket

from wsstream.errors import HandshakeError
from wsstream.opening.forwarded import TrustedProxies
from wsstream.opening.peer import PeerAddress
from wsstream.opening.proxy_header import ProxyHeader, ProxyHeaderError
from wsstream.transports.eventloop import event_loop

__all__ = ["read_proxy_header"]

_READ_SIZE = 512  # bytes; a header is seldom longer


async def read_proxy_header(sock: socket.socket, peer: PeerAddress, proxies: TrustedProxies) -> PeerAddress:
    """Read the header from a non-blocking socket, and no byte after it; return the client's address.

    That is the address of `peer` if the proxy speaks for itself. If cancelled, some of the header is read, so
    that the socket must be closed.

    Raises:
        HandshakeError: `peer` is not one of `proxies`, or sent no header.
        OSError: the connection broke.
    """
    if not proxies.trusts(peer):
        raise HandshakeError("only trusted proxies may connect, as proxy_protocol is on")
    header, loop = ProxyHeader(), event_loop()
    while not header.is_complete:
        try:
            seen = sock.recv(_READ_SIZE, socket.MSG_PEEK)
        except BlockingIOError:
            await loop.wait_readable(sock)
            continue
        if not seen:
            raise HandshakeError("the proxy closed the connection before it sent the PROXY protocol")
        try:
            sock.recv(header.receive_data(seen))
        except ProxyHeaderError as error:
            raise HandshakeError(str(error)) from error
    return peer if header.source is None else header.source
