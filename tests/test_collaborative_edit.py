"""The example of collaborative editing: its edits keep what others wrote, and all copies become the same."""

from __future__ import annotations

import json
import random
import runpy
import string
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit.waiting import until

from wsstream import ConnectionClosed, serve
from wsstream.feeds import SUBPROTOCOL, Feed
from wsstream.feeds.protocol import read_item
from wsstream.testing import serving

EXAMPLE = runpy.run_path(str(Path(__file__).parents[1] / "examples" / "collaborative_edit.py"))
Edit, Document, Copy, application = (EXAMPLE[name] for name in ("Edit", "Document", "Copy", "application"))


@st.composite
def edits(draw: st.DrawFn, letter: str) -> Any:
    start = draw(st.integers(0, 12))
    return Edit(start, draw(st.integers(start, 12)), letter * draw(st.integers(0, 3)))


@given(edits("A"), edits("B"))
def test_an_edit_after_another_one_changes_nothing_else(first: Any, second: Any) -> None:
    text = string.ascii_lowercase[:12]
    moved = second.after(first)
    result = moved.applied(first.applied(text))
    assert 0 <= moved.start <= moved.end <= len(first.applied(text))
    untouched = [each for at, each in enumerate(text) if not _within(at, first) and not _within(at, second)]
    assert [each for each in result if each.islower()] == untouched
    assert result.count("B") == len(second.new)
    replaced = second.start < first.start and first.end <= second.end
    assert result.count("A") == (0 if replaced and first.start < second.end else len(first.new))


def _within(at: int, edit: Any) -> bool:
    return bool(edit.start <= at < edit.end)


@pytest.mark.heavy_after_first
@pytest.mark.anyio
async def test_copies_become_the_same_through_lost_connections_and_answers() -> None:
    async with Feed("text", keep=1000) as feed:
        document = Document(feed)
        async with serve(application(document), "127.0.0.1") as server, anyio.create_task_group() as tasks:
            chance = random.Random(1)
            change = document.change

            def and_then_the_network_fails(*arguments: Any) -> int | None:
                version: int | None = change(*arguments)
                if chance.random() < 0.2:
                    for ws in list(server.connections):
                        ws.abort()
                return version

            document.change = and_then_the_network_fails

            async def write(copy: Any, letter: str) -> None:
                await copy.load()
                tasks.start_soon(copy.follow)
                for _ in range(12):
                    start = chance.randint(0, len(copy.text))
                    assert await copy.edit(
                        start, chance.randint(start, min(start + 2, len(copy.text))), letter
                    )

            copies = [Copy(server.url) for _ in "abc"]
            async with anyio.create_task_group() as writing:
                for copy, letter in zip(copies, "abc", strict=True):
                    writing.start_soon(write, copy, letter)
            late = Copy(server.url)
            await late.load()
            tasks.start_soon(late.follow)
            assert await late.edit(0, 0, "late ")
            for copy in copies:
                await copy.reached(document.position)
            assert document.position.offset == 37  # each edit was applied once
            assert document.text.startswith("late ")
            assert [copy.text for copy in (*copies, late)] == [document.text] * 4
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_an_edit_that_a_loaded_text_has_is_not_applied_again() -> None:
    async with Feed("text", keep=1000) as feed:
        document = Document(feed)
        async with serve(application(document), "127.0.0.1") as server, anyio.create_task_group() as tasks:
            copy = Copy(server.url)
            await copy.load()
            document.change("one", document.position, Edit(0, 0, "one"))
            tasks.start_soon(copy.follow)
            await anyio.lowlevel.checkpoint()  # it asks for what comes after version 0
            copy.show(document.position, document.text)
            document.change("two", document.position, Edit(3, 3, ", two"))
            await copy.reached(document.position)
            assert copy.text == "one, two"
            tasks.cancel_scope.cancel()


@pytest.mark.anyio
async def test_a_copy_takes_the_text_of_a_server_that_began_anew() -> None:
    copy = Copy("")
    async with anyio.create_task_group() as tasks:

        async def serve_text(text: str, port: int) -> int:
            async with Feed("text", keep=1000) as feed:
                document = Document(feed)
                async with serve(application(document), "127.0.0.1", port) as server:
                    if not port:
                        copy.url = server.url
                        await copy.load()
                        tasks.start_soon(copy.follow)
                    assert document.change("name", feed.position, Edit(0, 0, text)) == 1
                    await until(lambda: copy.text == text, pause=0.01)
                    return server.port

        port = await serve_text("before", 0)
        stale = Copy(copy.url)
        stale.position = copy.position
        await serve_text("after", port)
        async with Feed("text", keep=1000) as feed:
            document = Document(feed)
            async with serve(application(document), "127.0.0.1", port):
                document.change("name", feed.position, Edit(0, 0, "another"))
                with anyio.fail_after(20):
                    assert not await stale.edit(0, 6, "lost")
        tasks.cancel_scope.cancel()


@pytest.mark.anyio
@pytest.mark.virtual_time
async def test_a_client_that_does_not_read_is_closed_and_delays_nobody() -> None:
    async with Feed("text", keep=1000) as feed:
        document = Document(feed)
        async with serving(application(document)) as server:
            options = {"subprotocols": [SUBPROTOCOL]}
            async with (
                server.connect("/edits", **options) as stalled,
                server.connect("/edits", **options) as reader,
            ):
                assert isinstance(await reader.receive(), str)
                await until(lambda: feed.statistics().followers == 2)
                for number in range(300):
                    size = len(document.text)
                    document.change(str(number), document.position, Edit(0, size, f"{number} ".ljust(9000)))
                    offset, data = read_item(await reader.receive())  # in time
                    assert (offset, json.loads(data)[2]) == (number + 1, document.text)
                assert feed.statistics().evicted == 1
                with pytest.raises(ConnectionClosed) as caught:
                    while True:
                        await stalled.receive()
                assert caught.value.code == 1013


@pytest.mark.anyio
@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "1",
        "[" * 9000,
        '["name", "epoch", 0, 0, 0]',
        '["n", "EPOCH", 0, 2, 1, ""]',
        '["n", "EPOCH", -1, 0, 0, ""]',
        '["n", "EPOCH", 0, 0, 1.5, ""]',
        '["n", "EPOCH", 0, "a", "b", ""]',
    ],
    ids=str,
)
async def test_what_is_no_edit_is_refused(wrong: str) -> None:
    async with Feed("text", keep=1000) as feed:
        document = Document(feed)
        async with serving(application(document)) as server, server.connect("/edit") as ws:
            await ws.send(wrong.replace("EPOCH", feed.position.epoch))
            with pytest.raises(ConnectionClosed) as caught:
                await ws.receive()
            assert caught.value.code == 1008
        assert (document.text, document.position) == ("", feed.position)


@pytest.mark.anyio
async def test_memory_is_bounded_and_old_versions_are_refused() -> None:
    async with Feed("text", keep=1000) as feed:
        document = Document(feed)
        first = feed.position
        for number in range(1001):
            assert document.change(str(number), document.position, Edit(0, 0, "x")) == number + 1
        assert document.change("late", first, Edit(0, 0, "y")) is None
        with pytest.raises(ValueError, match="too long"):
            document.change("large", document.position, Edit(0, 0, "z" * 100_000))
        assert document.text == "x" * 1001
