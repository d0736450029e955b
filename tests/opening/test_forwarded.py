"""Who the client is behind proxies that are trusted, and that nobody can forge it past them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.opening.forwarded import ForwardedError, TrustedProxies
from wsstream.opening.headers import Headers
from wsstream.opening.peer import Forwarded

PROXIES = TrustedProxies(["10.0.0.0/8", "fd00::/8"])
CLIENT, FORGED = "203.0.113.9", "198.51.100.7"


def read(*fields: tuple[str, str]) -> Forwarded:
    return PROXIES.read(Headers(fields))


def usual(*values: str) -> str | None:
    return read(*(("X-Forwarded-For", value) for value in values)).client


def standard(*values: str) -> Forwarded:
    return read(*(("Forwarded", value) for value in values))


@pytest.mark.parametrize(
    ("values", "client"),
    [
        ([CLIENT], CLIENT),
        ([f" {CLIENT} "], CLIENT),
        ([f"{CLIENT}:4711"], CLIENT),
        ([f"{FORGED}, {CLIENT}"], CLIENT),
        ([FORGED, CLIENT], CLIENT),
        ([f"{FORGED}, {CLIENT}, 10.0.0.2, 10.0.0.3"], CLIENT),
        ([f"garbage, {CLIENT}"], CLIENT),
        (["10.0.0.9, 10.0.0.2"], "10.0.0.9"),  # a client inside the trusted network
        (["2001:db8::1"], "2001:db8::1"),
        (["[2001:db8::1]"], "2001:db8::1"),
        (["[2001:db8::1]:4711, fd00::5"], "2001:db8::1"),
        (["2001:DB8:0:0::1"], "2001:db8::1"),
        ([f"::ffff:{CLIENT}"], CLIENT),
        ([], None),
        ([""], None),
    ],
)
def test_x_forwarded_for(values: list[str], client: str | None) -> None:
    assert usual(*values) == client


@pytest.mark.parametrize(
    "value", ["unknown", "_hidden", "garbage", f"{CLIENT},", "1.2.3", "[::1", "10.0.0.1:x"]
)
def test_an_entry_of_a_trusted_proxy_without_an_address(value: str) -> None:
    with pytest.raises(ForwardedError, match="X-Forwarded-For has no address where a trusted proxy puts it"):
        usual(value)
    with pytest.raises(ForwardedError):
        usual(f"{FORGED}, {value}, 10.0.0.2")


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([f"for={CLIENT}"], (CLIENT, None, None)),
        ([f"For={CLIENT};Proto=HTTPS;Host=a.example"], (CLIENT, "https", "a.example")),
        ([f'for="{CLIENT}:4711";proto=http;by=10.0.0.1'], (CLIENT, "http", None)),
        (['for="[2001:db8::1]:4711"'], ("2001:db8::1", None, None)),
        ([f"for={FORGED};proto=https, for={CLIENT};proto=http"], (CLIENT, "http", None)),
        ([f"for={FORGED}", f"for={CLIENT}, for=10.0.0.2;host=inner"], (CLIENT, None, None)),
        (['for="_h\\"i", for=' + CLIENT], (CLIENT, None, None)),
        ([f"for=unknown, for={CLIENT}"], (CLIENT, None, None)),
    ],
)
def test_forwarded(values: list[str], expected: tuple[str | None, ...]) -> None:
    assert standard(*values) == expected


@pytest.mark.parametrize(
    "value",
    [
        "for",
        f"for={CLIENT} proto=http",
        f"for={CLIENT};for={FORGED}",
        'for="',
        "for=unknown",
        "proto=https",
        f"for={CLIENT};proto=gopher",
        f'for={CLIENT};host="a b"',
        f"for={CLIENT};=x",
    ],
)
def test_forwarded_that_is_not_clear(value: str) -> None:
    with pytest.raises(ForwardedError):
        standard(value)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ([("X-Forwarded-Proto", "https")], (None, "https", None)),
        ([("X-Forwarded-Proto", "http, wss")], (None, "https", None)),
        ([("X-Forwarded-Proto", "https"), ("X-Forwarded-Proto", "ws")], (None, "http", None)),
        ([("X-Forwarded-Host", "a.example:8443")], (None, None, "a.example:8443")),
        ([("X-Forwarded-Host", "forged, a.example")], (None, None, "a.example")),
        ([("X-Forwarded-Proto", ""), ("X-Forwarded-Host", "")], (None, None, None)),
    ],
)
def test_scheme_and_host(fields: list[tuple[str, str]], expected: tuple[str | None, ...]) -> None:
    assert read(*fields) == expected


@pytest.mark.parametrize("field", [("X-Forwarded-Proto", "gopher"), ("X-Forwarded-Host", "a b")])
def test_a_scheme_or_a_host_that_is_none(field: tuple[str, str]) -> None:
    with pytest.raises(ForwardedError):
        read(field)


def test_both_kinds_of_fields_must_agree() -> None:
    """A proxy sets one kind and lets the other through: the client may have made that up."""
    both = [("X-Forwarded-For", f"{FORGED}, {CLIENT}"), ("X-Forwarded-Proto", "https")]
    assert read(*both, ("Forwarded", f"for={CLIENT};host=a")) == (CLIENT, "https", "a")
    for forged in (f"for={FORGED}", f"for={FORGED}, for=10.0.0.2"):
        with pytest.raises(ForwardedError, match="name different clients"):
            read(*both, ("Forwarded", forged))


def test_a_long_list_is_read_at_its_end_only() -> None:
    assert usual(", ".join([FORGED] * 5000 + [CLIENT] + ["10.0.0.2"] * 30)) == CLIENT
    with pytest.raises(ForwardedError):
        usual(", ".join([CLIENT] + ["10.0.0.2"] * 33))


@pytest.mark.parametrize(
    ("proxies", "peer", "trusted"),
    [
        (["127.0.0.1"], ("127.0.0.1", 5), True),
        (["127.0.0.1"], ("127.0.0.2", 5), False),
        (["127.0.0.0/8"], ("127.0.0.2", 5), True),
        (["127.0.0.1"], ("::ffff:127.0.0.1", 5, 0, 0), True),
        (["::1"], ("::1", 5, 0, 0), True),
        (["fe80::/10"], ("fe80::1%eth0", 5, 0, 2), True),
        (["127.0.0.1"], "/run/a.sock", False),
        (["unix"], "/run/a.sock", True),
        (["unix"], "", True),
        (["unix"], None, True),
        (["unix"], ("127.0.0.1", 5), False),
        ([], ("127.0.0.1", 5), False),
        (["127.0.0.1"], ("testserver", 5), False),
    ],
)
def test_who_is_trusted(proxies: list[str], peer: object, trusted: bool) -> None:
    assert TrustedProxies(proxies).trusts(peer) is trusted  # type: ignore[arg-type]  # its own types only
    assert bool(TrustedProxies(proxies)) is bool(proxies)


@pytest.mark.parametrize("proxies", [["a.example"], ["10.0.0.1/8"], [""], ["*"]])
def test_proxies_that_are_no_addresses(proxies: list[str]) -> None:
    with pytest.raises(ValueError, match="a trusted proxy must be like"):
        TrustedProxies(proxies)


@pytest.mark.parametrize("proxies", ["10.0.0.1", [5], 5])
def test_proxies_of_the_wrong_type(proxies: object) -> None:
    with pytest.raises(TypeError):
        TrustedProxies(proxies)  # type: ignore[arg-type]  # wrong on purpose


TEXT = st.text(st.characters(min_codepoint=32, max_codepoint=126), max_size=60)


@given(
    st.lists(st.tuples(st.sampled_from(["Forwarded", "X-Forwarded-For"]), TEXT), max_size=4),
    st.sampled_from(["X-Forwarded-For", "Forwarded"]),
)
def test_whatever_a_client_sends_it_does_not_choose_its_address(
    fields: list[tuple[str, str]], kind: str
) -> None:
    """The proxy adds an entry with the true address behind what the client sent."""
    entry = CLIENT if kind == "X-Forwarded-For" else f"for={CLIENT}"
    own = [value for name, value in fields if name == kind]
    others = [field for field in fields if field[0] != kind]
    try:
        said = read(*others, (kind, ", ".join([*own, entry])))
    except ForwardedError:
        return
    assert said.client == CLIENT
