"""The header of the PROXY protocol: versions 1 and 2, in any pieces, and nothing after it."""

from __future__ import annotations

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsstream.opening.proxy_header import SIGNATURE, ProxyHeader, ProxyHeaderError

V4 = bytes([203, 0, 113, 9]) + bytes([10, 0, 0, 1]) + struct.pack("!HH", 4711, 443)
V6 = bytes.fromhex("20010db8000000000000000000000001") + bytes(16) + struct.pack("!HH", 4711, 443)


def v2(payload: bytes, command: int = 0x21, family: int = 0x11, size: int | None = None) -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(payload) if size is None else size) + payload


HEADERS = [
    (b"PROXY TCP4 203.0.113.9 10.0.0.1 4711 443\r\n", ("203.0.113.9", 4711)),
    (b"PROXY TCP4 0.0.0.0 255.255.255.255 0 65535\r\n", ("0.0.0.0", 0)),
    (b"PROXY TCP6 2001:db8::1 ::1 4711 443\r\n", ("2001:db8::1", 4711)),
    (b"PROXY TCP6 2001:DB8:0:0:0:0:0:1 ::1 4711 443\r\n", ("2001:db8::1", 4711)),
    (b"PROXY UNKNOWN\r\n", None),
    (b"PROXY UNKNOWN ffff::1 ffff::2 65535 65535\r\n", None),
    (v2(V4), ("203.0.113.9", 4711)),
    (v2(V4, family=0x12), ("203.0.113.9", 4711)),
    (v2(V6, family=0x21), ("2001:db8::1", 4711)),
    (v2(V4 + b"\x04\x00\x03abc"), ("203.0.113.9", 4711)),
    (v2(V4 + bytes(2036)), ("203.0.113.9", 4711)),
    (v2(b"", command=0x20, family=0), None),
    (v2(V4, command=0x20), None),
    (v2(b"", family=0), None),
    (v2(bytes(216), family=0x31), None),
]

MALFORMED = [
    b"GET / HTTP/1.1\r\n",
    b"\x16\x03\x01",
    b"PROXY",
    b"PROXY  TCP4 1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 1 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 65536\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 01 1\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 -1 1\r\n",
    b"PROXY TCP4 1.2.3.4 x 1 1\r\n",
    b"PROXY TCP4 ::1 ::1 1 1\r\n",
    b"PROXY TCP6 1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY TCP5 1.2.3.4 1.2.3.4 1 1\r\n",
    b"PROXY \xff\r\n",
    b"PROXY UNKNOWN" + b"x" * 100,
    b"PROXY UNKNOWN" + b"x" * 100 + b"\r\n",
    v2(V4, command=0x11),
    v2(V4, command=0x22),
    v2(V4, family=0x13),
    v2(V4, family=0x41),
    v2(V4[:-1]),
    v2(V6[:-1], family=0x21),
    v2(b"", size=2049),
]


@pytest.mark.parametrize(("data", "source"), HEADERS)
@pytest.mark.parametrize("size", [1, 7, 5000])
def test_a_header_is_read_and_nothing_after_it(
    data: bytes, source: tuple[str, int] | None, size: int
) -> None:
    header, rest = ProxyHeader(), data + b"GET / HTTP/1.1\r\n"
    while not header.is_complete:
        taken = header.receive_data(rest[:size])
        assert 0 < taken <= len(rest[:size])
        rest = rest[taken:]
    assert rest == b"GET / HTTP/1.1\r\n"
    assert header.source == source


@pytest.mark.parametrize("data", MALFORMED)
@pytest.mark.parametrize("size", [1, 5000])
def test_anything_else_is_refused(data: bytes, size: int) -> None:
    header, data = ProxyHeader(), data + bytes(200)
    with pytest.raises(ProxyHeaderError):
        while not header.is_complete:
            data = data[header.receive_data(data[:size]) :]
    assert not header.source


@given(st.binary(min_size=1, max_size=300), st.integers(1, 20))
@example(SIGNATURE + b"\x21\x11\x00\x0c" + V4, 3)
def test_any_bytes_are_a_header_or_refused(data: bytes, size: int) -> None:
    header = ProxyHeader()
    try:
        while data and not header.is_complete:
            data = data[header.receive_data(data[:size]) :]
    except ProxyHeaderError:
        pass
