"""The command line of ``wsstream receive``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.transfer import add_transfer_options
from wsstream.cli.options.values import digest, limit

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Receive a file or a folder from a server such as 'wsstream serve files'.

A lost connection is opened again, and the file goes on where this disk has
it. After an interruption the same command goes on there, too: what has
arrived is kept beside DEST in files whose names begin with '.wsstream-'. A
file gets its name once all of it is on the disk with the right digest. A
file that is here already is compared with the server's, not received again.
Progress and the digest are shown on stderr; stdout stays empty.

In place of URL, ws-listen:[HOST:]PORT[/PATH] waits for 'wsstream send': this
side listens, on loopback without HOST, and ends when a sender has sent a file
and has gone in good order. One that was cut off comes back, and goes on.

With - as DEST the file goes to stdout while it arrives, and nothing else
does. A lost connection is opened again, and the file goes on after the last
byte that was written; but the command, repeated, begins at 0. The digest is
known at the end: unless the status is 0, what was written is not the file."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "receive",
        help="receive files from a server: verified, and resumed after an interruption",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="ws:// or wss://; its path is the name of the file, or with / at its end that of a folder;"
        " or ws-listen:[HOST:]PORT[/PATH]",
    )
    parser.add_argument(
        "dest",
        metavar="DEST",
        nargs="?",
        default=".",
        help="a folder that exists, where the file or folder gets its own name; or for a file, the path to"
        " store it under; - is stdout (.)",
    )
    group = parser.add_argument_group("transfer")
    group.add_argument(
        "--expect",
        metavar="HEX",
        type=digest,
        help="fail with status 9 unless this is the file's SHA-256, or its digest of the kind that is shown;"
        " another file is not stored",
    )
    group.add_argument(
        "--max-size", metavar="SIZE", type=limit, help="the largest file to take: 64k, 1M, 2G or none (none)"
    )
    add_transfer_options(
        parser,
        group,
        name="the file or folder to ask for; replaces the path of the URL",
        on_exist=("fail", "skip", "overwrite", "rename"),
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.transfer.receive import receive_command

    return receive_command(options)
