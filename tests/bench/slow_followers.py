"""A feed with followers that do not read: ``python tests/bench/slow_followers.py [--backend trio]``.

The server is a process of its own and publishes at a steady rate. Of its followers, which are plain sockets
of another process, some do not read. Each message carries its number and the time at which it was due, so
the others see how late each one is, and that none is missing. Of what one call of recv brings, the oldest
message counts. Exits with 1 if a follower that reads has missed something, or another one was not treated as
the policy says.
"""

from __future__ import annotations

import argparse
import json
import select
import socket
import struct
import sys
import time
from statistics import quantiles
from typing import Any, NamedTuple

import anyio
import frames
from anyio.lowlevel import checkpoint
from control import allow_descriptors, pin
from idle_memory import ask, resident, start
from measure import cores

import wsstream
from wsstream.feeds import DropOldest, Evict, Feed, Followed

POLICIES = {"evict": Evict(), "drop": DropOldest()}
HEAD = struct.Struct("!dQ")  # when the message was due, and its number
HEADER = b"\x82\x7e" + struct.pack("!H", 256)
SIZE = len(HEADER) + 256
END = frames.end_of_feed(masked=False)
SLOW_BUFFER = 8192  # bytes that the kernel keeps for one who does not read: else it may keep all


# -- the server ------------------------------------------------------------------------------------


async def serve(options: argparse.Namespace) -> None:
    ends: list[Followed] = []
    async with Feed("benchmark", keep=1000) as feed:

        async def handler(ws: wsstream.WebSocketStream) -> None:
            slow = POLICIES[options.policy]
            ends.append(await feed.follow(ws, slow=slow, high_water=options.high_water))

        async with wsstream.serve(handler, "127.0.0.1", compression=None, ping_interval=None) as server:
            print(server.port, flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)
            before, cpu = resident(), time.process_time()
            seconds, most = await publish(feed, options)
            cpu, dropped, evicted = time.process_time() - cpu, feed.statistics().dropped, len(ends)
            result = {
                "rate": options.rate * options.seconds / seconds,
                "cpu": cpu / seconds,
                "memory": most - before,
                "dropped": dropped,
                "evicted": evicted if all(end.evicted for end in ends) else -1,
            }
            print(json.dumps(result), flush=True)
            await anyio.to_thread.run_sync(sys.stdin.readline)


async def publish(feed: Feed, options: argparse.Namespace) -> tuple[float, int]:
    """Publish what is due, and say how long that took and how large this process was at most."""
    first, count, most = time.monotonic(), options.rate * options.seconds, 0
    for number in range(count):
        due = first + number / options.rate
        if (early := due - time.monotonic()) > 0:
            await anyio.sleep(early)
        elif not number % 16:
            await checkpoint()
        feed.publish(HEAD.pack(due, number) + bytes(256 - HEAD.size))
        if not number % options.rate:
            most = max(most, resident())
    while feed.position.offset < count:
        await anyio.sleep(0.001)
    seconds = time.monotonic() - first
    feed.publish(frames.END)
    return seconds, max(most, resident())


# -- the followers ---------------------------------------------------------------------------------


class Reading(NamedTuple):
    """What those who read have seen.

    Attributes:
        late: seconds, for each call of recv.
        missed: followers that did not get each message once, and in order.
    """

    late: list[float]
    missed: int


def follow(port: int, *, reads: bool) -> socket.socket:
    sock = socket.socket()
    if not reads:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, SLOW_BUFFER)
    sock.connect(("127.0.0.1", port))
    sock.sendall(frames.request(port, deflate=False))
    frames.check_response(frames.receive_head(sock)[0], deflate=False)
    return sock


def read_all(sockets: list[socket.socket], count: int) -> Reading:
    """Read until each has the end of the feed."""
    late, missed = [], 0
    poll = select.epoll()
    by_number = {sock.fileno(): sock for sock in sockets}
    rest, next_number = dict.fromkeys(by_number, b""), dict.fromkeys(by_number, 0)
    for number in by_number:
        poll.register(number, select.EPOLLIN)
    while rest:
        for number, _ in poll.poll():
            received = by_number[number].recv(256 * 1024)
            now = time.monotonic()
            data = rest[number] + received
            whole = len(data) // SIZE
            if whole:
                due, first = HEAD.unpack_from(data, len(HEADER))
                late.append(now - due)
                last = HEAD.unpack_from(data, (whole - 1) * SIZE + len(HEADER))[1]
                if first == next_number[number] and last == first + whole - 1:
                    next_number[number] += whole
            rest[number] = data[whole * SIZE :]
            if not received or rest[number] == END:
                missed += next_number[number] != count
                poll.unregister(number)
                del rest[number]
    return Reading(late, missed)


def measure(options: argparse.Namespace) -> bool:
    allow_descriptors(options.followers + 200)
    same = ("stalled", "rate", "seconds", "policy", "backend")
    arguments = [f"--{name}={getattr(options, name)}" for name in same]
    arguments.append(f"--high-water={options.high_water}")
    ours, other = cores()
    with start(__file__, "--serve", *arguments, *([] if ours is None else ["--core", str(ours)])) as server:
        port = int(ask(server))
        pin([] if other is None else ["--core", str(other)])
        stalled = [follow(port, reads=False) for _ in range(options.stalled)]
        reading = [follow(port, reads=True) for _ in range(options.followers - options.stalled)]
        time.sleep(0.5)
        assert server.stdin is not None
        server.stdin.write("go\n")
        server.stdin.flush()
        seen = read_all(reading, options.rate * options.seconds)
        result: dict[str, Any] = json.loads(ask(server))
        for sock in stalled + reading:
            sock.close()
        server.communicate("\n")
    cuts = quantiles(seen.late, n=1000)
    p50, p99, p999 = (1000 * cuts[at] for at in (499, 989, 998))
    print(f"{options.followers} followers, of whom {options.stalled} do not read; {options.policy}", end=", ")
    print(
        f"{options.backend}: {result['rate']:.0f} of {options.rate} publications/s, CPU {result['cpu']:.0%}"
    )
    print(f"late: median {p50:.1f} ms, p99 {p99:.1f} ms, p99.9 {p999:.1f} ms, at most", end=" ")
    print(f"{1000 * max(seen.late):.1f} ms; {seen.missed} have missed something")
    print(f"memory + {result['memory'] / 2**20:.1f} MiB, bound by the marks", end=" ")
    print(f"{options.stalled * options.high_water / 2**20:.1f} MiB;", end=" ")
    print(f"{result['evicted']} evicted, {result['dropped']} dropped for them")
    fair = result["evicted"] == options.stalled if options.policy == "evict" else result["dropped"] > 0
    return fair and not seen.missed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--followers", type=int, default=1000)
    parser.add_argument("--stalled", type=int, default=50)
    parser.add_argument("--rate", type=int, default=1000, help="publications per second")
    parser.add_argument("--seconds", type=int, default=10)
    parser.add_argument("--high-water", dest="high_water", type=int, default=256 * 1024)
    parser.add_argument("--policy", choices=POLICIES, default="evict")
    parser.add_argument("--backend", choices=["asyncio", "trio"], default="asyncio")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--core", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        pin(sys.argv)
        allow_descriptors()
        anyio.run(serve, options, backend=options.backend)
        return
    sys.exit(not measure(options))


if __name__ == "__main__":
    main()
