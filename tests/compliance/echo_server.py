"""An echo server for a fuzzing suite in the role of the client.

It sends every message back as it arrives and holds none whole. How to use it with the Autobahn suite is in
docs/how-to/run-the-fuzzing-suite.md.
"""

from __future__ import annotations

import argparse
import sys

from echo_mode import compression, echo, parser, run


async def main(arguments: argparse.Namespace) -> int:
    from wsstream import serve

    async with serve(echo, arguments.host, arguments.port, compression=compression(arguments)) as server:
        print(f"listening on {server.url}", flush=True)
        await server.wait_closed()
    return 0


if __name__ == "__main__":
    options = parser("An echo server for a fuzzing suite in the role of the client.")
    options.add_argument("--host", default="127.0.0.1")
    options.add_argument("--port", type=int, default=9001, help="0: a free one, which is printed")
    sys.exit(run(main, options.parse_args()))
