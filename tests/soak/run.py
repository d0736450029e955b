"""The soak: ``python tests/soak/run.py --loop trio --seconds 120``. Needs the extra `test`.

Opens many connections side by side, each with a plan of its own: TCP, TLS, Unix sockets and memory, with
faults or without, compression, large and tiny water marks; messages of 0 bytes to 2 MiB, sent and received
in every way, with calls that are cancelled, readers that are left early and writers that are broken off.
What arrives is compared with what was sent. When all has ended, no task, descriptor, connection or memory may
be left. A connection in which nothing moves for `--patience` seconds is named, with what each side is
waiting for.

Exits with 1 if anything was wrong. `--seed` draws the same plans again; `--only` runs a single one of them.
"""

from __future__ import annotations

import argparse
import asyncio  # noqa: TID251 - it is started as users start it
import faulthandler
import sys
import time

import anyio
from soak import Settings, Soak

LOOPS = ("asyncio", "uvloop", "trio", "asyncio.run", "uvloop.run")
_GRACE = 300  # seconds that the end may take, until the process is ended from outside the event loop


def main() -> int:
    options = parsed_arguments()
    settings = Settings(
        seed=options.seed,
        seconds=options.seconds,
        side_by_side=options.connections,
        share_of_faults=options.faults,
        patience=options.patience,
        only=options.only,
    )
    soak = Soak(settings)
    print(f"-- {options.loop}, {settings}", flush=True)
    faulthandler.dump_traceback_later(options.seconds + options.patience + _GRACE, exit=True)
    start = time.monotonic()
    run_in_loop(options.loop, soak)
    print(f"{soak.summary()}\n-- {options.loop}: {time.monotonic() - start:.0f} s", flush=True)
    for problem in soak.problems:
        print(f"FAILED: {problem}", file=sys.stderr)
    return 1 if soak.problems else 0


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--loop", choices=LOOPS, default="asyncio.run", help="trio, or how asyncio is started"
    )
    parser.add_argument("--seconds", type=float, default=60, help="for which connections are opened")
    parser.add_argument("--seed", type=int, default=time.time_ns() % 1_000_000)
    parser.add_argument("--connections", type=int, default=8, help="side by side")
    parser.add_argument(
        "--faults", type=float, default=0.5, metavar="SHARE", help="of the connections, 0 to 1"
    )
    parser.add_argument("--patience", type=float, default=25, help="seconds without any movement")
    parser.add_argument("--only", type=int, metavar="NUMBER", help="run the plan of this connection, once")
    return parser.parse_args()


def run_in_loop(loop: str, soak: Soak) -> None:
    match loop:
        case "asyncio.run":
            asyncio.run(soak.run())
        case "uvloop.run":
            import uvloop

            uvloop.run(soak.run())
        case "uvloop":
            anyio.run(soak.run, backend_options={"use_uvloop": True})
        case _:
            anyio.run(soak.run, backend=loop)


if __name__ == "__main__":
    sys.exit(main())
