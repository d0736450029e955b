"""A game that sends where each player is, 50 times a second: who is slow gets the newest place of each.

Usage: python game_loop.py [asyncio|trio]
"""

import logging
import sys

import anyio

from wsstream import FlowControl, WebSocketStream, connect, serve
from wsstream.feeds import Feed, Latest

PLAYERS = ("ann", "bob", "eve")


async def main() -> None:
    async with Feed("game", keep=1) as feed:

        async def play(ws: WebSocketStream) -> None:
            newest = Latest(key=lambda message: message.split()[0])
            await feed.follow(ws, since=feed.position, slow=newest, high_water=256 * 1024)

        small = FlowControl(receive_high_water=1024)
        async with serve(play, "127.0.0.1") as server, connect(server.url, flow=small) as slow:
            for tick in range(1, 101):
                for player in PLAYERS:
                    feed.publish(f"{player} {tick} ".ljust(50_000))  # large, to be slow soon
                await anyio.sleep(0.01)
            seen = 0
            last: dict[str, str] = {}
            while [*last.values()] != ["100"] * len(PLAYERS):
                player, last_tick = str(await slow.receive()).split()
                last[player], seen = last_tick, seen + 1
            print(f"saw {seen} of {feed.position.offset} messages, and the last of", *sorted(last))


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stdout, format="%(message)s")  # the feed names who is too slow
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
