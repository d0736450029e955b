"""WebSocket URLs: what is read, what is refused, and that nothing gets into the request line."""

from __future__ import annotations

import os
import re
from ipaddress import IPv6Address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream.errors import InvalidURL
from wsstream.opening.url import URL, parse_url, split_url, unix_url

GOOD = [
    # url, secure, host, port, target
    ("ws://example.com", False, "example.com", 80, "/"),
    ("wss://example.com", True, "example.com", 443, "/"),
    ("http://example.com/a", False, "example.com", 80, "/a"),
    ("https://example.com/a", True, "example.com", 443, "/a"),
    ("WSS://EXAMPLE.Com/A?B=C", True, "example.com", 443, "/A?B=C"),
    ("ws://example.com:8080/", False, "example.com", 8080, "/"),
    ("ws://example.com:443", False, "example.com", 443, "/"),
    ("ws://example.com:/x", False, "example.com", 80, "/x"),
    ("ws://example.com:00080/x", False, "example.com", 80, "/x"),
    ("ws://example.com:65535", False, "example.com", 65535, "/"),
    ("ws://example.com?q=1", False, "example.com", 80, "/?q=1"),
    ("ws://example.com/a?", False, "example.com", 80, "/a?"),
    ("ws://example.com/a?b?c/d", False, "example.com", 80, "/a?b?c/d"),
    ("ws://example.com/a//b/../c;p=1", False, "example.com", 80, "/a//b/../c;p=1"),
    ("ws://example.com/%2f%E4", False, "example.com", 80, "/%2f%E4"),
    ("ws://example.com/[x]?a[0]=1", False, "example.com", 80, "/[x]?a[0]=1"),
    ("ws://example.com/ä?ö=€", False, "example.com", 80, "/%C3%A4?%C3%B6=%E2%82%AC"),
    ('ws://example.com/"<>\\^`{|}', False, "example.com", 80, "/%22%3C%3E%5C%5E%60%7B%7C%7D"),
    ("ws://example.com./", False, "example.com.", 80, "/"),
    ("ws://my_service/", False, "my_service", 80, "/"),
    ("ws://localhost", False, "localhost", 80, "/"),
    ("ws://e%78ample.com", False, "example.com", 80, "/"),
    ("ws://127.0.0.1:9", False, "127.0.0.1", 9, "/"),
    ("ws://1.example", False, "1.example", 80, "/"),
    ("ws://[::1]", False, "::1", 80, "/"),
    ("wss://[2001:DB8:0:0::1]:444/x", True, "2001:db8::1", 444, "/x"),
    ("ws://[::ffff:1.2.3.4]/", False, IPv6Address("::ffff:1.2.3.4").compressed, 80, "/"),
    ("ws://Bücher.example", False, "xn--bcher-kva.example", 80, "/"),
    ("ws://b%C3%BCcher.example", False, "xn--bcher-kva.example", 80, "/"),
    ("ws://straße.example", False, "xn--strae-oqa.example", 80, "/"),
    ("ws://例え。テスト", False, "xn--r8jz45g.xn--zckzah", 80, "/"),
    ("ws://１２７.0.0.1", False, "127.0.0.1", 80, "/"),
    ("ws://" + "a" * 63 + ".b", False, "a" * 63 + ".b", 80, "/"),
    ("ws://" + "a." * 126 + "b", False, "a." * 126 + "b", 80, "/"),
    ("ws://" + "a." * 127, False, "a." * 127, 80, "/"),
]

BAD = {
    "no scheme": ["", "example.com", "//example.com/", "/path", "://x", "1s://x"],
    "no authority": ["ws:", "ws:x", "ws:/x", "ws:?x"],
    "another scheme": ["ftp://example.com", "wsx://example.com", "file:///etc/passwd"],
    "a fragment": ["ws://example.com/#", "ws://example.com/#x", "ws://example.com#x", "ws://example.com/?q#"],
    "no host": ["ws://", "ws:///x", "ws://:80", "ws://user@", "ws://user@:80/x", "ws://?x", "ws://."],
    "a bad port": ["ws://h:0", "ws://h:65536", "ws://h:99999999999", "ws://h:x", "ws://h:-1", "ws://h:1:2",
        "ws://h:１"],
    "white space or control characters": [
        f"ws://example.com{c}" for c in (" ", "/ x", "/\t", "/\r\nX: y", "/\n", "/\0", "/\x7f", "/\x85")
    ]
    + [" ws://example.com", "ws://example.com/ ", "ws://exa mple.com", "ws://h/\ud800", "ws://u\n@h/", "ws://h/\xa0",
        "ws://h/\u2028"],
    "an encoded line end in the host": ["ws://h%0d%0ax/", "ws://h%00/", "ws://h%2fx/", "ws://h%40x/", "ws://h%3a80/"],
    "IPv6": [
        "ws://[", "ws://[]", "ws://[::1", "ws://::1]", "ws://[::1]x", "ws://[::g]", "ws://[1.2.3.4]",
        "ws://[fe80::1%25eth0]/", "ws://[v1.x]", "ws://[[::1]]", "ws://2001:db8::1/",
    ],
    "IPv4": ["ws://127.1", "ws://1", "ws://256.0.0.1", "ws://0x7f.0.0.0x1", "ws://010.0.0.1", "ws://1.2.3.4.",
        "ws://0x"],
    "percent": ["ws://h/%", "ws://h/%1", "ws://h/%zz", "ws://h/?%x", "ws://%/", "ws://u%@h/", "ws://%ff/",
        "ws://%ff@h/"],
    "a host name": [
        "ws://a..b", "ws://.a", "ws://-a", "ws://a-", "ws://a!b", "ws://a,b", "ws://a\\b", "ws://a..",
        "ws://" + "a" * 64, "ws://" + "a." * 128, "ws://" + "a." * 126 + "bc", "ws://" + "ü" * 300,
        "ws://" + "ü" * 70, "ws://" + "ü." * 50 + "x",
    ],
    "IDNA": ["ws://☕.example", "ws://\u0378.example", "ws://a\u200d.example", "ws://ü_x.example", "ws://\u0301a.example"],
    "userinfo": ["ws://a@b@h/", "ws://a\\@h/", "ws://a[@h/", "ws://a%3ab:c@h/", "ws://a:%0d%0ab@h/", "ws://a%00@h/"],
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "secure", "host", "port", "target"), GOOD, ids=[row[0][:60] for row in GOOD]
)
def test_a_url_is_taken_into_its_parts(text: str, secure: bool, host: str, port: int, target: str) -> None:
    assert parse_url(text) == URL(secure, host, port, target)


@pytest.mark.parametrize("text", [row[0] for row in GOOD])
def test_the_normalised_url_means_the_same_and_is_stable(text: str) -> None:
    url = parse_url(text)
    assert parse_url(str(url)) == url
    assert str(parse_url(str(url))) == str(url)


@pytest.mark.parametrize(
    ("kind", "text"),
    [(kind, text) for kind, texts in BAD.items() for text in texts],
    ids=lambda text: text[:60],
)
def test_a_bad_url_is_refused(kind: str, text: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        parse_url(text)
    assert caught.value.code is None
    assert isinstance(caught.value, ValueError)
    assert len(str(caught.value)) < 250


def test_hosts_and_ports_of_any_length_are_refused_for_their_length() -> None:
    for text in ("ws://" + "ü" * 255, "ws://" + "a" * 100_000, "ws://" + "ü" * 100_000):
        with pytest.raises(InvalidURL, match="more than 253 characters"):
            parse_url(text)
    with pytest.raises(InvalidURL, match=r"must be between 1 and 65535"):
        parse_url("ws://h:" + "1" * 5000)


@pytest.mark.parametrize("value", [None, b"ws://example.com", 5, parse_url("ws://example.com")])
def test_what_is_no_str_is_a_type_error(value: object) -> None:
    with pytest.raises(TypeError, match="a URL must be a str, got"):
        parse_url(value)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("text", "userinfo"),
    [
        ("ws://h", None),
        ("ws://@h", None),
        ("ws://user@h", ("user", "")),
        ("ws://user:@h", ("user", "")),
        ("ws://:word@h", ("", "word")),
        ("ws://user:pass:word@h", ("user", "pass:word")),
        ("ws://%75s%40er:p%3A%2F%C3%A4@h", ("us@er", "p:/ä")),
        ("ws://üser:wörd@h", ("üser", "wörd")),
    ],
)
def test_the_userinfo_is_percent_decoded_and_never_shown(text: str, userinfo: tuple[str, str] | None) -> None:
    url = parse_url(text)
    assert url.userinfo == userinfo
    assert str(url) == "ws://h/"
    assert "word" not in repr(url)
    assert "user" not in repr(url)


def test_a_password_is_not_in_the_message_of_an_error() -> None:
    for text in (
        "ws://user:secret@h:x/",
        "ws://user:secret@a b/",
        "ws://user:sec[ret@h/",
        "ws://u:secret@@h/",
    ):
        with pytest.raises(InvalidURL) as caught:
            parse_url(text)
        assert "sec" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "host_header", "normalised", "origin"),
    [
        ("wss://h:443/x", "h", "wss://h/x", ("wss", "h", 443)),
        ("https://h:80/x", "h:80", "wss://h:80/x", ("wss", "h", 80)),
        ("http://H", "h", "ws://h/", ("ws", "h", 80)),
        ("ws://[::1]:80", "[::1]", "ws://[::1]/", ("ws", "::1", 80)),
        ("ws://[::1]:81?x", "[::1]:81", "ws://[::1]:81/?x", ("ws", "::1", 81)),
    ],
)
def test_a_default_port_is_left_out_and_ipv6_stands_in_brackets(
    text: str, host_header: str, normalised: str, origin: tuple[str, str, int]
) -> None:
    url = parse_url(text)
    assert (url.host_header, str(url), url.origin) == (host_header, normalised, origin)
    assert url.scheme == origin[0]


URL_CHARACTERS = st.sampled_from("wsh:/?#@[]%.-_~ab01€ü\\ \t\r\n\0\x85\u3000。")


@given(
    st.one_of(
        st.text(),
        st.text(URL_CHARACTERS),
        st.text(URL_CHARACTERS).map("ws://".__add__),
        st.text().map("ws://h/".__add__),
        st.text().map("ws://".__add__),
        st.text(URL_CHARACTERS).map("ws+unix:".__add__),
    )
)
def test_parse_url_returns_a_sendable_url_or_raises_invalid_url(text: str) -> None:
    try:
        url = parse_url(text)
    except InvalidURL:
        return
    assert re.fullmatch(r"/[!-~]*", url.target)
    assert re.fullmatch(r"[!-~]+", url.host_header)
    assert re.fullmatch(r"[a-z0-9_.\-]+|[0-9a-f:]+", url.host)
    assert 1 <= url.port <= 65535
    assert parse_url(str(url)) == URL(url.secure, url.host, url.port, url.target, socket=url.socket)
    assert re.fullmatch(r"[!-~]*", url.shown)


def test_a_url_of_another_kind_is_split() -> None:
    assert split_url("SOCKS5://u:p@H:1/x?y?z") == ("socks5", "u:p@H:1", "/x", "?y?z")
    assert split_url("http://h") == ("http", "h", "", "")
    assert split_url("h:80") is None


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("ws://user:secret@h:81/a/b?token=secret", "ws://h:81/a/b"),
        ("wss://h/?secret", "wss://h/"),
        ("ws+unix:/run/s:/a?secret", "ws+unix:/run/s:/a"),
        ("ws+unix:/run/s:/?secret", "ws+unix:/run/s"),
        ("ws://h/" + "x" * 300, "ws://h/" + "x" * 193 + "..."),
    ],
)
def test_what_is_shown_of_a_url_has_no_secrets_and_is_short(text: str, shown: str) -> None:
    assert parse_url(text).shown == shown


# --- Unix sockets ---

UNIX = [
    # url, secure, socket, target, normalised
    ("ws+unix:/run/app.sock", False, "/run/app.sock", "/", "ws+unix:/run/app.sock"),
    ("wss+unix:/run/app.sock", True, "/run/app.sock", "/", "wss+unix:/run/app.sock"),
    ("WS+Unix:/S", False, "/S", "/", "ws+unix:/S"),
    # the form of npm's ws, and its older one
    ("ws+unix:/s:/chat?room=1", False, "/s", "/chat?room=1", "ws+unix:/s:/chat?room=1"),
    ("ws+unix:///s:/chat", False, "/s", "/chat", "ws+unix:/s:/chat"),
    ("ws+unix:./s:/chat", False, "./s", "/chat", "ws+unix:./s:/chat"),
    ("ws+unix:/s:", False, "/s", "/", "ws+unix:/s"),
    ("ws+unix:/s:/", False, "/s", "/", "ws+unix:/s"),
    ("ws+unix:/s:?a:b", False, "/s", "/?a:b", "ws+unix:/s:/?a:b"),
    ("ws+unix:/s:/a:b/c", False, "/s", "/a:b/c", "ws+unix:/s:/a:b/c"),
    # what has a meaning in the URL is percent-encoded
    ("ws+unix:/a%20b%3Ac%3Fd%23e%25f%0A", False, "/a b:c?d#e%f\n", "/", "ws+unix:/a%20b%3Ac%3Fd%23e%25f%0A"),
    ("ws+unix:/%C3%A4/%FF", False, "/ä/\udcff", "/", "ws+unix:/%C3%A4/%FF"),
    ("ws+unix:/ä", False, "/ä", "/", "ws+unix:/%C3%A4"),
    ("ws+unix:/a@b,c=d&(e)", False, "/a@b,c=d&(e)", "/", "ws+unix:/a@b,c=d&(e)"),
    ("ws+unix:////s", False, "//s", "/", "ws+unix:////s"),
    # names of Linux that are in no file system
    ("ws+unix:%00app:/x", False, "\0app", "/x", "ws+unix:%00app:/x"),
    ("ws+unix:%00a%00b", False, "\0a\0b", "/", "ws+unix:%00a%00b"),
]


@pytest.mark.parametrize(("text", "secure", "socket", "target", "normalised"), UNIX)
def test_the_url_of_a_unix_socket_is_taken_into_its_parts(
    text: str, secure: bool, socket: str, target: str, normalised: str
) -> None:
    url = parse_url(text)
    assert url == URL(secure, "localhost", 443 if secure else 80, target, socket=socket)
    assert str(url) == normalised
    assert parse_url(normalised) == url
    assert url.host_header == "localhost"
    assert url.scheme == ("wss+unix" if secure else "ws+unix")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("ws+unix:", "must have a path of a socket"),
        ("ws+unix::/x", "must have a path of a socket"),
        ("ws+unix:/a%00b", "NUL"),
        ("ws+unix://host/s", "must not have a host; write ws\\+unix:/path"),
        ("ws+unix://tmp/s", "must not have a host"),
        ("ws+unix://", "must not have a host"),
        ("ws+unix:/s?query", "%3F"),
        ("ws+unix:/s:chat", "%3A"),
        ("ws+unix:/s#x", "fragment"),
        ("ws+unix:/s%", "percent"),
        ("ws+unix:/a b", "white space"),
        ("http+unix:/s", "does not begin with"),
        ("unix:/s", "does not begin with"),
    ],
)
def test_a_bad_url_of_a_unix_socket_is_refused(text: str, complaint: str) -> None:
    with pytest.raises(InvalidURL, match=complaint):
        parse_url(text)


def test_the_url_of_a_socket_is_made_of_the_address_that_the_system_gives() -> None:
    for address in ("/run/s", "s", "/a b:c?d#e%f\n", "//s", "/\udcff", b"\0app", b"\0\xff\0:"):
        url = parse_url(unix_url(address, secure=True))
        assert url.secure
        assert url.socket is not None
        assert os.fsencode(url.socket) == os.fsencode(address)


@given(st.binary(min_size=1, max_size=20))
def test_any_address_of_a_socket_comes_back_out_of_its_url(address: bytes) -> None:
    if b"\0" not in address[1:] or address[:1] == b"\0":
        assert parse_url(unix_url(address, secure=False)).socket == os.fsdecode(address)


def test_servers_on_two_sockets_have_two_origins() -> None:
    one, two = parse_url("ws+unix:/one:/x"), parse_url("ws+unix:/two:/x")
    assert one.origin != two.origin
    assert one.origin == parse_url("ws+unix:/one:/y").origin
    assert one.origin != parse_url("ws://localhost").origin


# --- Locations ---

BASE = parse_url("wss://user:secret@feed.example:8443/a/b?x=1")
LOCATIONS = [
    # RFC 3986 section 5.4, as far as it concerns these
    ("wss://h.example/c", "wss://h.example/c"),
    ("https://h.example", "wss://h.example/"),
    ("HTTP://h.example:443/c", "ws://h.example:443/c"),
    ("//h.example/c?y", "wss://h.example/c?y"),
    ("/c", "wss://feed.example:8443/c"),
    ("/c/../d/./e", "wss://feed.example:8443/d/e"),
    ("c", "wss://feed.example:8443/a/c"),
    ("./c", "wss://feed.example:8443/a/c"),
    ("../c", "wss://feed.example:8443/c"),
    ("../../../c", "wss://feed.example:8443/c"),
    ("?y", "wss://feed.example:8443/a/b?y"),
    ("", "wss://feed.example:8443/a/b?x=1"),
    ("#f", "wss://feed.example:8443/a/b?x=1"),
    ("/c#f#g", "wss://feed.example:8443/c"),
    ("https://h.example#f", "wss://h.example/"),
    ("/c:d", "wss://feed.example:8443/c:d"),
    ("/%2F%c3", "wss://feed.example:8443/%2F%c3"),
    # what is not ASCII is sent as it is by some: UTF-8, read as ISO 8859-1
    ("/\xc3\xa4\xc3\x84", "wss://feed.example:8443/%C3%A4%C3%84"),
    ("/\xe4", "wss://feed.example:8443/%E4"),
    ("//b\xc3\xbccher.example", "wss://xn--bcher-kva.example/"),
    ("/a b\tc", "wss://feed.example:8443/a%20b%09c"),
    ("/\\evil.example", "wss://feed.example:8443/%5Cevil.example"),
    ("\\\\evil.example", "wss://feed.example:8443/a/%5C%5Cevil.example"),
    ("//[::1]:1/", "wss://[::1]:1/"),
]


@pytest.mark.parametrize(("location", "url"), LOCATIONS)
def test_a_location_is_resolved(location: str, url: str) -> None:
    assert str(BASE.resolve(location)) == url


@pytest.mark.parametrize(
    "location",
    ["https://", "https:/x", "http:x", "ftp://h/", "mailto:a@b", "//[::1", "//[x]/", "//h:0/", "//h:x/", "/%",
        "//a b/", "//\xff/", "//a\\b/", "https://u@:80/", "ws+unix:/run/docker.sock", "wss+unix:/s:/x"],
)  # fmt: skip
def test_a_location_that_is_no_websocket_url_is_refused(location: str) -> None:
    with pytest.raises(InvalidURL):
        BASE.resolve(location)


@pytest.mark.parametrize(
    ("location", "kept"),
    [
        ("/c", True),
        ("wss://FEED.example:8443", True),
        ("https://evil:pw@feed.example:8443/", True),
        ("wss://feed.example/", False),
        ("ws://feed.example:8443/", False),
        ("//evil:pw@other.example:8443/", False),
        ("//user:secret@other.example:8443/", False),
    ],
)
def test_user_info_stays_within_its_origin_and_is_taken_from_no_location(location: str, kept: bool) -> None:
    assert BASE.resolve(location).userinfo == (("user", "secret") if kept else None)


@given(st.text(st.characters(max_codepoint=255), max_size=30))
def test_any_location_is_resolved_to_what_can_be_asked_for_or_refused(location: str) -> None:
    try:
        url = BASE.resolve(location)
    except InvalidURL:
        return
    assert re.fullmatch(r"/[!-~]*", url.target)
    assert parse_url(str(url)) == URL(url.secure, url.host, url.port, url.target)
