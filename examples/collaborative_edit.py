"""Several programs edit one text: the server puts their edits in one order, and a feed takes them to all.

Usage: python collaborative_edit.py [asyncio|trio]
"""

import json
import secrets
import sys
from collections import deque
from contextlib import suppress
from itertools import islice
from typing import NamedTuple

import anyio

from wsstream import Backoff, ConnectionClosed, Router, WebSocketError, WebSocketStream, reconnect, serve
from wsstream.feeds import SUBPROTOCOL, Feed, Position, follow

KEPT, LONGEST = 1000, 100_000  # edits, characters
DELAYS = Backoff(initial=0.1)


class Edit(NamedTuple):
    """`new` replaces the characters from `start` to `end`."""

    start: int
    end: int
    new: str

    def applied(self, text: str) -> str:
        """`text`, edited."""
        return text[: self.start] + self.new + text[self.end :]

    def after(self, other: "Edit") -> "Edit":
        """The same edit for a text in which `other` was made meanwhile. What `other` wrote is kept."""
        grown = len(other.new) - (other.end - other.start)
        start = self.start if self.start < other.start else max(self.start, other.end) + grown
        end = self.end
        if other.start < end:
            end = other.start if end < other.end else end + grown
        return Edit(start, max(start, end), self.new)


class Document:
    """The server's text. The edit that made version n has the offset n in the feed."""

    def __init__(self, feed: Feed) -> None:
        self.feed, self.text, self.position = feed, "", feed.position
        self.edits: deque[tuple[str, Edit]] = deque(maxlen=KEPT)

    def change(self, name: str, seen: Position, edit: Edit) -> int | None:
        """Apply an edit of the version `seen`, once, and return the version. None: `seen` is too old."""
        missed = self.position.offset - seen.offset
        if seen.epoch != self.position.epoch or not 0 <= missed <= len(self.edits):
            return None
        for other_name, other in islice(self.edits, len(self.edits) - missed, None):
            if other_name == name:  # it has come before, and the answer was lost
                return self.position.offset
            edit = edit.after(other)
        text = edit.applied(self.text)
        if len(text) > LONGEST:
            raise ValueError("the text is too long")
        self.feed.publish(json.dumps(edit))
        self.position = Position(self.position.epoch, self.position.offset + 1)
        self.edits.append((name, edit))
        self.text = text
        return self.position.offset


def application(document: Document) -> Router:
    router = Router()

    @router.route("/text")
    async def text(ws: WebSocketStream) -> None:
        await ws.send(json.dumps([document.position.epoch, document.position.offset, document.text]))

    @router.route("/edits", subprotocols=[SUBPROTOCOL])
    async def edits(ws: WebSocketStream) -> None:
        await document.feed.follow(ws, since=Position.parse(ws.request))  # who does not read is closed

    @router.route("/edit", max_message_size=10_000)
    async def edit(ws: WebSocketStream) -> None:
        async for message in ws:
            try:
                name, epoch, seen, start, end, new = json.loads(message)
                if not 0 <= start <= end:
                    raise ValueError("the places are in the wrong order")
                version = document.change(str(name), Position(epoch, seen), Edit(start, end, str(new)))
            except (RecursionError, TypeError, ValueError) as error:
                raise WebSocketError(code=1008, reason="not an edit") from error
            await ws.send(json.dumps(version))

    return router


class Copy:
    """A client's copy of the text."""

    def __init__(self, url: str) -> None:
        self.url, self.text, self.position = url, "", Position("none", 0)
        self.changed = anyio.Event()

    async def load(self) -> None:
        """Take the text as it is now."""
        async for ws in reconnect(f"{self.url}/text", delays=DELAYS):
            with suppress(ConnectionClosed):
                async with ws:
                    epoch, version, text = json.loads(await ws.receive())
                    self.show(Position(epoch, version), text)
                    return

    async def follow(self) -> None:
        """Keep up with the server, whatever happens to connections, until cancelled."""
        async with follow(f"{self.url}/edits", since=self.position, delays=DELAYS) as items:
            async for item in items:
                if item.data is None:  # some edits are lost: load the text again
                    await self.load()
                elif item.position.offset > self.position.offset:
                    self.show(item.position, Edit(*json.loads(item.data)).applied(self.text))

    def show(self, position: Position, text: str) -> None:
        """Here an editor would draw it, and move the cursor as an edit is moved."""
        self.position, self.text = position, text
        self.changed.set()
        self.changed = anyio.Event()

    async def reached(self, position: Position) -> None:
        """Wait for a version; also over when the server began anew, with none of the old ones."""
        while self.position.epoch == position.epoch and self.position.offset < position.offset:
            await self.changed.wait()

    async def edit(self, start: int, end: int, new: str) -> bool:
        """Replace characters of `text` as it is now. False: it is too old, and nothing was done."""
        epoch, seen = self.position.epoch, self.position.offset
        message = json.dumps([secrets.token_hex(8), epoch, seen, start, end, new])
        async for ws in reconnect(f"{self.url}/edit", delays=DELAYS):
            with suppress(ConnectionClosed):
                async with ws:
                    await ws.send(message)  # again, if the answer is lost: the server applies it once
                    version = json.loads(await ws.receive())
                    break
        if version is not None:
            await self.reached(Position(epoch, version))
        return version is not None


async def main() -> None:
    async with Feed("text", keep=KEPT) as feed:
        document = Document(feed)
        async with (
            serve(application(document), "127.0.0.1") as server,
            anyio.create_task_group() as following,
        ):
            ann, bob = Copy(server.url), Copy(server.url)
            await ann.load()
            following.start_soon(ann.follow)
            await ann.edit(0, 0, "the fox jumps")
            await bob.load()  # he comes later
            following.start_soon(bob.follow)
            async with anyio.create_task_group() as editing:  # both edit the same version
                editing.start_soon(ann.edit, 4, 4, "quick red ")
                editing.start_soon(bob.edit, 8, 13, "sleeps")
            for name, copy in (("ann", ann), ("bob", bob)):
                await copy.reached(document.position)
                print(f"{name}: {copy.text}")
            following.cancel_scope.cancel()


if __name__ == "__main__":
    anyio.run(main, backend=dict(enumerate(sys.argv)).get(1, "asyncio"))
