"""How many connections each client may have."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any

import anyio
import pytest
from kit.endpoints import check_echo, echo, fail_to_connect
from kit.waiting import until

from wsstream import HandshakeRejected, Headers, Request, Server, WebSocketStream, connect, serve
from wsstream.opening.handshake_server import RequestRejected
from wsstream.server.places import Limits, Places, client_network

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


def _request(peer: Any, **headers: str) -> Request:
    return Request("/", Headers(headers.items()), peer=peer)


@pytest.mark.parametrize(
    ("peer", "network"),
    [
        (("192.0.2.1", 5), "192.0.2.1"),
        (("2001:db8:1:2:3:4:5:6", 5, 0, 0), "2001:db8:1:2::/64"),
        (("2001:db8:1:2::", 5, 0, 0), "2001:db8:1:2::/64"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::/64"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("a.example", 5), None),
        ((), None),
        ("/run/app.sock", None),
        ("", None),
        (None, None),
    ],
    ids=str,
)
async def test_a_client_is_an_ipv4_address_or_a_network_of_ipv6(peer: Any, network: str | None) -> None:
    assert client_network(_request(peer)) == network


async def test_a_place_that_is_free_again_is_given_again() -> None:
    places = Places(Limits(None, 3, 2))
    one, two = [places.take(_request(("192.0.2.1", port))) for port in (1, 2)]
    with pytest.raises(RequestRejected, match="This client has as many") as caught:
        places.take(_request(("192.0.2.1", 3)))
    assert caught.value.response.status == 429
    other = places.take(_request(("192.0.2.2", 1)))
    with pytest.raises(RequestRejected) as caught:
        places.take(_request(("192.0.2.3", 1)))
    assert caught.value.response.status == 503
    places.free(one)
    places.free(other)
    assert places.take(_request(("192.0.2.1", 3))) == two
    places.free(two)
    places.free(two)
    assert (places.taken, places._by_client) == (0, {})  # no client that is gone is kept


@asynccontextmanager
async def _serve(**options: Any) -> AsyncIterator[tuple[Server, list[WebSocketStream]]]:
    """A server with two connections of one client."""
    async with AsyncExitStack() as stack:
        server = await stack.enter_async_context(
            serve(echo, "127.0.0.1", max_connections_per_client=2, **options)
        )
        yield server, [await stack.enter_async_context(connect(server.url)) for _ in range(2)]


async def test_one_too_many_of_a_client_gets_429_and_others_are_served() -> None:
    async with _serve() as (server, (ws, _)):
        with pytest.raises(HandshakeRejected) as caught:
            await fail_to_connect(server.url)
        assert (caught.value.status, dict(caught.value.headers)["retry-after"]) == (429, "1")
        stream = await anyio.connect_tcp("127.0.0.1", server.port, local_host="127.0.0.2")
        async with connect(server.url, transport=stream) as other:
            await check_echo(other)
        await ws.aclose()
        await until(lambda: len(server.connections) == 1)
        async with connect(server.url) as again:
            await check_echo(again)


async def test_clients_of_a_unix_socket_have_no_address_and_no_limit(tmp_path: Path) -> None:
    async with (
        serve(echo, path=tmp_path / "s", max_connections_per_client=1) as server,
        connect(server.url) as one,
        connect(server.url) as two,
    ):
        await check_echo(one)
        await check_echo(two)


@pytest.mark.parametrize(("value", "error"), [(0, ValueError), ("1", TypeError), (True, TypeError)])
async def test_the_limit_is_checked(value: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_connections_per_client must be"):
        serve(echo, "127.0.0.1", max_connections_per_client=value)
