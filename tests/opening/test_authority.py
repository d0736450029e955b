"""The authority of a URL. What is no host, port or userinfo is tested with whole URLs, in `test_url`."""

from __future__ import annotations

import pytest

from wsstream.errors import InvalidURL
from wsstream.opening.authority import Authority, bracketed, parse_authority, parse_host


def test_an_authority_is_taken_apart() -> None:
    assert parse_authority("us%40er:p%3Aw@EXAMPLE.com:81") == Authority(("us@er", "p:w"), "example.com", 81)
    assert parse_authority("[0::1]") == Authority(None, "::1", None)


def test_a_host_is_bracketed_where_it_has_colons() -> None:
    assert [bracketed(parse_host(host)) for host in ("[::1]", "A.b", "1.2.3.4")] == [
        "[::1]",
        "a.b",
        "1.2.3.4",
    ]


def test_a_zone_is_refused_with_what_to_do_instead() -> None:
    for host in ("[fe80::1%25eth0]", "[fe80::1%eth0]"):
        with pytest.raises(InvalidURL, match=r"zone, which a URL cannot have: use a host name .* transport"):
            parse_host(host)


def test_a_repr_shows_host_and_port_but_no_userinfo() -> None:
    assert repr(parse_authority("user:s3cr3t@a.example:81")) == "<Authority a.example 81>"
