"""A server behind proxies: whom it believes, and what its handlers see. Under which names it is asked for."""

from __future__ import annotations

import logging
import ssl
import struct
from types import SimpleNamespace
from typing import Any

import anyio
import pytest
from anyio.streams.tls import TLSStream

import wsstream
from wsstream import HandshakeError, HandshakeRejected, Server, WebSocketStream, connect, serve
from wsstream.opening.proxy_header import SIGNATURE
from wsstream.testing import serving

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]

CLIENT, FORGED = "203.0.113.9", "198.51.100.7"
V1 = b"PROXY TCP4 203.0.113.9 127.0.0.1 4711 80\r\n"
V2 = SIGNATURE + struct.pack("!BBH", 0x21, 0x11, 12) + bytes([203, 0, 113, 9, 127, 0, 0, 1, 18, 103, 0, 80])
LOCAL = SIGNATURE + struct.pack("!BBH", 0x20, 0, 0)


async def say_who(ws: WebSocketStream) -> None:
    request = ws.request
    await ws.send(f"{request.client} {request.scheme} {request.host} {ws.url}")


async def who(
    headers: dict[str, str], peer: str = "127.0.0.1", trusted: tuple[str, ...] = ("127.0.0.1",)
) -> str | bytes:
    async with (
        serving(say_who, trusted_proxies=trusted) as server,
        server.connect("/a?b", client=(peer, 5), headers=headers) as ws,
    ):
        return await ws.receive()


async def test_a_trusted_proxy_says_who_the_client_is() -> None:
    said = {
        "X-Forwarded-For": f"{FORGED}, {CLIENT}",
        "X-Forwarded-Proto": "https",
        "X-Forwarded-Host": "a.example",
    }
    believed = f"{CLIENT} https a.example wss://a.example/a?b"
    assert await who(said) == believed
    assert await who({"Forwarded": f"for={CLIENT};proto=https;host=a.example"}) == believed
    assert await who(said, "10.1.2.3", ("192.0.2.1", "10.0.0.0/8")) == believed
    not_believed = "http testserver ws://testserver/a?b"
    assert await who(said, FORGED) == f"{FORGED} {not_believed}"
    assert await who(said, trusted=()) == f"127.0.0.1 {not_believed}"
    assert await who({}) == f"127.0.0.1 {not_believed}"


async def test_a_request_that_is_not_clear_gets_400() -> None:
    with pytest.raises(HandshakeRejected) as caught:
        await who({"X-Forwarded-For": CLIENT, "Forwarded": f"for={FORGED}"})
    assert caught.value.status == 400
    assert b"Forwarded and X-Forwarded-For name different clients." in caught.value.body


async def test_the_check_of_the_origin_uses_what_the_proxy_says() -> None:
    said = {"X-Forwarded-Proto": "https", "X-Forwarded-Host": "a.example", "Origin": "https://a.example"}
    async with serving(say_who, trusted_proxies=["127.0.0.1"]) as server:
        async with server.connect(headers=said):
            pass
        for wrong in ({"Origin": "https://testserver"}, {"X-Forwarded-Host": "b.example"}):
            with pytest.raises(HandshakeRejected, match="403"):
                async with server.connect(headers=said | wrong):
                    pass


@pytest.mark.parametrize(
    ("origin", "admitted"),
    [(None, True), ("http://testserver", True), ("https://evil.example", False), ("null", False)],
)
async def test_by_default_only_the_servers_own_pages_connect(origin: str | None, admitted: bool) -> None:
    async def attempt(options: dict[str, Any]) -> bool:
        async with serving(say_who, **options) as server:
            try:
                async with server.connect(origin=origin):
                    return True
            except HandshakeRejected as error:
                return error.status != 403

    assert await attempt({}) is admitted
    assert await attempt({"origins": None})


async def test_a_request_for_another_host_gets_421_before_process_request() -> None:
    asked: list[object] = []
    async with serving(say_who, hosts=["files.example"], process_request=asked.append) as server:
        with pytest.raises(HandshakeRejected) as caught:
            async with server.connect():
                pass
    assert (caught.value.status, asked) == (421, [])
    async with serving(say_who, hosts=["testserver"]) as server, server.connect():
        pass


# -- the PROXY protocol ----------------------------------------------------------------------------


async def asked_through(server: Server, header: bytes, tls: ssl.SSLContext | None = None) -> str | bytes:
    """What `say_who` answers to a connection that begins with `header`, byte by byte."""
    stream: Any = await anyio.connect_tcp("127.0.0.1", server.port)
    for position in range(len(header)):
        await stream.send(header[position : position + 1])
    if tls is not None:
        stream = await TLSStream.wrap(stream, hostname="localhost", ssl_context=tls)
    async with connect("ws://localhost/", transport=stream) as ws:
        return await ws.receive()


@pytest.mark.parametrize(
    ("header", "client"),
    [(V1, CLIENT), (V2, CLIENT), (b"PROXY UNKNOWN\r\n", "127.0.0.1"), (LOCAL, "127.0.0.1")],
)
@pytest.mark.parametrize("secure", [False, True])
async def test_the_proxy_protocol_comes_first(
    header: bytes, client: str, secure: bool, tls: SimpleNamespace
) -> None:
    options: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    async with serve(say_who, "127.0.0.1", ssl=tls.server if secure else None, **options) as server:
        answer = await asked_through(server, header, tls.client if secure else None)
        scheme = "https localhost wss" if secure else "http localhost ws"
        assert answer == f"{client} {scheme}://localhost/"


@pytest.mark.parametrize(
    ("trusted", "header", "logged"),
    [
        (
            "127.0.0.1",
            b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
            "does not begin with a header of the PROXY protocol",
        ),
        ("10.0.0.1", V1, "only trusted proxies may connect, as proxy_protocol is on"),
    ],
)
async def test_nobody_else_gets_in(
    trusted: str, header: bytes, logged: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"trusted_proxies": [trusted], "proxy_protocol": True}
    async with (
        serve(say_who, "127.0.0.1", **options) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.send(header)
            await stream.receive()
    assert logged in caplog.text


async def test_a_proxy_that_closes_before_its_header(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    async with serve(say_who, "127.0.0.1", **options) as server:
        async with await anyio.connect_tcp("127.0.0.1", server.port) as stream:
            await stream.send(V1[:5])
        await anyio.sleep(1)
    assert "closed the connection before it sent the PROXY protocol" in caplog.text


async def test_a_proxy_that_sends_nothing_is_dropped_after_open_timeout(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    options: dict[str, Any] = {"trusted_proxies": ["127.0.0.1"], "proxy_protocol": True}
    async with (
        serve(say_who, "127.0.0.1", open_timeout=5, **options) as server,
        await anyio.connect_tcp("127.0.0.1", server.port) as stream,
    ):
        await stream.send(V1[:10])
        with pytest.raises((anyio.EndOfStream, anyio.BrokenResourceError)):
            await stream.receive()
    assert "still waiting for the PROXY protocol" in caplog.text


async def test_without_proxy_protocol_the_answer_says_what_came() -> None:
    async with serve(say_who, "127.0.0.1") as server:
        with pytest.raises(HandshakeError) as caught:
            await asked_through(server, V1)
        assert isinstance(caught.value, HandshakeRejected)
        assert b"this looks like the PROXY protocol" in caught.value.body
        assert b"bytearray" not in caught.value.body


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"proxy_protocol": True}, "proxy_protocol needs trusted_proxies"),
        ({"trusted_proxies": ["a.example"]}, "a trusted proxy must be like"),
        ({"hosts": []}, "hosts must not be empty"),
        ({"origins": ["a.example"]}, "an origin must be like"),
    ],
)
def test_wrong_values(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        serve(say_who, **options)


@pytest.mark.parametrize(
    "options",
    [
        {"proxy_protocol": 1},
        {"trusted_proxies": "127.0.0.1"},
        {"hosts": "a.example"},
        {"origins": "https://a"},
    ],
)
def test_wrong_types(options: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        wsstream.serve(say_who, **options)
