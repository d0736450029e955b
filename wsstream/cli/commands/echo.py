"""The command line of ``wsstream echo``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.common import add_common_options, add_connection_options
from wsstream.cli.options.server import add_bind_option, add_server_options
from wsstream.cli.options.values import close_after, duration, size

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
A server to test clients with. It sends each message back, in chunks, while
it arrives, or does what the options say. The addresses it listens on are
reported on stderr. It ends at a signal, with status 0."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "echo",
        help="a server that sends back what it receives, or misbehaves as told",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add_bind_option(parser)
    behaviour = parser.add_argument_group("behaviour, of each connection")
    behaviour.add_argument(
        "--mode",
        choices=("message", "discard", "flood"),
        default="message",
        help="'message' sends each message back; 'discard' reads and sends nothing; 'flood' sends without end"
        " and drops what comes (message)",
    )
    behaviour.add_argument(
        "--size",
        metavar="SIZE",
        type=size,
        default=64 << 10,
        help="how large the messages of flood are (64k)",
    )
    behaviour.add_argument(
        "--delay",
        metavar="TIME",
        type=duration,
        default=0.0,
        help="how long to wait before each message it sends (0)",
    )
    behaviour.add_argument(
        "--rate", metavar="SIZE", type=size, help="how many bytes a second it sends at most (no limit)"
    )
    behaviour.add_argument(
        "--close-after",
        metavar="N[:CODE]",
        type=close_after,
        help="close after N messages, with CODE (1000); N is 0 for at once",
    )
    behaviour.add_argument(
        "--drop-after", metavar="N", type=int, help="drop the connection after N messages, without Close"
    )
    behaviour.add_argument("--stall", action="store_true", help="read nothing and send nothing")
    add_server_options(parser)
    add_connection_options(parser)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.echo import echo_command

    return echo_command(options)
