"""The command line: ``wsstream``, also ``python -m wsstream``.

``--help`` has to be quick, so a command's module is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import wsstream
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.sizes import parse_size

__all__ = ["main"]

_DEMO = """\
Stream a file to a server in a second process and back, and compare.

FILE goes up as one message and comes back as one message, both at the same
time, chunk by chunk over loopback; neither process holds more than a few
chunks. At the end it prints the rates, the peak memory of both processes,
and whether the SHA-256 digests of the data as sent, as it passed through
the server, and as it came back are the same."""

_EXITS = """\
exit status:
  0 done    2 usage    3 could not connect    4 TLS    5 handshake refused
  6 connection lost    7 closed with an error code    9 digest mismatch
  11 local input or output    128+n ended by signal n"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit status.

    Raises:
        SystemExit: with 2 for a wrong command line, with 0 after ``--help``.
    """
    parser = _parser()
    options = parser.parse_args(argv)
    if options.version:
        return _print_versions(verbose=options.verbose)
    if options.command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    try:
        return _demo(options)
    except CommandFailed as failure:
        print(f"wsstream {options.command}: {failure}", file=sys.stderr)
        return failure.status
    except KeyboardInterrupt:  # it came before the command handled signals itself
        return Exit.SIGNAL + 2


def _demo(options: argparse.Namespace) -> int:
    from wsstream.cli.demo import Options, demo

    return demo(
        Options(
            file=options.file,
            size=options.size,
            backend=options.backend,
            tls=options.tls,
            json=options.json,
            quiet=options.quiet,
            verbose=options.verbose,
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="wsstream",
        description="WebSockets as streams: messages of any size in bounded memory.",
        epilog="'wsstream COMMAND --help' shows the options of a command.",
    )
    parser.add_argument("--version", action="store_true", help="print the version; with -v, of packages too")
    parser.add_argument("-v", "--verbose", action="store_true", help="print more on stderr")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", title="commands")
    _add_demo(commands)
    return parser


def _add_demo(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    parser = commands.add_parser(
        "demo",
        help="stream a file to a server in a second process and back, and compare",
        description=_DEMO,
        epilog=_EXITS,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    source = parser.add_mutually_exclusive_group()
    source.add_argument("file", metavar="FILE", nargs="?", help="the file to send; by default made-up data")
    source.add_argument("--size", type=_size, default=1 << 30, help="how much to make up: 64k, 1M, 8G (1G)")
    parser.add_argument("--backend", choices=("asyncio", "trio"), default="asyncio", help="(asyncio)")
    parser.add_argument("--tls", action="store_true", help="use TLS, with a new certificate")
    parser.add_argument("--json", action="store_true", help="print the result as one JSON object")
    output = parser.add_mutually_exclusive_group()
    output.add_argument("-q", "--quiet", action="store_true", help="no progress, only errors on stderr")
    output.add_argument(
        "-v", "--verbose", action="store_true", default=argparse.SUPPRESS, help="log to stderr, no bars"
    )


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def _print_versions(*, verbose: bool) -> int:
    print(f"wsstream {wsstream.__version__}")
    if verbose:
        from wsstream.cli.versions import versions

        for name, version in versions():
            print(f"{name} {version}")
    return Exit.OK
