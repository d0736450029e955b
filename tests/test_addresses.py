"""Where servers listen and clients connect to: each kind of address, by what `server.url` says."""

from __future__ import annotations

import os
import socket
import ssl
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from anyio.abc import SocketAttribute

from wsstream import InvalidURL, WebSocketStream, connect, reconnect, serve
from wsstream.transports.listen import url_of

pytestmark = pytest.mark.anyio

LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))


async def _handler(ws: WebSocketStream) -> None:
    await ws.send(f"{ws.request.target} at {ws.request.headers['host']}")
    await ws.wait_closed()


async def _first(url: str, **options: Any) -> str | bytes:
    async with connect(url, **options) as ws:
        return await ws.receive()


# -- server.url gives what connect takes -----------------------------------------------------


def _sockets(kind: str, folder: Path, stack: ExitStack) -> list[socket.socket]:
    """The listeners of a server, bound as somebody else would."""
    names: dict[str, Any] = {
        "v4": ("127.0.0.1", 0),
        "v6": ("::1", 0),
        "all v4": ("0.0.0.0", 0),
        "all v6": ("::", 0),
        "unix": str(folder / "s"),
        "unix, odd": str(folder / "a b:c?d#e%f@g,h=ä\n"),
        "unix, not UTF-8": os.fsencode(folder / "s") + b"\xff",
        "abstract": f"\0wsstream test {os.getpid()}",
        "abstract, odd": b"\0" + os.urandom(8).replace(b"\0", b":") + b"\0:?",
    }
    name = names[kind]
    family = (
        socket.AF_UNIX
        if not isinstance(name, tuple)
        else socket.AF_INET6
        if ":" in name[0]
        else socket.AF_INET
    )
    listener = stack.enter_context(socket.socket(family))
    listener.bind(name)
    listener.listen()
    return [listener]


KINDS = ["v4", "v6", "all v4", "all v6", "unix", "unix, odd", "unix, not UTF-8"]
ON_LINUX = ["abstract", "abstract, odd"] if sys.platform == "linux" else []


@pytest.mark.parametrize("secure", [False, True], ids=["plain", "tls"])
@pytest.mark.parametrize("kind", KINDS + ON_LINUX)
async def test_connect_takes_what_server_url_gives(
    kind: str, secure: bool, tmp_path: Path, server_tls: ssl.SSLContext, client_tls: ssl.SSLContext
) -> None:
    with ExitStack() as stack:
        listeners = _sockets(kind, tmp_path, stack)
        async with serve(_handler, listeners=listeners, ssl=server_tls if secure else None) as server:
            # the certificate is of 127.0.0.1 and localhost, which is the host of a Unix socket
            name = "localhost" if "v6" in kind else None
            options: Any = {"ssl": client_tls, "server_hostname": name} if secure else {}
            async with connect(server.url, **options) as ws:
                assert str(await ws.receive()).startswith("/ at ")
                assert ws.url.startswith(server.url)
            assert (server.port == 0) is kind.startswith(("unix", "abstract"))
            async for ws in reconnect(server.url, **options):
                async with ws:
                    await ws.receive()
                break


@pytest.mark.parametrize("host", [None, "localhost", "127.0.0.1", "::1"])
async def test_a_server_that_listens_itself_says_so_too(host: str | None) -> None:
    async with serve(_handler, host) as server:
        assert await _first(server.url) == f"/ at {server.url.partition('//')[2]}"


async def test_a_path_is_served_under_its_url(tmp_path: Path) -> None:
    for name in ("s", "a b:c?d#e%f"):
        async with serve(_handler, path=tmp_path / name) as server:
            assert await _first(server.url) == "/ at localhost"
            assert await _first(f"{server.url}:/chat?room=1") == "/chat?room=1 at localhost"


async def test_a_unix_socket_is_seen_by_both_ends(tmp_path: Path) -> None:
    path = str(tmp_path / "s")
    async with serve(_handler, path=path) as server, connect(f"ws+unix:{path}:/x") as ws:
        assert ws.url == f"ws+unix:{path}:/x"
        assert ws.extra(SocketAttribute.remote_address) == path
        (theirs,) = server.connections
        assert theirs.url == "ws://localhost/x"


async def test_nobody_at_a_unix_socket_is_an_os_error_that_names_it(tmp_path: Path) -> None:
    for path, kind in (
        (tmp_path / "nothing", FileNotFoundError),
        (tmp_path / "stale", ConnectionRefusedError),
    ):
        if kind is ConnectionRefusedError:
            with socket.socket(socket.AF_UNIX) as left_over:
                left_over.bind(str(path))
        with pytest.raises(kind) as caught:
            await _first(f"ws+unix:{path}")
        assert str(path) in str(caught.value)
        assert caught.value.__notes__ == [f"This was on the way to ws+unix:{path}."]


@pytest.mark.parametrize(
    "options",
    [{"proxy": "http://h"}, {"proxy": "env"}, {"max_redirects": 1}, {"transport": lambda: None}],
    ids=lambda options: next(iter(options)),
)
def test_a_unix_socket_excludes_any_other_way(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"Unix socket cannot be combined with {next(iter(options))}"):
        connect("ws+unix:/s", **options)
    connect("ws+unix:/s", max_redirects=0)


def test_a_context_for_tls_is_for_wss_unix_only(client_tls: ssl.SSLContext) -> None:
    connect("wss+unix:/s", ssl=client_tls)
    with pytest.raises(ValueError, match="the URL is ws\\+unix, not wss"):
        connect("ws+unix:/s", ssl=client_tls)


# -- IPv6 addresses that are valid on one link -----------------------------------------------

_IN_A_NAMESPACE = """
import socket, sys, anyio
from wsstream import connect, reconnect, serve

interface, backend = sys.argv[1:]
index = socket.if_nametoindex(interface)
real = socket.getaddrinfo

def as_mdns_does(host, port, *args, **kwargs):
    scoped = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", int(port), 0, index))
    if host in ("device.local", b"device.local"):
        return [scoped]
    if host in ("both.local", b"both.local"):
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", int(port))), scoped]
    return real(host, port, *args, **kwargs)

socket.getaddrinfo = as_mdns_does

async def handler(ws):
    host, _, _, scope = ws.request.peer
    await ws.send(f"{host} {scope}")

async def main():
    async with serve(handler, f"fe80::1%{interface}") as server:
        async with connect(f"ws://device.local:{server.port}/") as ws:
            print(await ws.receive())
        stream = await anyio.connect_tcp(f"fe80::1%{interface}", server.port)
        async with connect("ws://device.local/", transport=stream) as ws:
            print(await ws.receive())
        try:
            server.url
        except ValueError as error:
            print(error)
        port = server.port
    try:
        async with connect(f"ws://device.local:{port}/"):
            pass
    except ConnectionRefusedError as error:
        print(error)
    async with serve(handler, "both.local") as server:
        print(server.url == f"ws://127.0.0.1:{server.port}")
        async with connect(f"ws://device.local:{server.port}/") as ws:
            print(await ws.receive())

anyio.run(main, backend=backend)
"""


@pytest.fixture(scope="module")
def namespace() -> list[str]:
    """How to run a program where the loopback interface has fe80::1, and nobody else notices."""
    prepare = f'ip link set {LOOPBACK} up && ip addr add fe80::1/64 dev {LOOPBACK} nodad && exec "$@"'
    command = ["unshare", "-rn", "sh", "-c", prepare, "sh"]
    try:
        done = subprocess.run([*command, "true"], capture_output=True, text=True, timeout=10)
        why = done.stderr.strip()
    except FileNotFoundError as error:
        why = str(error)
    if why:
        pytest.skip(f"no network namespace of our own ({why}); the tests below do without, as far as one can")
    return command


@pytest.mark.heavy
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_link_local_address_keeps_its_scope_from_end_to_end(namespace: list[str], backend: str) -> None:
    command = [*namespace, sys.executable, "-c", _IN_A_NAMESPACE, LOOPBACK, backend]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    index = socket.if_nametoindex(LOOPBACK)
    lines = done.stdout.splitlines()
    assert lines[:2] == [f"fe80::1 {index}"] * 2, done.stderr
    assert lines[2].startswith(f"there is no URL for a server that listens on fe80::1%{index} port ")
    assert f"(tried fe80::1%{index})" in lines[3]
    assert lines[4:] == ["True", f"fe80::1 {index}"]


async def test_without_the_address_it_is_not_the_scope_that_is_missing() -> None:
    """An address with a scope that got lost is EINVAL, whatever addresses this machine has."""
    with pytest.raises(OSError) as caught:
        async with serve(_handler, f"fe80::dead:beef%{LOOPBACK}"):
            pytest.fail("listening")
    assert "Invalid argument" not in str(caught.value)
    assert f"fe80::dead:beef%{socket.if_nametoindex(LOOPBACK)}" in str(caught.value)


def test_a_server_with_several_listeners_has_the_url_of_one_that_can_have_one() -> None:
    scoped = ("fe80::1", 80, 0, 1)
    assert url_of([scoped, ("192.0.2.1", 81)], secure=False) == "ws://192.0.2.1:81"
    assert url_of([scoped, "/s"], secure=True) == "wss+unix:/s"
    assert url_of([("::1", 80, 0, 0)], secure=True) == "wss://[::1]:80"
    with pytest.raises(ValueError, match="cannot hold the scope of an IPv6 address"):
        url_of([scoped], secure=False)


def test_a_url_with_a_scope_is_refused_with_what_to_do() -> None:
    with pytest.raises(InvalidURL, match=r"cannot have: use a host name .* or give connect"):
        connect("ws://[fe80::1%25lo]/")
