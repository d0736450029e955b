"""Heads of HTTP/1.1: their limits, what is malformed, and the same reading as h11's."""

from __future__ import annotations

from pathlib import Path

import h11
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from wsstream.opening.headers import Headers
from wsstream.opening.http1_heads import (
    MAX_FIELDS,
    MAX_HEAD_SIZE,
    MAX_ITEMS,
    HeadBuffer,
    decoded,
    encoded,
    not_a_request,
    read_by_h11,
    read_opening,
    read_switch,
)

CORPUS = Path(__file__).parents[1] / "fuzz" / "corpus" / "handshake"
OPENING = b"GET /chat HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nX-A: \xe4 \x85\xa0\t\r\nx-a:\r\n\r\n"
LINES = st.sampled_from(
    [
        *OPENING.splitlines(keepends=True),
        *(b"GET * HTTP/1.0\r\n", b"HEAD / HTTP/1.1\r\n", b"GET http://a HTTP/1.1\n", b"Host:\r\n"),
        *(b"A : b\r\n", b": b\r\n", b"A\r\n", b"A:b\n", b"A: \xff b\x80\r\n", b"\t\r\n", b"A:\t:\r\n"),
        *(b"Content-Length: 0\r\n", b"Content-Length: 1,1\r\n", b"content-length: x\r\n"),
        *(b"Transfer-Encoding: chunked\r\n", b"TRANSFER-ENCODING: gzip\r\n"),
        *(b"A: \x00\r\n", b"A: b\rc\r\n", b"A: \x0b\r\n"),
    ]
)


def taken(data: bytes) -> bytes | None:
    head = HeadBuffer(not_a_request)
    head.feed(data)
    return head.take()


def refusal(data: bytes) -> tuple[int, str]:
    """Status and message of the one refusal, however `data` is cut."""
    refusals = set()
    for step in (len(data), 1, 7, 1000):
        head = HeadBuffer(not_a_request)
        with pytest.raises(h11.RemoteProtocolError) as caught:
            for start in range(0, len(data), step):
                head.feed(data[start : start + step])
                assert (whole := head.take()) is None or read_by_h11(h11.Connection(h11.SERVER), whole)
        assert caught.value.__cause__ is caught.value.__context__ is None
        refusals.add((caught.value.error_status_hint, str(caught.value)))
    assert len(refusals) == 1
    return refusals.pop()


def test_a_head_waits_for_its_empty_line_and_keeps_what_follows() -> None:
    head = HeadBuffer(not_a_request)
    for piece in (b"GET / HTTP/1.1\r\n", b"A: b\r\n", b"\r"):
        head.feed(piece)
        assert head.take() is None
    head.feed(b"\nGET /2 HTTP/1.1\r\n\r\nrest")
    assert head.take() == b"GET / HTTP/1.1\r\nA: b\r\n\r\n"
    assert head.take() == b"GET /2 HTTP/1.1\r\n\r\n"
    assert head.rest() == b"rest"


def test_a_head_is_as_large_as_its_bound_and_no_larger() -> None:
    line = b"GET / HTTP/1.1\r\nA: "
    fits = line + b"x" * (MAX_HEAD_SIZE - len(line) - 4) + b"\r\n\r\n"
    head = HeadBuffer(not_a_request)
    head.feed(fits + b"trailing" * 100)
    assert head.take() == fits
    head = HeadBuffer(not_a_request)
    head.feed(line + b"x" * (MAX_HEAD_SIZE + 1 - len(line)))
    with pytest.raises(h11.RemoteProtocolError, match="larger") as caught:
        head.take()
    assert caught.value.error_status_hint == 431


@pytest.mark.parametrize("end", [b"\r\n", b"\n"])
@pytest.mark.parametrize("field", [b"a:", b"Accept: text/html", b": no field"])
def test_a_head_has_as_many_fields_as_its_limit_and_no_more(field: bytes, end: bytes) -> None:
    start = b"GET / HTTP/1.1\r\n"
    fits = start + (field + end) * MAX_FIELDS + b"\r\n"
    assert taken(fits + b"\n" * 200) == fits, "what follows a head does not count"
    assert refusal(start + (field + end) * (MAX_FIELDS + 1) + b"\r\n") == (
        431,
        "it has more than 100 header fields",
    )


def test_fields_are_counted_before_the_head_has_an_end_and_before_its_size() -> None:
    lines = b"GET / HTTP/1.1\r\n" + b"a:\n" * 40_000
    assert "fields" in refusal(lines)[1]
    assert taken(lines[: 16 + 3 * MAX_FIELDS]) is None
    late = b"GET / HTTP/1.1\r\nA: " + b"x" * MAX_HEAD_SIZE + b"\r\na:" * 200
    assert "larger" in refusal(late)[1]


@pytest.mark.parametrize("separator", [b",", b";", b"; a=b,"])
def test_header_fields_have_as_many_elements_as_their_limit_and_no_more(separator: bytes) -> None:
    each = separator.count(b",") + separator.count(b";")
    fits = b"GET /?,;,;,; HTTP/1.1\r\nA: " + separator * (MAX_ITEMS // each) + b"\r\nB: x\r\n\r\n"
    assert taken(fits + b",;" * 2000) == fits, "neither the target counts nor what follows the head"
    status, text = refusal(fits.replace(b"B: x", b"B: x,"))
    assert (status, text) == (431, "its header fields have more than 1000 elements")


FIRST = b"GET /?s3cr3t HTTP/1.1\r\n"
FAULTS = {
    # Neither h11's nor ours quotes what may be a secret; a name is no secret.
    "a NUL": (
        FIRST + b"Host: a\r\nCookie: s3cr3t\0\r\n\r\n",
        "line 3 (Cookie) has a control character (0x00)",
    ),
    "a DEL in the first line": (b"GET /s3cr3t\x7f HTTP/1.1\r\n\r\n", "line 1 has a control character (0x7f)"),
    "a bare CR": (FIRST + b"Cookie: s3\rcr3t\r\n\r\n", "line 2 (Cookie) has a CR without a LF"),
    "a folded line": (FIRST + b"Cookie: a;\r\n s3cr3t\r\n\r\n", "line 2 (Cookie) goes on in the next one"),
    "a folded line, LF": (FIRST + b"Cookie: a;\n\ts3cr3t\n\n", "line 2 (Cookie) goes on in the next one"),
    "a folded first field": (FIRST + b" Cookie: s3cr3t\r\n\r\n", "line 1 goes on in the next one"),
    "a blank before the colon": (
        FIRST + b"Host: a\r\nAuthorization : Bearer s3cr3t\r\n\r\n",
        "line 3 (Authorization) has a blank before its colon",
    ),
    "a long name": (
        FIRST + b"N" * 50 + b"\t: s3cr3t\r\n\r\n",
        f"line 2 ({'N' * 40}...) has a blank before its colon",
    ),
    "no colon": (FIRST + b"Bearer s3cr3t\r\n\r\n", "line 2 is not a name, a colon and a value"),
    "no name": (FIRST + b": s3cr3t\r\n\r\n", "line 2 is not a name, a colon and a value"),
    "a name that is no token": (
        FIRST + b"s3cr3t\xff: s3cr3t\r\n\r\n",
        "line 2 is not a name, a colon and a value",
    ),
    "a malformed first line": (
        b"GET /?s3cr3t HTTP/one\r\n\r\n",
        "its first line is not a method, a target and a version of HTTP",
    ),
    "no Host": (FIRST + b"Cookie: s3cr3t\r\n\r\n", "it has no Host field"),
    "two Hosts": (FIRST + b"Host: s3cr3t\r\nHost: a\r\n\r\n", "it has several Host fields"),
    "a length": (FIRST + b"Host: a\r\nContent-Length: s3cr3t\r\n\r\n", "its Content-Length is not a number"),
    "two lengths": (
        FIRST + b"Host: a\r\nContent-Length: 1, 2\r\n\r\n",
        "it has several values of Content-Length",
    ),
}


@pytest.mark.parametrize(("data", "text"), FAULTS.values(), ids=FAULTS)
def test_a_malformed_head_is_named_by_its_line_and_never_quoted(data: bytes, text: str) -> None:
    assert refusal(data) == (400, text)


@pytest.mark.parametrize("coding", [b"gzip, s3cr3t", b"chunked\r\nTransfer-Encoding: s3cr3t"])
def test_a_coding_that_is_not_known_is_answered_with_501(coding: bytes) -> None:
    status, text = refusal(FIRST + b"Host: a\r\nTransfer-Encoding: " + coding + b"\r\n\r\n")
    assert status == 501
    assert "Transfer-Encoding" in text
    assert "s3cr3t" not in text


def test_a_message_of_h11_that_is_not_known_is_not_passed_on() -> None:
    class Newer(h11.Connection):
        def next_event(self) -> object:  # type: ignore[override]
            raise h11.RemoteProtocolError("dubious header: b's3cr3t'", 417)

    with pytest.raises(h11.RemoteProtocolError) as caught:
        read_by_h11(Newer(h11.SERVER), b"GET / HTTP/1.1\r\n\r\n")
    assert (str(caught.value), caught.value.error_status_hint) == ("it is malformed", 417)
    assert caught.value.__context__ is None


FOREIGN = {
    "TLS": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc", "TLS"),
    "version 1 of the PROXY protocol": (
        b"PROXY TCP4 192.0.2.1 192.0.2.2 56324 443\r\n" + OPENING,
        "the PROXY protocol",
    ),
    "the same over IPv6": (b"PROXY TCP6 2001:db8::1 2001:db8::2 1 2\r\n" + OPENING, "the PROXY protocol"),
    "the same, unknown": (b"PROXY UNKNOWN\r\n" + OPENING, "the PROXY protocol"),
    "version 2 of the PROXY protocol": (
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c" + bytes(12) + OPENING,
        "the PROXY protocol",
    ),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0", "HTTP/2"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", "SSH"),
}


@pytest.mark.parametrize(("data", "name"), FOREIGN.values(), ids=FOREIGN)
def test_another_protocol_is_named(data: bytes, name: str) -> None:
    status, text = refusal(data)
    assert status == 400
    assert text.startswith(f"this looks like {name}")
    assert len(text) < 150


def test_what_is_no_http_is_refused_at_once_unless_it_may_be_a_protocol_with_a_name() -> None:
    for data in (b"G", b"~", b"!", b"GET / HTTP/1.1", b"PROXY / HTTP/1.1", b"PRI / HTTP/1.1\r\n"):
        assert not not_a_request(data)
    for data in (b"\x16\x02", b" ", b"\n", b"\r\nG", b"\x80", b"\x7f", b"\r\n\r\n\0\r\nQUIT "):
        assert not_a_request(data) == "this is not HTTP/1.1"
    for data in (b"", b"\x16", b"\r\n\r\n", b"PRI * HTTP/2.0\r\n\r\n", b"SSH"):
        assert not_a_request(data) == ""
        assert taken(data) is None


def judged_by_h11(head: bytes) -> tuple[bytes, str, str, Headers] | None:
    """Version, method, target and fields."""
    connection = h11.Connection(h11.SERVER)
    connection.receive_data(head)
    try:
        event = connection.next_event()
    except h11.RemoteProtocolError:
        return None
    assert isinstance(event, h11.Request)
    fields = decoded(event.headers.raw_items())
    return event.http_version, event.method.decode(), event.target.decode(), fields


def check_against_h11(data: bytes) -> None:
    if (opening := read_opening(data)) is None:
        return
    target, fields, size = opening
    head = HeadBuffer(not_a_request)
    head.feed(data)
    whole = head.take()  # it is within the limits
    assert whole == data[:size]
    judged = judged_by_h11(whole)
    assert judged is not None
    assert judged[:3] == (b"1.1", "GET", target)
    assert judged[3].items() == fields.items()


def test_what_opens_a_websocket_is_read_without_h11_and_just_so() -> None:
    opening = read_opening(OPENING)
    assert opening is not None
    assert opening[0] == "/chat"
    assert opening[1].items() == (
        ("Host", "a"),
        ("Upgrade", "websocket"),
        ("X-A", "\xe4 \x85\xa0"),
        ("x-a", ""),
    )
    check_against_h11(OPENING)


@pytest.mark.parametrize("trailing", [b"", b"\x81\x85", OPENING])
def test_an_opening_ends_at_its_empty_line(trailing: bytes) -> None:
    opening = read_opening(OPENING + trailing)
    assert opening is not None
    assert opening.size == len(OPENING)


@pytest.mark.parametrize(
    ("lines", "within"),
    [
        (b"a: b\r\n" * (MAX_FIELDS - 4), True),
        (b"a: b\r\n" * (MAX_FIELDS - 3), False),
        (b"a: %b\r\n" % (b",;" * (MAX_ITEMS // 2)), True),
        (b"a: %b\r\n" % (b",;" * (MAX_ITEMS // 2) + b","), False),
        (b"a: %b\r\n" % bytes(b"x" * (MAX_HEAD_SIZE - len(OPENING) - 5)), True),
        (b"a: %b\r\n" % bytes(b"x" * (MAX_HEAD_SIZE - len(OPENING) - 4)), False),
    ],
    ids=["fields", "more-fields", "items", "more-items", "size", "more-size"],
)
def test_an_opening_is_read_up_to_the_limits_of_heads(lines: bytes, within: bool) -> None:
    data = OPENING[:-2] + lines + b"\r\n"
    assert (read_opening(data) is not None) is within
    check_against_h11(data)


@given(st.lists(LINES, max_size=6).map(b"".join), st.booleans())
def test_no_lines_are_read_otherwise_than_by_h11(lines: bytes, opened: bool) -> None:
    check_against_h11((OPENING[:29] if opened else b"") + lines + b"\r\n")


@given(st.integers(0, len(OPENING)), st.integers(0, 3), st.binary(max_size=3))
@example(len(OPENING) - 4, 4, b"\n\n")
def test_no_changed_bytes_are_read_otherwise_than_by_h11(at: int, dropped: int, put: bytes) -> None:
    check_against_h11(OPENING[:at] + put + OPENING[at + dropped :])


def test_nothing_the_fuzzer_found_is_read_otherwise_than_by_h11() -> None:
    for path in CORPUS.iterdir():
        check_against_h11(path.read_bytes()[5:])  # see `handshake` of the fuzzer's targets


def test_header_fields_go_to_h11_and_back() -> None:
    headers = Headers([("X-A", "\xe4"), ("x-a", "b")])
    assert encoded(headers) == [(b"X-A", b"\xe4"), (b"x-a", b"b")]
    assert decoded(encoded(headers)) == headers


SWITCH = b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nX-A: \xe4 \x85\xa0 \r\nx-a:\r\n\r\n"


def check_switch_against_h11(data: bytes) -> None:
    if (switch := read_switch(data)) is None:
        return
    fields, size = switch
    head = HeadBuffer(lambda beginning: None)
    head.feed(data)
    assert head.take() == data[:size]
    connection = h11.Connection(h11.CLIENT)
    upgrade = {"Host": "a", "Upgrade": "websocket", "Connection": "Upgrade"}
    connection.send(h11.Request(method="GET", target="/", headers=list(upgrade.items())))
    connection.send(h11.EndOfMessage())
    connection.receive_data(data[:size])
    event = connection.next_event()
    assert isinstance(event, h11.InformationalResponse)
    assert (event.status_code, event.http_version) == (101, b"1.1")
    assert decoded(event.headers.raw_items()).items() == fields.items()


@pytest.mark.parametrize("trailing", [b"", b"\x81\x00", SWITCH])
def test_a_switch_is_read_without_h11_and_just_so(trailing: bytes) -> None:
    switch = read_switch(SWITCH + trailing)
    assert switch is not None
    assert switch[0].items() == (("Upgrade", "websocket"), ("X-A", "\xe4 \x85\xa0"), ("x-a", ""))
    assert switch[1] == len(SWITCH)
    check_switch_against_h11(SWITCH + trailing)


@pytest.mark.parametrize(
    "data",
    [
        SWITCH[:-1],
        SWITCH.replace(b"101", b"200"),
        SWITCH.replace(b"1.1", b"1.0"),
        SWITCH.replace(b"\r\n", b"\n"),
        SWITCH.replace(b"Upgrade", b"Content-Length"),
        SWITCH[:-2] + b"a: b\r\n" * (MAX_FIELDS - 2) + b"\r\n",
        SWITCH[:-2] + b"a: %b\r\n\r\n" % (b"," * (MAX_ITEMS + 1)),
        SWITCH[:-2] + b"a: %b\r\n\r\n" % (b"x" * MAX_HEAD_SIZE),
    ],
)
def test_all_other_responses_are_left_to_h11(data: bytes) -> None:
    assert read_switch(data) is None


@given(st.lists(LINES, max_size=6).map(b"".join))
def test_no_lines_of_a_switch_are_read_otherwise_than_by_h11(lines: bytes) -> None:
    check_switch_against_h11(b"HTTP/1.1 101 x\r\n" + lines + b"\r\n")


@given(st.integers(0, len(SWITCH)), st.integers(0, 3), st.binary(max_size=3))
def test_no_changed_bytes_of_a_switch_are_read_otherwise_than_by_h11(
    at: int, dropped: int, put: bytes
) -> None:
    check_switch_against_h11(SWITCH[:at] + put + SWITCH[at + dropped :])
