"""TLS: the contexts of both ends, for certificates of an authority that the test made."""

from __future__ import annotations

import ssl

import trustme

__all__ = ["NAMES", "client_context", "context_with", "server_context"]

NAMES = ("127.0.0.1", "::1", "localhost", "feed.example")
"""What a server's certificate is for, unless a test says otherwise."""


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate for `names`."""
    return context_with(authority.issue_cert(*(names or NAMES)))


def context_with(certificate: trustme.LeafCert) -> ssl.SSLContext:
    """A server's context with this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    certificate.configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a client that trusts `authority`, and nobody else: reading the system's takes 50 ms."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    authority.configure_trust(context)
    return context
