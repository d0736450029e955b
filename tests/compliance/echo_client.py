"""An echo client for a fuzzing suite in the role of the server.

It asks for the number of cases, connects once for each and sends every message back as it arrives, holding
none whole; then it asks for the reports. How to use it with the Autobahn suite is in
docs/how-to/run-the-fuzzing-suite.md.
"""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote

import anyio
from echo_mode import compression, echo, parser, run

if TYPE_CHECKING:
    from wsstream import Deflate

UNFINISHED = 1  # exit status


async def main(arguments: argparse.Namespace) -> int:
    """Run all cases; a suite that misbehaves in one of them does not end the run."""
    from wsstream import WebSocketError

    suite, agent = arguments.url.rstrip("/"), f"agent={quote(arguments.agent, safe='')}"
    deflate = compression(arguments)
    overdue = 0
    try:
        count = await count_cases(f"{suite}/getCaseCount")
        for case in range(1, count + 1):
            ended = await run_case(f"{suite}/runCase?case={case}&{agent}", deflate, arguments.time_limit)
            print(f"{case}/{count}: {ended or 'not over in time'}", flush=True)
            overdue += ended is None
        await update_reports(f"{suite}/updateReports?{agent}")
    except (WebSocketError, OSError, ValueError) as error:
        print(f"the suite does not answer as it should: {describe(error)}", file=sys.stderr)
        return UNFINISHED
    return UNFINISHED if overdue else 0


async def count_cases(url: str) -> int:
    from wsstream import connect

    async with connect(url) as ws:
        return int(await ws.receive())


async def run_case(url: str, deflate: Deflate | None, time_limit: float) -> str | None:
    """Run a case; how it ended, or ``None`` if it took too long. Errors are what most cases are about."""
    from wsstream import WebSocketError, connect

    with anyio.move_on_after(time_limit):
        try:
            async with connect(url, compression=deflate) as ws:
                await echo(ws)
            return str(ws.close_info)
        except (WebSocketError, OSError) as error:
            return describe(error)
    return None


async def update_reports(url: str) -> None:
    """The suite closes when the reports are written, which may take longer than a Pong should."""
    from wsstream import connect

    async with connect(url, ping_interval=None) as ws:
        async for _ in ws.readable.messages():
            pass


def describe(error: Exception) -> str:
    cause = f" ({error.__cause__})" if error.__cause__ is not None else ""
    return f"{type(error).__name__}: {error}{cause}"


if __name__ == "__main__":
    options = parser("An echo client for a fuzzing suite in the role of the server.")
    options.add_argument("url", help="of the suite, as in ws://127.0.0.1:9001")
    options.add_argument("--agent", default="wsstream", help="the name in the suite's reports")
    options.add_argument("--time-limit", type=float, default=600, help="seconds for a case")
    sys.exit(run(main, options.parse_args()))
