"""The URLs of proxies, and what the environment says."""

from __future__ import annotations

import traceback
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.errors import InvalidURL
from wsstream.opening.proxy_url import Proxy, environment_proxy, is_exempt, parse_proxy_url
from wsstream.opening.url import URL, parse_url

GOOD = {
    "http://proxy.example": Proxy("http", "proxy.example", 80),
    "http://proxy.example/": Proxy("http", "proxy.example", 80),
    "HTTPS://Proxy.Example": Proxy("https", "proxy.example", 443),
    "socks5://proxy.example": Proxy("socks5", "proxy.example", 1080),
    "socks5h://proxy.example": Proxy("socks5h", "proxy.example", 1080),
    "http://127.0.0.1:3128": Proxy("http", "127.0.0.1", 3128),
    "http://[2001:DB8::1]:8080/": Proxy("http", "2001:db8::1", 8080),
    "http://Bücher.example:1": Proxy("http", "xn--bcher-kva.example", 1),
    "http://user@h": Proxy("http", "h", 80, ("user", "")),
    "http://us%3Fer:p%40ss%3Aw%2Frd%25@h": Proxy("http", "h", 80, ("us?er", "p@ss:w/rd%")),
    "http://:secret@h": Proxy("http", "h", 80, ("", "secret")),
    "http://zo%C3%AB:%E2%82%AC@h": Proxy("http", "h", 80, ("zoë", "€")),
    "socks5://user:pa%20ss@h:9": Proxy("socks5", "h", 9, ("user", "pa ss")),
    f"socks5h://{'u' * 255}:{'p' * 255}@h": Proxy("socks5h", "h", 1080, ("u" * 255, "p" * 255)),
}


@pytest.mark.parametrize(("url", "proxy"), GOOD.items())
def test_the_url_of_a_proxy_is_read(url: str, proxy: Proxy) -> None:
    assert parse_proxy_url(url) == proxy


BAD = [
    "",
    "env ",
    "proxy.example:8080",
    "//proxy.example",
    "http:proxy.example",
    "ftp://proxy.example",
    "ws://proxy.example",
    "socks://proxy.example",
    "socks4://proxy.example",
    "socks4a://proxy.example",
    "http://",
    "http://:80",
    "http://user:secret@",
    "http://proxy.example:0",
    "http://proxy.example:65536",
    "http://proxy.example:x",
    "http://proxy.example/path",
    "http://proxy.example//",
    "http://proxy.example?q",
    "http://proxy.example/?q",
    "http://proxy.example#f",
    "http://proxy.example\r\nX: y",
    " http://proxy.example",
    "http://[::1",
    "http://127.1",
    "http://user:secret@proxy@example",
    "http://user:secret%@h",
    "http://us%3Aer:secret@h",
    "http://user:secret%0d%0aX@h",
    "http://user:secret%ff@h",
    "socks5://user@h",
    "socks5://user:@h",
    "socks5://:secret@h",
    "socks5://zo%C3%AB:secret@h",
    "socks5://user:secret%E2%82%AC@h",
    f"socks5://{'u' * 256}:secret@h",
    f"socks5://user:{'secret' * 50}@h",
]


@pytest.mark.parametrize("url", BAD)
def test_what_is_no_url_of_a_proxy_is_refused_and_no_password_is_told(url: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_proxy_url(url)
    assert "secret" not in "".join(traceback.format_exception(caught.value)).partition("Traceback")[0]
    assert "secret" not in f"{caught.value}{caught.value!r}"


@pytest.mark.parametrize("url", [None, b"http://h", 5])
def test_a_url_that_is_no_str_is_a_type_error(url: object) -> None:
    with pytest.raises(TypeError):
        parse_proxy_url(url)  # type: ignore[arg-type]


def test_neither_str_nor_repr_of_a_proxy_tells_the_password() -> None:
    for url in ("http://user:secret@h:1", "socks5://user:secret@[::1]:1080"):
        proxy = parse_proxy_url(url)
        assert str(proxy) == url.replace("user:secret@", "")
        assert "secret" not in repr(proxy)
        assert "user" not in repr(proxy).replace("userinfo", "")


@pytest.mark.parametrize(
    ("scheme", "is_socks"), [("http", False), ("https", False), ("socks5", True), ("socks5h", True)]
)
def test_the_scheme_says_who_speaks_socks(scheme: str, is_socks: bool) -> None:
    assert parse_proxy_url(f"{scheme}://h").is_socks is is_socks


# --- The environment ---

WS, WSS = "ws://feed.example/", "wss://feed.example/"
ENVIRONMENTS = [
    # variables, url, host of the proxy
    ({}, WS, None),
    ({}, WSS, None),
    ({"https_proxy": "http://a"}, WSS, "a"),
    ({"HTTPS_PROXY": "http://a"}, WSS, "a"),
    ({"https_proxy": "http://a", "HTTPS_PROXY": "http://b"}, WSS, "a"),
    ({"https_proxy": "", "HTTPS_PROXY": "http://b"}, WSS, "b"),
    ({"all_proxy": "http://a", "ALL_PROXY": "http://b"}, WSS, "a"),
    ({"ALL_PROXY": "socks5h://b"}, WSS, "b"),
    ({"ALL_PROXY": "socks5h://b"}, WS, "b"),
    ({"ALL_PROXY": "http://a", "HTTPS_PROXY": "http://b"}, WSS, "b"),
    ({"all_proxy": "http://a", "HTTPS_PROXY": "http://b"}, WSS, "b"),
    ({"all_proxy": "http://a", "HTTPS_PROXY": ""}, WSS, "a"),
    ({"http_proxy": "http://a"}, WSS, None),
    ({"HTTP_PROXY": "http://a"}, WSS, None),
    # RFC 6455 section 4.1: the proxy for HTTPS is preferred
    ({"https_proxy": "http://a", "http_proxy": "http://b"}, WS, "a"),
    ({"HTTPS_PROXY": "http://a", "http_proxy": "http://b"}, WS, "a"),
    ({"http_proxy": "http://b"}, WS, "b"),
    ({"http_proxy": "http://b", "all_proxy": "http://c"}, WS, "b"),
    # a CGI program has the header field "Proxy" there
    ({"HTTP_PROXY": "http://evil"}, WS, None),
    ({"HTTP_PROXY": "http://evil", "ALL_PROXY": "http://c"}, WS, "c"),
    # no scheme, blanks around
    ({"HTTPS_PROXY": "a:3128"}, WSS, "a"),
    ({"HTTPS_PROXY": "user:pass@a:3128"}, WSS, "a"),
    ({"HTTPS_PROXY": " http://a "}, WSS, "a"),
    # exceptions
    ({"HTTPS_PROXY": "http://a", "NO_PROXY": "feed.example"}, WSS, None),
    ({"HTTPS_PROXY": "http://a", "no_proxy": "feed.example"}, WSS, None),
    ({"HTTPS_PROXY": "http://a", "no_proxy": "x", "NO_PROXY": "feed.example"}, WSS, "a"),
    ({"HTTPS_PROXY": "http://a", "no_proxy": "", "NO_PROXY": "feed.example"}, WSS, None),
    ({"ALL_PROXY": "http://a", "NO_PROXY": "*"}, WS, None),
    ({"HTTPS_PROXY": "nonsense://", "NO_PROXY": "*"}, WSS, None),
    ({"NO_PROXY": "*"}, WSS, None),
]


@pytest.mark.parametrize(("variables", "url", "host"), ENVIRONMENTS)
def test_the_environment_names_the_proxy(variables: dict[str, str], url: str, host: str | None) -> None:
    proxy = environment_proxy(parse_url(url), variables)
    assert (proxy and proxy.host) == host


def test_a_value_without_a_scheme_is_an_http_proxy_with_its_port_and_credentials() -> None:
    proxy = environment_proxy(parse_url(WSS), {"HTTPS_PROXY": "us%40er:pass@a:3128"})
    assert proxy == Proxy("http", "a", 3128, ("us@er", "pass"))


def test_a_bad_value_names_the_variable_that_counts_and_no_password() -> None:
    variables = {"all_proxy": "http://fine", "HTTPS_PROXY": "socks4://user:secret@h"}
    with pytest.raises(InvalidURL, match=r"^HTTPS_PROXY: .*socks4") as caught:
        environment_proxy(parse_url(WSS), variables)
    assert "secret" not in repr(caught.value)
    assert environment_proxy(parse_url(WSS), {"http_proxy": "::", "all_proxy": "fine"}) is not None


# --- NO_PROXY ---

EXEMPT = [
    # no_proxy, url, exempt
    ("", "ws://example.com", False),
    (" , ,", "ws://example.com", False),
    ("*", "ws://example.com", True),
    ("*", "ws://[::1]", True),
    ("other.example,*", "ws://example.com", True),
    ("example.com", "ws://example.com", True),
    ("EXAMPLE.com", "ws://Example.COM", True),
    ("example.com", "ws://example.com.", True),
    ("example.com.", "ws://example.com", True),
    ("example.com", "ws://a.example.com", True),
    ("example.com", "ws://a.b.example.com", True),
    (".example.com", "ws://a.example.com", True),
    (".example.com", "ws://example.com", True),
    ("*.example.com", "ws://a.example.com", True),
    ("*.example.com", "ws://example.com", True),
    ("example.com", "ws://notexample.com", False),
    (".example.com", "ws://notexample.com", False),
    ("example.com", "ws://example.com.evil.example", False),
    ("a.example.com", "ws://example.com", False),
    ("com", "ws://example.com", True),
    ("localhost", "ws://localhost:8080", True),
    ("localhost", "ws://127.0.0.1", False),
    ("a.example, b.example", "ws://b.example", True),
    ("a.example b.example\tc.example", "ws://c.example", True),
    ("a.example;b.example", "ws://b.example", False),
    ("bücher.example", "ws://xn--bcher-kva.example", True),
    ("xn--bcher-kva.example", "ws://www.bücher.example", True),
    ("example.com:8080", "ws://example.com:8080", True),
    ("example.com:08080", "ws://example.com:8080", True),
    ("example.com:8080", "ws://a.example.com:8080", True),
    ("example.com:8080", "ws://example.com", False),
    ("example.com:80", "ws://example.com", True),
    ("example.com:443", "wss://example.com", True),
    ("example.com:443", "ws://example.com", False),
    ("*:80", "ws://example.com", False),
    ("127.0.0.1", "ws://127.0.0.1", True),
    ("127.0.0.1", "ws://127.0.0.2", False),
    ("127.0.0.1:80", "ws://127.0.0.1", True),
    ("127.0.0.1:81", "ws://127.0.0.1", False),
    ("27.0.0.1", "ws://127.0.0.1", False),
    (".0.0.1", "ws://127.0.0.1", False),
    ("10.0.0.0/8", "ws://10.20.30.40", True),
    ("10.1.2.3/8", "ws://10.20.30.40", True),
    ("10.0.0.0/8", "ws://11.0.0.1", False),
    ("10.0.0.0/8:8080", "ws://10.0.0.1:8080", True),
    ("10.0.0.0/8:8080", "ws://10.0.0.1", False),
    ("10.0.0.0/33", "ws://10.0.0.1", False),
    ("10.0.0.0/8", "ws://10.example", False),
    ("0.0.0.0/0", "ws://127.0.0.1", True),
    ("0.0.0.0/0", "ws://[::1]", False),
    ("::1", "ws://[::1]", True),
    ("0:0::1", "ws://[::1]", True),
    ("[::1]", "ws://[::1]", True),
    ("[::1]:80", "ws://[::1]", True),
    ("[::1]:81", "ws://[::1]", False),
    ("::2", "ws://[::1]", False),
    ("fe80::/10", "ws://[fe81::5]", True),
    ("[fe80::/10]:80", "ws://[fe81::5]", True),
    ("fe80::/10", "ws://[2001:db8::1]", False),
    (".", "ws://example.com", False),
    ("*.", "ws://example.com", False),
    (":80", "ws://example.com", False),
    ("http://example.com", "ws://example.com", False),
    ("exa mple.com", "ws://example.com", False),
    ("[", "ws://[::1]", False),
]


@pytest.mark.parametrize(("no_proxy", "url", "exempt"), EXEMPT)
def test_no_proxy_lists_who_is_reached_without_a_proxy(no_proxy: str, url: str, exempt: bool) -> None:
    assert is_exempt(parse_url(url), no_proxy) is exempt


@given(st.ip_addresses(), st.integers(0, 127), st.integers(0, 128))
def test_an_address_is_exempt_in_a_network_exactly_if_it_lies_in_it(
    address: IPv4Address | IPv6Address, bit: int, length: int
) -> None:
    bit, length = bit % address.max_prefixlen, min(length, address.max_prefixlen)
    other = type(address)(int(address) ^ (1 << bit))
    url = URL(secure=False, host=str(address), port=80, target="/")
    assert is_exempt(url, f"{address}/{length}")
    assert is_exempt(url, f"{other}/{length}") is (length <= address.max_prefixlen - 1 - bit)


@given(st.text(max_size=40), st.sampled_from([WS, "ws://[::1]:81", "wss://127.0.0.1"]))
def test_whatever_no_proxy_is_it_raises_nothing(no_proxy: str, url: str) -> None:
    assert is_exempt(parse_url(url), no_proxy) in (True, False)
    assert is_exempt(parse_url(url), f"{no_proxy},*")
