"""Addresses of peers."""

from __future__ import annotations

import pytest

from wsstream.opening.peer import PeerAddress, ip_address_of, parse_address


@pytest.mark.parametrize(
    ("peer", "address"),
    [
        (("127.0.0.1", 5), "127.0.0.1"),
        (("::1", 5, 0, 0), "::1"),
        (("fe80::1%eth0", 5, 0, 2), "fe80::1"),
        (("::ffff:192.0.2.1", 5, 0, 0), "192.0.2.1"),
        (("testserver", 5), None),
        ((), None),
        ("/run/a.sock", None),
        (None, None),
    ],
)
def test_the_address_of_a_peer(peer: PeerAddress, address: str | None) -> None:
    found = ip_address_of(peer)
    assert (None if found is None else str(found)) == address


@pytest.mark.parametrize("text", ["", "1.2.3", "1.2.3.4.5", "::g", "a.example", "127.0.0.1/8", "1.2.3.4:5"])
def test_texts_that_are_no_address(text: str) -> None:
    assert parse_address(text) is None
