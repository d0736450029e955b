"""The command line of ``wsstream connect``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.client import add_client_options
from wsstream.cli.options.common import add_common_options, add_connection_options
from wsstream.cli.options.values import count, duration

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Send what is typed or piped in as messages, and print the peer's messages.

On a terminal it is a conversation, with /ping, /close and /file. In a pipe
it is a filter: stdin is read once the connection is open, and stdout has
the payload of the peer's messages and nothing else.

When stdin ends, what still arrives is written, until the peer has answered
a Ping and then been silent for the time of --wait; then the connection is
closed with 1000. When the peer closes, the command ends at once."""

_FRAMING = """\
how messages are told apart in the pipe: 'lines', one a line, as text; 'raw',
not at all, binary; 'json', one object a line, {"text": "..."} or {"binary":
"base64"}; 'len', 4 bytes of length, most significant first, before each,
binary (lines)"""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "connect",
        help="talk to a WebSocket server, on a terminal or in a pipe",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("url", metavar="URL", help="ws:// or wss://; http and https are read as these")
    messages = parser.add_argument_group("messages")
    form = messages.add_mutually_exclusive_group()
    form.add_argument(
        "--framing",
        choices=("lines", "raw", "json", "len"),
        default="lines",
        help=_FRAMING.replace("\n", " "),
    )
    form.add_argument(
        "--whole",
        action="store_true",
        help="all of stdin is one message of any size, sent as it is read; binary unless --text; received"
        " messages are written as with 'raw'",
    )
    kind = messages.add_mutually_exclusive_group()
    kind.add_argument("--text", action="store_const", const="text", dest="kind", help="send text messages")
    kind.add_argument(
        "--binary", action="store_const", const="binary", dest="kind", help="send binary messages"
    )
    messages.add_argument(
        "-w",
        "--wait",
        metavar="TIME",
        type=duration,
        default=0.5,
        help="how long the peer has to be silent after stdin has ended, before the connection is"
        " closed; 'none' waits until the peer closes (500ms)",
    )
    messages.add_argument("-n", "--count", metavar="N", type=count, help="close after N messages of the peer")
    messages.add_argument(
        "--timeout", metavar="TIME", type=duration, help="end with status 8 if all is not done by then (none)"
    )
    add_client_options(parser)
    add_connection_options(parser)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.connect.session import connect_command

    return connect_command(options)
