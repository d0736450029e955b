"""Who the client is behind trusted proxies, as ``Forwarded`` (RFC 7239) or ``X-Forwarded-*`` says.

Each proxy adds the address that it sees at the end of the list. So the list is read from its end: entries of
trusted proxies are passed over, and the first other one is the client. The client itself may have sent what
stands before that, which is never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network, ip_network

from wsstream.arguments import check_type
from wsstream.opening.grammar import is_host
from wsstream.opening.headers import Headers
from wsstream.opening.peer import Forwarded, IPAddress, PeerAddress, ip_address_of, parse_address

__all__ = ["ForwardedError", "TrustedProxies"]

_MAX_PROXIES = 32  # entries that are read; more proxies in a row are a mistake or an attack
_SCHEMES = {"http": "http", "https": "https", "ws": "http", "wss": "https"}
# RFC 7239 section 4: pairs with semicolons between them. A value is a token or a quoted string.
_PAIR = re.compile(r'[ \t]*([!#$%&\'*+\-.^_`|~0-9A-Za-z]+)=("(?:[^"\\]|\\.)*"|[^\s";,]*)[ \t]*(;|,|$)')
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::\d{1,5})?|(\d+\.\d+\.\d+\.\d+)(?::\d{1,5})?|([0-9A-Fa-f:.]+)")


class ForwardedError(ValueError):
    """A trusted proxy sent something that is not clear."""


class TrustedProxies:
    """Which proxies are believed.

    Args:
        proxies: addresses such as ``"127.0.0.1"``, networks such as ``"10.0.0.0/8"``, and ``"unix"`` for
            peers on a Unix socket.

    Raises:
        TypeError: `proxies` is itself a str, or an element is not a str.
        ValueError: an element is neither an address nor a network.
    """

    __slots__ = ("_networks", "_unix")

    def __init__(self, proxies: Iterable[str]) -> None:
        if isinstance(proxies, str):
            raise TypeError("trusted_proxies must be a sequence of str, got a str")
        self._unix = False
        self._networks: list[IPv4Network | IPv6Network] = []
        for proxy in proxies:
            check_type("a trusted proxy", proxy, str, "a str")
            if proxy == "unix":
                self._unix = True
                continue
            try:
                self._networks.append(ip_network(proxy))
            except ValueError as error:
                raise ValueError(
                    f'a trusted proxy must be like "10.0.0.1", "10.0.0.0/8" or "unix": {error}'
                ) from None

    def __bool__(self) -> bool:
        return self._unix or bool(self._networks)

    def trusts(self, peer: PeerAddress) -> bool:
        """Whether the peer at the other end of a socket is a proxy to believe."""
        if not isinstance(peer, tuple):
            return self._unix
        address = ip_address_of(peer)
        return address is not None and self._trusts(address)

    def _trusts(self, address: IPAddress) -> bool:
        return any(address in network for network in self._networks)

    def read(self, headers: Headers) -> Forwarded:
        """What the request of a trusted peer says.

        Raises:
            ForwardedError: the entry that counts has no address, or the two kinds of fields name different
                clients, as one of them then comes from the client itself.
        """
        found = [
            said
            for said in (self._read_standard(headers), self._read_usual(headers))
            if said.client is not None
        ]
        if not found:
            return Forwarded(None, *self._read_usual(headers)[1:])
        if len({said.client for said in found}) > 1:
            raise ForwardedError("Forwarded and X-Forwarded-For name different clients")
        return Forwarded(
            found[0].client,
            next((said.scheme for said in found if said.scheme), None),
            next((said.host for said in found if said.host), None),
        )

    def _read_standard(self, headers: Headers) -> Forwarded:
        """``Forwarded``: the scheme and the host are those of the client's entry."""
        if not (entries := _entries(headers.get_all("forwarded"))):
            return Forwarded(None, None, None)
        position, client = self._find_client([entry.get("for", "") for entry in entries], "Forwarded")
        said = entries[position]
        return Forwarded(client, _scheme(said.get("proto")), _host(said.get("host")))

    def _read_usual(self, headers: Headers) -> Forwarded:
        """``X-Forwarded-For``, ``-Proto`` and ``-Host``: of several of the last two, the last one counts."""
        scheme = _scheme(_last(headers.get_all("x-forwarded-proto")))
        host = _host(_last(headers.get_all("x-forwarded-host")))
        nodes = [node.strip() for node in ",".join(headers.get_all("x-forwarded-for")).split(",")]
        if nodes == [""]:
            return Forwarded(None, scheme, host)
        return Forwarded(self._find_client(nodes, "X-Forwarded-For")[1], scheme, host)

    def _find_client(self, nodes: Sequence[str], field: str) -> tuple[int, str]:
        """The last of `nodes` that is no trusted proxy, or else the first; and its position."""
        if len(nodes) > _MAX_PROXIES:
            nodes = [*[""] * (len(nodes) - _MAX_PROXIES), *nodes[-_MAX_PROXIES:]]
        position, address = len(nodes), None
        while position and (address is None or self._trusts(address)):
            position -= 1
            address = _address_of_node(nodes[position])
            if address is None:
                raise ForwardedError(f"{field} has no address where a trusted proxy puts it")
        return position, str(address)


def _address_of_node(node: str) -> IPAddress | None:
    """RFC 7239 section 6: an address with or without a port; ``None`` for ``unknown`` and hidden names."""
    found = _NODE.fullmatch(node)
    return parse_address(found[1] or found[2] or found[3]) if found else None


def _entries(fields: Sequence[str]) -> list[dict[str, str]]:
    """The entries of ``Forwarded``: names in lower case, values without quotes.

    Raises:
        ForwardedError: it is malformed.
    """
    text = ", ".join(fields)
    entries: list[dict[str, str]] = []
    position, is_new = 0, True
    while position < len(text):
        if (found := _PAIR.match(text, position)) is None:
            raise ForwardedError("Forwarded is malformed")
        name, value, separator = found.groups()
        if is_new:
            entries.append({})
        if value.startswith('"'):
            value = re.sub(r"\\(.)", r"\1", value[1:-1])
        if entries[-1].setdefault(name.lower(), value) != value:
            raise ForwardedError("Forwarded has a name twice in one entry")
        is_new = separator == ","
        position = found.end()
    return entries


def _last(fields: Sequence[str]) -> str | None:
    return fields[-1].rpartition(",")[2].strip() if fields else None


def _scheme(text: str | None) -> str | None:
    if not text:
        return None
    if (scheme := _SCHEMES.get(text.lower())) is None:
        raise ForwardedError("the scheme that a proxy gave is neither http nor https")
    return scheme


def _host(text: str | None) -> str | None:
    if not text:
        return None
    if not is_host(text):
        raise ForwardedError("the host that a proxy gave is malformed")
    return text
