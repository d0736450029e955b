"""Which pages may connect, and under which host names."""

from __future__ import annotations

import pytest

from wsstream.opening.origins import Hosts, Origins


@pytest.mark.parametrize(
    ("origins", "origin", "host", "admitted"),
    [
        # the page's own host
        ("same", None, "a.example", True),
        ("same", "https://a.example", "a.example", True),
        ("same", "https://A.example", "a.EXAMPLE", True),
        ("same", "http://a.example", "a.example", True),
        ("same", "https://a.example:443", "a.example", True),
        ("same", "https://a.example", "a.example:443", True),
        ("same", "http://a.example", "a.example:443", False),
        ("same", "https://a.example", "a.example:", True),
        ("same", "http://a.example:8080", "a.example:8080", True),
        ("same", "http://a.example:8080", "a.example", False),
        ("same", "http://a.example", "a.example:8080", False),
        ("same", "http://a.example:3000", "a.example:8080", False),
        ("same", "http://[::1]:80", "[::1]", True),
        ("same", "http://[::1]", "[::2]", False),
        ("same", "https://b.example", "a.example", False),
        ("same", "https://sub.a.example", "a.example", False),
        ("same", "https://a.example.evil", "a.example", False),
        ("same", "null", "null", False),
        ("same", "", "", False),
        ("same", "chrome-extension://a.example", "a.example", False),
        ("same", "file://", "", False),
        (["same"], None, "a.example", False),
        (["same"], "http://a.example", "a.example", True),
        (["same", "https://b.example"], "https://b.example", "a.example", True),
        # a list
        (["https://a.example"], "https://a.example", "b", True),
        (["HTTPS://A.example"], "https://a.EXAMPLE", "b", True),
        (["https://a.example"], "http://a.example", "a.example", False),
        (["https://a.example"], None, "b", False),
        ([None], None, "b", True),
        ([], None, "b", False),
        (["null"], "null", "b", True),
        # all below a name
        (["https://*.a.example"], "https://x.a.example", "b", True),
        (["https://*.a.example"], "https://x.y.a.example", "b", True),
        (["https://*.a.example"], "https://a.example", "b", False),
        (["https://*.a.example"], "https://.a.example", "b", False),
        (["https://*.a.example"], "http://x.a.example", "b", False),
        (["https://*.a.example"], "https://xa.example", "b", False),
        (["https://*.a.example"], "https://x.a.example:8443", "b", False),
        (["https://*.a.example:8443"], "https://x.a.example:8443", "b", True),
        (["https://*.a.example"], "https://x.a.example.evil", "b", False),
    ],
)
def test_origins(origins: str | list[str | None], origin: str | None, host: str, admitted: bool) -> None:
    judge = Origins.of(origins)
    assert judge is not None
    assert judge.admit(origin, host) is admitted


def test_none_is_all_pages() -> None:
    assert Origins.of(None) is None


@pytest.mark.parametrize("origin", ["null", "https://a.example", "http://[::1]:80", "chrome-extension://abc"])
def test_an_origin_that_browsers_send_is_taken(origin: str) -> None:
    assert Origins([origin]).admit(origin, "b")


@pytest.mark.parametrize("value", ["https://example.com", [b"x"], [5], 5])
def test_origins_of_the_wrong_type(value: object) -> None:
    with pytest.raises(TypeError):
        Origins(value)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "origin",
    [
        "a\r\nb",
        "",
        "*",
        "a.example",
        "https://a.example/",
        "https://a.example/path",
        "https://a b",
        "https://é",
        "https://*",
        "https://*a.example",
        "https://a.*.example",
        "https://*.*.example",
        "*://a.example",
    ],
)
def test_an_origin_that_no_browser_sends_is_rejected(origin: str) -> None:
    with pytest.raises(ValueError, match=r'an origin must be like "https://a\.example"'):
        Origins([origin])


@pytest.mark.parametrize(
    ("hosts", "host", "admitted"),
    [
        (["a.example"], "a.example", True),
        (["A.example"], "a.EXAMPLE", True),
        (["a.example"], "a.example:8080", True),
        (["a.example:8080"], "a.example:8080", True),
        (["a.example:8080"], "a.example", False),
        (["a.example:8080"], "a.example:80", False),
        (["a.example"], "b.example", False),
        (["a.example"], "x.a.example", False),
        (["a.example"], "", False),
        (["*.a.example"], "x.a.example:80", True),
        (["*.a.example"], "a.example", False),
        (["*.a.example"], "xa.example", False),
        (["[::1]"], "[::1]:80", True),
        (["[::1]"], "[::1]", True),
        (["127.0.0.1", "localhost"], "localhost:1", True),
        (["127.0.0.1"], "127.0.0.10", False),
    ],
)
def test_hosts(hosts: list[str], host: str, admitted: bool) -> None:
    assert Hosts(hosts).admit(host) is admitted


@pytest.mark.parametrize("hosts", [["a b"], ["*"], ["a*.example"], ["https://a"], [""], []])
def test_hosts_that_are_none(hosts: list[str]) -> None:
    with pytest.raises(ValueError, match="host"):
        Hosts(hosts)


@pytest.mark.parametrize("hosts", ["a.example", [5], 5])
def test_hosts_of_the_wrong_type(hosts: object) -> None:
    with pytest.raises(TypeError):
        Hosts(hosts)  # type: ignore[arg-type]  # wrong on purpose
