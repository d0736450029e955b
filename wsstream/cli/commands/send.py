"""The command line of ``wsstream send``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.transfer import add_transfer_options

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Send files and folders to a server such as 'wsstream serve files'.

A lost connection is opened again, and the file goes on where the server's
disk has it. After an interruption the same command goes on there, too. The
server gives a file its name once all of it has arrived with the right
digest. Progress and the digest are shown on stderr; stdout stays empty.

In place of URL, ws-listen:[HOST:]PORT[/PATH] waits for 'wsstream receive',
for one file or folder: this side listens, on loopback without HOST, and ends
when a receiver has got a file and has gone in good order. One that was cut
off comes back, and goes on.

- as FILE is stdin, which needs --name or a name in the URL. It can be read
only once: when the connection is lost, the command ends with status 6, and
what the server has is not gone on with."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "send",
        help="send files to a server: verified, and resumed after an interruption",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "files",
        metavar="FILE",
        nargs="+",
        help="a file, or a folder with all files below it; - alone is stdin",
    )
    parser.add_argument(
        "url",
        metavar="URL",
        help="ws:// or wss://; its path is the name on the server, or with / at its end the folder there;"
        " or ws-listen:[HOST:]PORT[/PATH]",
    )
    add_transfer_options(
        parser,
        parser.add_argument_group("transfer"),
        name="what the server is to call it; replaces the path of the URL",
        on_exist=("fail", "skip", "overwrite", "rename"),
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.transfer.send import send_command

    return send_command(options)
