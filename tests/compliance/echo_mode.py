"""What the echo server and the echo client have in common: their options, and the echo itself.

Nothing of wsstream is imported before the options are read, so that ``--pure`` is heeded.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import anyio

if TYPE_CHECKING:
    from wsstream import Deflate, WebSocketStream

__all__ = ["compression", "echo", "parser", "run"]

BACKENDS = ["asyncio", "uvloop", "trio"]


def parser(description: str) -> argparse.ArgumentParser:
    """A parser of the options that both scripts have."""
    made = argparse.ArgumentParser(
        description=description, formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    made.add_argument("--backend", choices=BACKENDS, default="asyncio", help="uvloop is asyncio with uvloop")
    made.add_argument(
        "--pure", action="store_true", help="set WSSTREAM_PURE=1: the codec in Python, not the compiled one"
    )
    deflate = made.add_argument_group("permessage-deflate")
    deflate.add_argument("--compression", action="store_true", help="agree to it; the rest needs this")
    deflate.add_argument("--level", **one_of(range(-1, 10), 6), help="of our compressor, as in zlib")
    deflate.add_argument("--mem-level", **one_of(range(1, 10), 8), help="our compressor's, as in zlib")
    deflate.add_argument("--window-bits", **one_of(range(9, 16), 15), help="of our compressor")
    deflate.add_argument(
        "--peer-window-bits", **one_of(range(9, 16), 15), help="the most the suite's may use"
    )
    deflate.add_argument("--no-context-takeover", action="store_true", help="our compressor forgets")
    deflate.add_argument("--no-peer-context-takeover", action="store_true", help="the suite's has to forget")
    deflate.add_argument(
        "--min-size", type=int, default=0, help="bytes; smaller messages go out uncompressed"
    )
    return made


def one_of(values: range, default: int) -> dict[str, Any]:
    return {"type": int, "choices": values, "default": default, "metavar": f"{values[0]}..{values[-1]}"}


def compression(arguments: argparse.Namespace) -> Deflate | None:
    """What to pass as ``compression=``."""
    if not arguments.compression:
        return None
    from wsstream import Deflate

    return Deflate(
        level=arguments.level,
        mem_level=arguments.mem_level,
        window_bits=arguments.window_bits,
        peer_window_bits=arguments.peer_window_bits,
        context_takeover=not arguments.no_context_takeover,
        peer_context_takeover=not arguments.no_peer_context_takeover,
        min_size=arguments.min_size,
    )


async def echo(ws: WebSocketStream) -> None:
    """Send back every message in chunks, as they arrive, until the peer closes or the connection fails."""
    from wsstream import pipe

    await pipe(ws, ws)


def run(main: Callable[[argparse.Namespace], Awaitable[int]], arguments: argparse.Namespace) -> int:
    """Run `main` on the chosen backend; what it returns is the exit status."""
    if arguments.pure:
        os.environ["WSSTREAM_PURE"] = "1"
    backend, options = arguments.backend, {}
    if backend == "uvloop":
        backend, options = "asyncio", {"use_uvloop": True}
    try:
        return anyio.run(main, arguments, backend=backend, backend_options=options)
    except KeyboardInterrupt:
        return 130
    except OSError as error:
        print(error, file=sys.stderr)
        return 1
