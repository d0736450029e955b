"""The command line of ``wsstream demo``."""

from __future__ import annotations

import argparse

from wsstream.cli.exits import EPILOG
from wsstream.cli.options.values import size

__all__ = ["add_parser", "run"]

_DESCRIPTION = """\
Send a file to a server in a second process, receive it, and compare.

FILE goes up over loopback as 'wsstream send' sends it, and the server stores
it in a folder that is removed at the end. Then it comes back as for
'wsstream receive URL -', and is dropped. At the end it prints the rates, the
peak memory of both processes, and whether the digests of the data as it was
sent, stored, and received are the same.

With --raw, FILE goes up as one message and comes back as one message, both
at the same time, without a protocol for files and without a disk: the
server sends each chunk back while the next ones arrive.

With --web, it serves a temporary folder and a page for a browser, until a
signal comes: files go up and down, with sliders that slow the server's disk
and the page, and graphs of what that does."""


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the command."""
    parser = commands.add_parser(
        "demo",
        help="send a file to a server in a second process and receive it: the main job in one command",
        description=_DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("file", metavar="FILE", nargs="?", help="the file to send; by default made-up data")
    source.add_argument("--size", type=size, default=1 << 30, help="how much to make up: 64k, 1M, 8G (1G)")
    parser.add_argument(
        "--backend",
        choices=("asyncio", "trio"),
        default="asyncio",
        help="the event loop; asyncio is uvloop where that is installed (asyncio)",
    )
    parser.add_argument("--raw", action="store_true", help="one message each way, at the same time")
    parser.add_argument("--tls", action="store_true", help="use TLS, with a new certificate")
    parser.add_argument(
        "--web",
        action="store_true",
        help="serve a web page on loopback instead, which shows backpressure; print its URL on stderr",
    )
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-q", "--quiet", action="store_true", help="no progress, only errors on stderr")
    output.add_argument(
        "-v", "--verbose", action="count", default=argparse.SUPPRESS, help="log to stderr, no bars"
    )
    parser.set_defaults(run=run)


def run(options: argparse.Namespace) -> int:
    """Run the command; returns the exit status."""
    if options.web:
        from wsstream.cli.demo_web import demo_web

        return demo_web(options)
    from wsstream.cli.demo import demo

    return demo(options)
