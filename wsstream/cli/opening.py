"""Opening a connection as the options of clients say."""

from __future__ import annotations

import argparse
import ssl
from collections.abc import Callable, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import Any, TypeAlias

import anyio

from wsstream.cli.credentials import header_fields, read_token
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.client.connect import connect
from wsstream.client.connector import OpenStream
from wsstream.driver.options import ConnectionKeywords
from wsstream.protocol.deflate import Deflate
from wsstream.streams.websocket import WebSocketStream

__all__ = ["Dial", "client_keywords", "connection_keywords", "dial_of", "load_certificate"]

Dial: TypeAlias = Callable[[], AbstractAsyncContextManager[WebSocketStream]]
"""Makes the context manager of one connection."""


def dial_of(
    options: argparse.Namespace, url: str, subprotocols: Sequence[str] = (), *, with_token: bool = True
) -> Dial:
    """Return what opens connections to `url`. Everything that can be checked before is checked now.

    Args:
        options: the command line.
        url: the server's.
        subprotocols: those to offer if the command line has none.
        with_token: send the token that the command line or the environment has.

    Raises:
        CommandFailed: an option is wrong, or a file cannot be read.
    """
    if options.subprotocols:
        subprotocols = [name for name in options.subprotocols if name]
    keywords = client_keywords(options, url, with_token=with_token)
    return _checked(url, {**keywords, "subprotocols": subprotocols})


def client_keywords(options: argparse.Namespace, url: str, *, with_token: bool = True) -> dict[str, Any]:
    """Return the keywords of `connect` for `url`, but `subprotocols`. They serve for several connections.

    Args:
        options, url, with_token: as for :func:`dial_of`.

    Raises:
        CommandFailed: as :func:`dial_of`.
    """
    fields = header_fields(options)
    token = read_token(options) if with_token else None
    if token is not None and all(name.lower() != "authorization" for name, _ in fields):
        fields.append(("Authorization", f"Bearer {token}"))
    keywords: dict[str, Any] = {
        "headers": fields,
        "origin": options.origin,
        "ssl": _client_context(options, with_certificate=with_token),
        "proxy": options.proxy,
        "transport": _transport(options),
        **connection_keywords(options),
    }
    _checked(url, keywords)
    return keywords


def _checked(url: str, keywords: dict[str, Any]) -> Dial:
    """Return what opens connections, once `connect` has checked the arguments; that does no I/O."""
    dial = partial(connect, url, **keywords)
    try:
        dial()
    except (TypeError, ValueError, ImportError) as error:  # InvalidURL is a ValueError
        raise CommandFailed(Exit.USAGE, str(error)) from None
    return dial


def connection_keywords(options: argparse.Namespace) -> ConnectionKeywords:
    """Return the options of a connection, for `connect` and `serve`."""
    return ConnectionKeywords(
        max_message_size=options.max_message,
        compression=Deflate() if options.compress else None,
        open_timeout=options.open_timeout,
        close_timeout=options.close_timeout,
        ping_interval=options.ping_interval,
        ping_timeout=options.ping_timeout,
    )


def _client_context(options: argparse.Namespace, *, with_certificate: bool) -> ssl.SSLContext | None:
    """A TLS context, if an option asks for more than the default one."""
    certificate = options.cert if with_certificate else None
    if not (options.insecure or options.cafile or certificate):
        return None
    try:
        context = ssl.create_default_context(cafile=options.cafile)
    except ssl.SSLError as error:
        raise CommandFailed(Exit.TLS, f"{options.cafile}: {error}") from None
    except OSError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{options.cafile}: {error.strerror}") from None
    if options.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate:
        load_certificate(context, options)
    return context


def load_certificate(context: ssl.SSLContext, options: argparse.Namespace) -> None:
    """Load ``--cert`` and ``--key``.

    Raises:
        CommandFailed: a file cannot be read, or the two do not belong together.
    """
    try:
        context.load_cert_chain(options.cert, options.key)
    except ssl.SSLError as error:
        raise CommandFailed(Exit.TLS, f"{options.cert}: {error.reason or error}") from None
    except OSError as error:
        raise CommandFailed(Exit.LOCAL_IO, f"{options.cert}: {error.strerror}") from None


def _transport(options: argparse.Namespace) -> OpenStream | None:
    if options.connect_to is not None:
        host, port = options.connect_to
        return partial(anyio.connect_tcp, host, port)
    return None if options.unix is None else partial(anyio.connect_unix, options.unix)
