"""`asgi_connect`: an ASGI application in memory."""

from __future__ import annotations

from typing import Any

import anyio
import pytest

from wsstream import HandshakeRejected
from wsstream.testing import asgi_connect

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]
ACCEPT = {"type": "websocket.accept"}


async def test_the_scope_is_as_asked() -> None:
    seen: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append(scope)
        await send(ACCEPT)

    options: Any = {"client": ("192.0.2.1", 7), "root_path": "/r", "state": {"db": 1}, "lifespan": "off"}
    async with asgi_connect(app, "/a?b=1", **options):
        pass
    (scope,) = seen
    assert (scope["path"], scope["query_string"], scope["client"]) == ("/r/a", b"b=1", ["192.0.2.1", 7])
    assert scope["state"] == {"db": 1}


async def test_a_denial_reaches_the_test() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "websocket.close"})

    with pytest.raises(HandshakeRejected) as rejected:
        async with asgi_connect(app):
            raise AssertionError
    assert rejected.value.status == 403


@pytest.mark.parametrize("accepts", [False, True])
async def test_what_the_application_raises_reaches_the_test(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await send(ACCEPT)
        raise KeyError("own")

    with pytest.raises(KeyError, match="own"):
        async with asgi_connect(app) as ws:
            await ws.receive()


async def test_what_the_test_raises_comes_first() -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        raise KeyError("own")

    with pytest.raises(AssertionError, match="the test's") as raised:
        async with asgi_connect(app) as ws:
            await ws.wait_closed()
            raise AssertionError("the test's")
    assert "KeyError('own')" in raised.value.__notes__[0]


@pytest.mark.parametrize("accepts", [False, True])
async def test_it_never_hangs(accepts: bool) -> None:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        if accepts:
            await send(ACCEPT)
        await anyio.sleep_forever()

    with pytest.raises(TimeoutError):
        async with asgi_connect(app, timeout=5) as ws:
            await ws.receive()


async def test_an_endpoint_that_only_says_that_the_client_left_is_no_failure() -> None:
    class Disconnect(Exception):
        code = 1000

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send(ACCEPT)
        while (await receive())["type"] != "websocket.disconnect":
            pass
        raise Disconnect

    async with asgi_connect(app):
        pass
