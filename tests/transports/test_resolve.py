from __future__ import annotations

import socket

import anyio
import pytest

from wsstream.transports.resolve import Address, resolve

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


LOOPBACK = next(name for _, name in socket.if_nameindex() if name.startswith("lo"))
SCOPE = socket.if_nametoindex(LOOPBACK)
SCOPED = Address(socket.AF_INET6, ("fe80::1", 80, 0, SCOPE))


@pytest.mark.parametrize(
    ("host", "address"),
    [
        ("127.0.0.1", Address(socket.AF_INET, ("127.0.0.1", 80))),
        ("::1", Address(socket.AF_INET6, ("::1", 80))),
        (f"fe80::1%{LOOPBACK}", SCOPED),
        (f"fe80::1%{SCOPE}", SCOPED),
    ],
)
async def test_an_ip_address_is_its_own_answer_without_waiting(host, address):
    with anyio.CancelScope() as scope:
        scope.cancel()  # so any wait would end here
        assert await resolve(host, 80) == [address]


@pytest.mark.parametrize("anyio_backend", ["asyncio", "trio"])
@pytest.mark.not_on_uvloop  # it asks a resolver of its own
async def test_a_name_keeps_the_scope_of_its_address(monkeypatch):
    """As mDNS gives it; the resolver of this machine cannot be made to."""

    def getaddrinfo(host, port, *_args, **_options):
        if host in ("fe80::1%lo", f"fe80::1%{SCOPE}"):
            return real(host, port, *_args, **_options)
        return [(socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("fe80::1", int(port), 0, SCOPE))]

    real = socket.getaddrinfo
    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert await resolve("device.local", 80) == [SCOPED]


async def test_a_scope_that_this_machine_does_not_have_raises_gaierror_that_names_it():
    for host in ("fe80::1%nothing", f"::1%{LOOPBACK}"):
        with pytest.raises(socket.gaierror, match=f"cannot resolve '{host}': there is no such interface"):
            await resolve(host, 80)


def test_an_address_is_shown_with_its_scope_and_keeps_it_with_another_port():
    assert str(SCOPED) == f"fe80::1%{SCOPE} port 80"
    assert SCOPED.with_port(81).sockaddr == ("fe80::1", 81, 0, SCOPE)
    plain = Address(socket.AF_INET6, ("::1", 80))
    assert (str(plain), plain.scope, plain.with_port(81).sockaddr) == ("::1 port 80", 0, ("::1", 81))


async def test_a_name_is_resolved_to_each_address_once():
    addresses = await resolve("localhost", 80)
    assert addresses
    assert len(set(addresses)) == len(addresses)
    assert {address.sockaddr for address in addresses} <= {("127.0.0.1", 80), ("::1", 80)}


async def test_no_host_means_all_interfaces():
    addresses = await resolve(None, 80, passive=True)
    assert {address.sockaddr[0] for address in addresses} <= {"0.0.0.0", "::"}


@pytest.mark.parametrize("host", ["", "a..b", "x\0y", "ü" * 64, "\udc80", "nobody.invalid"])
async def test_what_has_no_address_raises_gaierror_that_names_it(host):
    with pytest.raises(socket.gaierror) as raised:
        await resolve(host, 80)
    assert repr(host) in str(raised.value)
