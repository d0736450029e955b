"""The options of every command, and those that clients and servers have in common."""

from __future__ import annotations

import argparse

from wsstream.cli.options.values import duration, limit

__all__ = ["add_common_options", "add_connection_options", "add_tls_files"]


def add_common_options(parser: argparse.ArgumentParser) -> None:
    """Add what every command has."""
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio"),
        default="asyncio",
        help="the event loop; asyncio is uvloop where that is installed (asyncio)",
    )
    parser.add_argument("--json", action="store_true", help="report events on stderr as JSON, one a line")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-q", "--quiet", action="store_true", help="nothing but errors on stderr")
    output.add_argument(
        "-v",
        "--verbose",
        action="count",
        default=argparse.SUPPRESS,
        help="log to stderr; -vv logs more",
    )


def add_connection_options(parser: argparse.ArgumentParser) -> None:
    """Add the options of a connection, whichever side opens it."""
    group = parser.add_argument_group("connection", "TIME is 250ms, 10s, 5m or none; SIZE is 64k, 1M or none")
    for name, default, text in (
        ("--open-timeout", 10.0, "how long opening may take: TCP, TLS, proxy and handshake (10s)"),
        ("--close-timeout", 10.0, "how long the closing handshake may take (10s)"),
        ("--ping-interval", 20.0, "send a Ping when nothing has come for so long (20s)"),
        (
            "--ping-timeout",
            20.0,
            "give the peer up when it shows no sign of life for so long after that (20s)",
        ),
    ):
        group.add_argument(name, metavar="TIME", type=duration, default=default, help=text)
    group.add_argument(
        "--compress", action="store_true", help="compress messages (permessage-deflate) if the peer does, too"
    )
    group.add_argument(
        "--max-message",
        metavar="SIZE",
        type=limit,
        default=1 << 20,
        help="the largest message that is held whole, where a framing needs that (1M)",
    )


def add_tls_files(group: argparse._ArgumentGroup, whose: str) -> None:
    """Add the files of a certificate."""
    group.add_argument("--cert", metavar="FILE", help=f"the certificate of the {whose}, PEM")
    group.add_argument("--key", metavar="FILE", help="its private key, if that is not in the same file")
