"""The command line: ``wsstream``, also ``python -m wsstream``.

``--help`` has to be quick, so what a command needs is imported only when the command runs.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence

import wsstream
from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.parser import make_parser
from wsstream.cli.report import Reporter

__all__ = ["main"]


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line, by default that of the process, and return the exit status.

    Raises:
        SystemExit: with 2 for a wrong command line, with 0 after ``--help``.
    """
    parser = make_parser()
    options = parser.parse_args(argv)
    if options.version:
        return _print_versions(verbose=options.verbose)
    if options.print_completion is not None:
        return _print_completion(parser, options.print_completion)
    if options.command is None:
        parser.print_help(sys.stderr)
        return Exit.USAGE
    reporter = Reporter(options)
    try:
        return int(options.run(options))
    except CommandFailed as failure:
        reporter.error(failure.status, str(failure))
        return failure.status
    except KeyboardInterrupt:  # it came before the command handled signals itself
        return Exit.SIGNAL + 2


def _print_versions(*, verbose: bool) -> int:
    print(f"wsstream {wsstream.__version__}")
    if verbose:
        from wsstream.cli.versions import versions

        for name, version in versions():
            print(f"{name} {version}")
    return Exit.OK


def _print_completion(parser: argparse.ArgumentParser, shell: str) -> int:
    from wsstream.cli.completion import completion

    try:
        print(completion(parser, shell))
    except CommandFailed as failure:
        print(f"wsstream: {failure}", file=sys.stderr)
        return failure.status
    return Exit.OK
