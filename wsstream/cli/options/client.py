"""The options of commands that open a connection; `wsstream.cli.opening` does what they say."""

from __future__ import annotations

import argparse

from wsstream.cli.options.common import add_tls_files
from wsstream.cli.options.values import address

__all__ = ["add_client_options"]

_OR_SERVER = ", or if this side listens for WebSockets, let in requests with it and no others"


def add_client_options(
    parser: argparse.ArgumentParser, *, may_serve: bool = False, subprotocols: bool = True
) -> None:
    """Add the options of a client.

    Args:
        parser: the command's.
        may_serve: some of the options are those of its server, if it serves.
        subprotocols: the user may say which to offer; otherwise the command does.
    """
    group = parser.add_argument_group("client")
    if subprotocols:
        group.add_argument(
            "-s",
            "--subprotocol",
            metavar="NAME",
            action="append",
            default=[],
            dest="subprotocols",
            help="a subprotocol to offer; may be repeated, the preferred first",
        )
    else:
        parser.set_defaults(subprotocols=[])
    group.add_argument(
        "-H",
        "--header",
        metavar="'NAME: VALUE'",
        action="append",
        default=[],
        dest="headers",
        help="a further header field; @FILE reads one a line from a file, which keeps secrets off the command"
        " line",
    )
    group.add_argument("--origin", metavar="ORIGIN", dest="origin", help="the Origin header field")
    group.add_argument(
        "--token-file",
        metavar="FILE",
        help=("send the token in FILE as 'Authorization: Bearer'" + _OR_SERVER * may_serve)
        + "; by default that in WSSTREAM_TOKEN, if that is set",
    )
    group.add_argument("-k", "--insecure", action="store_true", help="do not verify the server's certificate")
    group.add_argument("--cafile", metavar="FILE", help="trust the authorities in FILE, PEM, and no others")
    add_tls_files(group, "side that listens for WebSockets, or of the client" if may_serve else "client")
    route = group.add_mutually_exclusive_group()
    route.add_argument(
        "--connect-to", metavar="HOST:PORT", type=address, help="connect there, whatever host the URL names"
    )
    route.add_argument("--unix", metavar="PATH", help="connect to a Unix socket, whatever host the URL names")
    route.add_argument(
        "--proxy",
        metavar="URL",
        help="an http, https, socks5 or socks5h proxy, or 'env' for the one that the environment names",
    )
