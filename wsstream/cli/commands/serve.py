"""The command line of ``wsstream serve``, whose commands are the things that it serves."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.common import add_common_options, add_connection_options
from wsstream.cli.options.server import add_bind_option, add_server_options
from wsstream.cli.options.values import limit, operations, size

__all__ = ["add_parser", "run"]

_FILES = """\
Serve the files of DIR to 'wsstream send' and 'wsstream receive'.

Nothing outside DIR can be reached, symbolic links are not followed, and a
file that is sent gets its name once all of it is on the disk with the right
digest. Parts of files that nobody has sent more of for seven days are
removed. The addresses it listens on are reported on stderr. It ends at a
signal, with status 0."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser("serve", help="serve the files of a folder")
    things = parser.add_subparsers(dest="thing", metavar="THING", title="things to serve", required=True)
    _add_files(things)


def _add_files(things: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = things.add_parser(
        "files",
        help="the files of a folder",
        description=_FILES,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("dir", metavar="DIR", help="the folder")
    parser.add_argument(
        "--web",
        action="store_true",
        help="serve a web page, too, on which people send and receive the files; its URL is reported. With a"
        " token, people log in with it",
    )
    add_bind_option(parser, path="; clients then name the file by their own option, as the URL does not")
    group = parser.add_argument_group("files", "SIZE is 64k, 1M, 2G or none")
    group.add_argument(
        "--allow",
        metavar="OPS",
        type=operations,
        default=("get", "list"),
        help="what clients may do, with commas between: get, list, put, overwrite, delete (get,list)",
    )
    group.add_argument("--max-size", metavar="SIZE", type=limit, help="the largest file to take (none)")
    group.add_argument(
        "--min-free", metavar="SIZE", type=size, default=0, help="how much of the disk must stay free (0)"
    )
    group.add_argument(
        "--on-exist",
        choices=("fail", "rename"),
        default="fail",
        help="what to do if there is another file of that name and it may not be overwritten; 'rename'"
        " stores the new one as 'name (1)' (fail)",
    )
    add_server_options(parser)
    add_connection_options(parser)
    add_common_options(parser)
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    from wsstream.cli.transfer.serve import serve_files_command

    return serve_files_command(options)
