"""The client for browsers that docs/reference/feed-protocol.md has, in browsers."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from kit.browsers import BROWSERS, until
from kit.waiting import until as until_here

from wsstream import Request, Response, WebSocketStream, serve
from wsstream.feeds import SUBPROTOCOL, Feed, Position

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "feed-protocol.md"
START = """import("/follow.js").then(({ follow }) => {
  window.got = []; window.gaps = 0;
  const shown = (data) => typeof data === "string" ? data : Array.from(data);
  const url = location.origin.replace("http", "ws");
  window.stop = follow(url, (data, at) => got.push([shown(data), at]), () => gaps++);
  return true;
})"""


def client() -> str:
    text = PAGE.read_text(encoding="utf-8")
    (code,) = re.findall(r"^```javascript\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
    return str(code)


@pytest.mark.anyio
@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)  # of the browser's driver
@pytest.mark.parametrize("browser", sorted(BROWSERS))
async def test_it_goes_on_after_a_lost_connection_and_tells_of_gaps(browser: str, tmp_path: Path) -> None:
    def respond(request: Request) -> Response | None:
        if request.path == "/follow.js":
            return Response(200, {"Content-Type": "text/javascript"}, client())
        if "upgrade" not in request.headers:
            return Response(200, {"Content-Type": "text/html"}, "<!doctype html><title>feed</title>")
        return None

    async with Feed("news") as news, Feed("other") as other:
        feeds: list[Feed] = [news]

        async def handler(ws: WebSocketStream) -> None:
            await feeds[0].follow(ws, since=Position.parse(ws.request))

        async with (
            serve(handler, "127.0.0.1", subprotocols=[SUBPROTOCOL], process_request=respond) as server,
            BROWSERS[browser](tmp_path) as page,
        ):
            await page.open(server.url.replace("ws:", "http:"))
            assert await page.run(START)

            def drop() -> None:
                for ws in list(server.connections):
                    ws.abort()

            await until_here(lambda: news.statistics().followers, pause=0.05)
            news.publish("ä text")
            news.publish(b"\x00\xff")
            await until(page, "got.length == 2")
            drop()
            news.publish("missed")
            await until(page, "got.length == 3")
            got: Any = await page.run("got")
            epoch = news.position.epoch
            assert got == [["ä text", f"{epoch}:1"], [[0, 255], f"{epoch}:2"], ["missed", f"{epoch}:3"]]
            assert await page.run("gaps") == 0
            feeds[0] = other
            drop()
            await until(page, "gaps == 1")
            other.publish("of the other")
            await until(page, "got.length == 4")
            await page.run("stop()")
            await until_here(lambda: not other.statistics().followers, pause=0.05)
