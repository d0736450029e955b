"""TLS: the contexts of both ends, for certificates of an authority that the test made."""

from __future__ import annotations

import ssl

import trustme

__all__ = ["NAMES", "client_context", "server_context"]

NAMES = ("127.0.0.1", "::1", "localhost", "feed.example")
"""What a server's certificate is for, unless a test says otherwise."""


def server_context(authority: trustme.CA, *names: str) -> ssl.SSLContext:
    """A server's context with a certificate for `names`."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(*(names or NAMES)).configure_cert(context)
    return context


def client_context(authority: trustme.CA) -> ssl.SSLContext:
    """The context of a client that trusts `authority`."""
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context
