"""The options of commands that listen; `wsstream.cli.serving` does what they say."""

from __future__ import annotations

import argparse

from wsstream.cli.options.common import add_tls_files
from wsstream.cli.options.values import count, duration

__all__ = ["add_bind_option", "add_server_options"]


def add_bind_option(parser: argparse.ArgumentParser, *, path: str = "") -> None:
    """Add where to listen; `bridge` has it in its endpoints instead. `path`: more help for ``--path``."""
    parser.add_argument(
        "--bind",
        metavar="ADDR",
        action="append",
        default=[],
        help="where to listen: [HOST:]PORT, on loopback without a host, on all interfaces with the host *;"
        " port 0 is a free one; or unix:PATH; or systemd, systemd:NAME for the sockets that systemd opened."
        " May be repeated (:8765)",
    )
    parser.add_argument(
        "--path",
        metavar="PATH",
        help=f"serve this path alone, such as /{parser.prog.split()[-1]}; others get 404{path} (all)",
    )


def add_server_options(
    parser: argparse.ArgumentParser, *, shared: bool = False, title: str = "server", lasting: bool = True
) -> None:
    """Add the options of a server.

    Args:
        parser: the command's.
        shared: those that clients have too are not added again.
        title: of the group.
        lasting: with ``--once`` and ``--drain``; a command without them ends when it has been served.
    """
    group = parser.add_argument_group(
        title,
        "'GET /healthz' is answered with 200 while new clients are welcome; SIGHUP loads --cert and --key"
        " again",
    )
    if not shared:
        add_tls_files(group, "server")
        group.add_argument(
            "--token-file",
            metavar="FILE",
            help="let in requests with the token in FILE as 'Authorization: Bearer', and no others; by"
            " default that in WSSTREAM_TOKEN, if that is set",
        )
        group.add_argument(
            "--origin",
            metavar="ORIGIN",
            action="append",
            default=[],
            dest="origins",
            help="let in web pages of this origin; may be repeated; * for all (none)",
        )
    else:
        group.add_argument(
            "--allow-origin",
            metavar="ORIGIN",
            action="append",
            default=[],
            dest="origins",
            help="let in web pages of this origin; may be repeated; * for all (none)",
        )
    group.add_argument(
        "--allow-host",
        metavar="HOST",
        action="append",
        default=[],
        dest="hosts",
        help="a name under which the server may be asked for; others get 421. May be repeated; * for all"
        " (those of this machine if it listens on loopback only, else all)",
    )
    group.add_argument(
        "--trusted-proxy",
        metavar="ADDR",
        action="append",
        default=[],
        dest="trusted_proxies",
        help="believe what the proxy at this address or in this network says of its clients (Forwarded,"
        " X-Forwarded-*); may be repeated; unix for one on a Unix socket",
    )
    group.add_argument(
        "--proxy-protocol",
        action="store_true",
        help="connections come from the trusted proxies only, and begin with the PROXY protocol",
    )
    group.add_argument(
        "--max-connections",
        metavar="N",
        type=count,
        default=1000,
        help="how many at a time; others get 503, or wait where bytes come in (1000)",
    )
    group.add_argument(
        "--max-connections-per-client",
        metavar="N",
        type=count,
        help="how many WebSockets one address, or one IPv6 /64, may have; more get 429 (no limit)",
    )
    group.add_argument(
        "--shutdown-timeout",
        metavar="TIME",
        type=duration,
        default=10.0,
        help="how long connections may take to end after a signal (10s)",
    )
    if not lasting:
        parser.set_defaults(once=False, drain=0.0)
        return
    group.add_argument(
        "--drain",
        metavar="TIME",
        type=duration,
        default=0.0,
        help="after a signal, first send the clients away one by one, with 1012, over this time; meanwhile"
        " /healthz and new WebSockets get 503 (0)",
    )
    group.add_argument("--once", action="store_true", help="serve one connection, then exit")
