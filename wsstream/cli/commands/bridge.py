"""The command line of ``wsstream bridge``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.client import add_client_options
from wsstream.cli.options.common import add_common_options, add_connection_options
from wsstream.cli.options.server import add_server_options

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Carry bytes between A and B, both ways, in bounded memory.

Each of A and B is one of
  stdio                     this process's stdin and stdout
  tcp:HOST:PORT             a TCP connection
  tcp-listen:[HOST:]PORT    TCP connections that come in
  unix:PATH                 a connection to a Unix socket
  unix-listen:PATH          connections that come in on a Unix socket
  ws://... or wss://...     a WebSocket
  ws-listen:[HOST:]PORT[/PATH]   WebSockets that come in

At most one of them listens. Each connection that comes in gets one of its
own at the other end; one that fails does not end the command. Without HOST
it listens on loopback.

Between two ends of wsstream, the end of one direction is carried through
and the other direction goes on: they speak the subprotocol
wsstream.pipe.v1, in which an empty binary message ends a direction. With
others the subprotocol is 'binary', as websockify speaks it."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "bridge",
        help="carry TCP, Unix sockets or stdin and stdout through a WebSocket",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("a", metavar="A", help="one end")
    parser.add_argument("b", metavar="B", help="the other end")
    add_client_options(parser, may_serve=True)
    add_server_options(parser, shared=True)
    add_connection_options(parser)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.bridge.run import bridge_command

    return bridge_command(options)
