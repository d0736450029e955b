"""The whole command line, and nothing else: `--help` has to be quick, so no module of it imports anyio."""

from __future__ import annotations

import argparse

from wsstream.cli.commands import bridge, connect, demo, echo, receive, send, serve

__all__ = ["COMMANDS", "SHELLS", "make_parser"]

COMMANDS = (demo, send, receive, serve, connect, echo, bridge)
"""The commands in the order of the help. A module has `add_parser`, which sets `run` in the options."""

SHELLS = ("bash", "zsh", "tcsh")


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="wsstream",
        description="WebSockets as streams: messages of any size in bounded memory.",
        epilog="'wsstream COMMAND --help' shows the options of a command.",
    )
    parser.add_argument("--version", action="store_true", help="print the version; with -v, of packages too")
    parser.add_argument(
        "--print-completion",
        metavar="SHELL",
        choices=SHELLS,
        help="print a completion script for bash, zsh or tcsh",
    )
    parser.add_argument("-v", "--verbose", action="count", default=0, help="print more on stderr")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
