"""ASGI's rules as scripts: in memory, under uvicorn with wsstream, and under uvicorn's own protocols."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from urllib.parse import quote

import anyio
import pytest
from kit.asgi import Case, Log, play, scripted_app, uvicorn_server
from kit.asgi_rules import RULES

from wsstream import connect
from wsstream.testing import asgi_connect

pytestmark = pytest.mark.anyio

FAILS = {name for name, case in RULES.items() if "raise" in case.app}


class Dispatcher:
    """One application for all rules: the path names the rule."""

    def __init__(self) -> None:
        self.logs: dict[str, Log] = {}

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        name = scope["path"][1:]
        await scripted_app(RULES[name], self.logs[name])(scope, receive, send)

    async def run(self, name: str, url: str) -> dict[str, Any]:
        case, log = RULES[name], Log()
        self.logs[name] = log
        client = await play(
            case, connect(f"{url}/{quote(name)}", subprotocols=case.subprotocols, close_timeout=5)
        )
        await log.wait()
        return {"app_sees": log.seen, "client_sees": client}


@pytest.fixture(scope="module")
def wsstream_server() -> Iterator[tuple[Dispatcher, str]]:
    app = Dispatcher()
    with uvicorn_server(app, ws_max_size=1 << 20) as (_, url):
        yield app, url


@pytest.fixture(scope="module", params=["websockets-sansio", "wsproto"])
def other_server(request: pytest.FixtureRequest) -> Iterator[tuple[str, Dispatcher, str]]:
    app = Dispatcher()
    with uvicorn_server(app, ws=request.param, ws_max_size=1 << 20) as (_, url):
        yield request.param, app, url


@pytest.mark.parametrize("name", RULES)
async def test_a_rule_under_uvicorn(name: str, wsstream_server: tuple[Dispatcher, str]) -> None:
    app, url = wsstream_server
    assert await app.run(name, url) == RULES[name].expected("wsstream")


@pytest.mark.slow
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.parametrize("name", RULES)
async def test_uvicorns_own_protocols_do_the_same_or_differ_for_a_reason(
    name: str, other_server: tuple[str, Dispatcher, str]
) -> None:
    server, app, url = other_server
    assert await app.run(name, url) == RULES[name].expected(server)


def test_a_difference_is_one_and_has_a_reason() -> None:
    for name, case in RULES.items():
        for server, (reason, _) in case.differs.items():
            assert reason
            assert case.expected(server) != case.expected("wsstream"), f"{name}: {server}"


@pytest.mark.virtual_time
@pytest.mark.parametrize("name", sorted(RULES))
async def test_a_rule_in_memory(name: str) -> None:
    case, log = RULES[name], Log()
    if name == "a message above the limit closes with 1009":
        case = Case(case.app, ["x" * (1 << 24) + "y"], case.app_sees, case.client_sees)
    connecting = asgi_connect(scripted_app(case, log), lifespan="off", subprotocols=case.subprotocols)
    if name in FAILS:
        with pytest.raises(KeyError, match="own"):
            async with connecting as ws:
                await ws.wait_closed()
        assert log.seen == case.app_sees
        return
    client = await play(case, connecting)
    assert {"app_sees": log.seen, "client_sees": client} == case.expected("wsstream")


async def test_the_request_is_checked_before_the_application_sees_it(
    wsstream_server: tuple[Dispatcher, str],
) -> None:
    _, url = wsstream_server
    host, _, port = url.removeprefix("ws://").partition(":")
    async with await anyio.connect_tcp(host, int(port)) as stream:
        await stream.send(b"GET /x HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n")
        answer = b""
        with anyio.fail_after(20):
            async for data in stream:
                answer += data
    assert answer.startswith(b"HTTP/1.1 426 ")
    assert b"Sec-WebSocket-Version: 13\r\n" in answer
