"""The options that `send` and `receive` share; `wsstream.cli.transfer` does what they say."""

from __future__ import annotations

import argparse

from wsstream.cli.options.client import add_client_options
from wsstream.cli.options.common import add_common_options, add_connection_options
from wsstream.cli.options.server import add_server_options
from wsstream.cli.options.values import number, rate

__all__ = ["add_transfer_options"]


def add_transfer_options(
    parser: argparse.ArgumentParser, group: argparse._ArgumentGroup, *, name: str, on_exist: tuple[str, ...]
) -> None:
    """Add them: to `group` those of the transfer, to `parser` those of the client and of all commands.

    Args:
        parser: the command's.
        group: it may have options of the command alone.
        name: the help of ``--name``.
        on_exist: what may be done with a file that exists; the first is the default.
    """
    group.add_argument("--name", metavar="NAME", help=name)
    group.add_argument(
        "--on-exist",
        choices=on_exist,
        default=on_exist[0],
        help=f"what to do if there is another file of that name ({on_exist[0]})",
    )
    group.add_argument(
        "--retry",
        metavar="N",
        type=number,
        default=8,
        help="how many times to connect again after a lost connection, with growing pauses (8); the first"
        " attempt must succeed",
    )
    group.add_argument(
        "--limit-rate",
        metavar="SIZE",
        type=rate,
        help="the most bytes a second, of all files together: 64k, 1M or none (none)",
    )
    add_client_options(parser, subprotocols=False, may_serve=True)
    add_server_options(parser, shared=True, title="side that listens", lasting=False)
    add_connection_options(parser)
    add_common_options(parser)
