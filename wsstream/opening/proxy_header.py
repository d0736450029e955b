"""The PROXY protocol, versions 1 and 2: the header that a proxy sends before the client's first byte."""

from __future__ import annotations

import re
import struct
from ipaddress import IPv4Address, IPv6Address

__all__ = ["SIGNATURE", "ProxyHeader", "ProxyHeaderError"]

SIGNATURE = b"\r\n\r\n\x00\r\nQUIT\n"
"""The beginning of a header of version 2."""

_V1 = b"PROXY "
_V1_MAX = 107  # bytes of a line, with its end
_V2_HEAD = 16  # signature, version and command, family, length
_V2_MAX = 2048  # bytes of addresses and what may follow them; real ones have less than 300
_PORT = re.compile(r"0|[1-9][0-9]{0,4}")
_LOCAL, _PROXY = 0x20, 0x21
_ADDRESSES = {
    0x11: (IPv4Address, struct.Struct("!4s4sHH")),
    0x12: (IPv4Address, struct.Struct("!4s4sHH")),
    0x21: (IPv6Address, struct.Struct("!16s16sHH")),
    0x22: (IPv6Address, struct.Struct("!16s16sHH")),
}
_WITHOUT = {0x00, 0x31, 0x32}  # no address, or that of a Unix socket: nothing that says who the client is


class ProxyHeaderError(ValueError):
    """What arrived is no header of the PROXY protocol."""


class ProxyHeader:
    """Reads one header, and nothing of what follows it.

    Attributes:
        is_complete: whether all of it has arrived.
        source: address and port of the client; ``None`` if the header has none, as the proxy speaks for
            itself (``LOCAL``) or does not know (``UNKNOWN``).
    """

    def __init__(self) -> None:
        self.is_complete = False
        self.source: tuple[str, int] | None = None
        self._data = b""

    def receive_data(self, data: bytes) -> int:
        """Take what has arrived, and return how many bytes of it belong to the header: 1 at least.

        Raises:
            ProxyHeaderError: it is no header, or a malformed one.
        """
        before = len(self._data)
        self._data += data
        if self._data.startswith(SIGNATURE[: len(self._data)]):
            end = self._read_v2()
        elif self._data.startswith(_V1[: len(self._data)]):
            end = self._read_v1()
        else:
            raise ProxyHeaderError("the connection does not begin with a header of the PROXY protocol")
        self._data = self._data[:end]
        return end - before

    def _read_v1(self) -> int:
        end = self._data.find(b"\r\n", 0, _V1_MAX) + 2
        if end == 1:
            if len(self._data) >= _V1_MAX:
                raise ProxyHeaderError(f"the line of the PROXY protocol is longer than {_V1_MAX} bytes")
            return len(self._data)
        try:
            line = self._data[: end - 2].decode("ascii")
        except UnicodeDecodeError:
            raise ProxyHeaderError("the line of the PROXY protocol is not ASCII") from None
        self.is_complete = True
        match line.split(" "):
            case ["PROXY", "UNKNOWN", *_]:
                pass
            case ["PROXY", "TCP4", source, destination, *ports]:
                self.source = _checked(IPv4Address, source, destination, ports)
            case ["PROXY", "TCP6", source, destination, *ports]:
                self.source = _checked(IPv6Address, source, destination, ports)
            case _:
                raise ProxyHeaderError("the line of the PROXY protocol is malformed")
        return end

    def _read_v2(self) -> int:
        if len(self._data) < _V2_HEAD:
            return len(self._data)
        command, family, size = struct.unpack_from("!BBH", self._data, len(SIGNATURE))
        if command not in (_LOCAL, _PROXY):
            raise ProxyHeaderError(f"version and command of the PROXY protocol are unknown: {command:#04x}")
        if size > _V2_MAX:
            raise ProxyHeaderError(f"the header of the PROXY protocol is longer than {_V2_MAX} bytes")
        end = _V2_HEAD + int(size)
        if len(self._data) < end:
            return len(self._data)
        self.is_complete = True
        if command == _PROXY and family not in _WITHOUT:
            if family not in _ADDRESSES:
                raise ProxyHeaderError(f"the address family of the PROXY protocol is unknown: {family:#04x}")
            kind, fields = _ADDRESSES[family]
            if size < fields.size:
                raise ProxyHeaderError("the header of the PROXY protocol is too short for its addresses")
            source, _, port, _ = fields.unpack_from(self._data, _V2_HEAD)
            self.source = str(kind(source)), port
        return end


def _checked(
    kind: type[IPv4Address | IPv6Address], source: str, destination: str, ports: list[str]
) -> tuple[str, int]:
    try:
        kind(destination)
        address = str(kind(source))
    except ValueError:
        raise ProxyHeaderError("the line of the PROXY protocol has a malformed address") from None
    if len(ports) != 2 or not all(_PORT.fullmatch(port) and int(port) < 65536 for port in ports):
        raise ProxyHeaderError("the line of the PROXY protocol has a malformed port")
    return address, int(ports[0])
