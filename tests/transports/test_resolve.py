from __future__ import annotations

import socket

import anyio
import pytest

from wsstream.transports.resolve import Address, resolve

pytestmark = pytest.mark.anyio


@pytest.mark.parametrize(
    ("host", "family"),
    [("127.0.0.1", socket.AF_INET), ("::1", socket.AF_INET6), ("fe80::1%lo", socket.AF_INET6)],
)
async def test_an_ip_address_is_its_own_answer_without_waiting(host, family):
    with anyio.CancelScope() as scope:
        scope.cancel()  # so any wait would end here
        assert await resolve(host, 80) == [Address(family, (host, 80))]


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
