"""W11–17, W32–36, W48–57: arguments are checked before anything is done with them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import anyio
import pytest

import wsstream
from wsstream import CloseInfo, InvalidURL, WebSocketError, WebSocketStream, connect
from wsstream.testing import connected_pair, memory_pair

CLOSERS: dict[str, Callable[[WebSocketStream], Any]] = {
    "ws.aclose": lambda ws: ws.aclose,
    "readable.aclose": lambda ws: ws.readable.aclose,
    "writable.aclose": lambda ws: ws.writable.aclose,
    "writable.abort": lambda ws: ws.writable.abort,
}
WRONG_TYPES = [
    pytest.param((True,), id="bool"),
    pytest.param(("1000",), id="str"),
    pytest.param((1000.0,), id="float"),
    pytest.param((1000, b"bytes"), id="reason-bytes"),
    pytest.param((1000, None), id="reason-none"),
]
WRONG_VALUES = [
    *(pytest.param((code,), id=str(code)) for code in (0, 999, 1004, 1005, 1006, 1015, 2999, 5000)),
    pytest.param((1000, "x" * 124), id="124-bytes"),
    pytest.param((None, "x" * 124), id="124-bytes-alone"),
    pytest.param((1000, "é" * 62), id="124-bytes-of-62-characters"),
    pytest.param((1000, "\ud800"), id="lone-surrogate"),
]


async def _call(function: Callable[..., Any], arguments: tuple[Any, ...]) -> None:
    result = function(*arguments)
    if result is not None:
        await result


async def _assert_untouched(client: WebSocketStream, server: WebSocketStream) -> None:
    assert (client.state, client.close_info) == ("open", None)
    assert client.statistics().bytes_sent == 0
    await client.send("still")
    assert await server.receive() == "still"
    await server.send(b"here")
    assert await client.receive() == b"here"


@pytest.mark.anyio
@pytest.mark.parametrize("closer", CLOSERS.values(), ids=CLOSERS)
@pytest.mark.parametrize("arguments", WRONG_TYPES)
async def test_w11_w13_a_close_argument_of_a_wrong_type_changes_nothing(
    closer: Callable[[WebSocketStream], Any], arguments: tuple[Any, ...]
) -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(TypeError):
            await _call(closer(client), arguments)
        await _assert_untouched(client, server)


@pytest.mark.anyio
@pytest.mark.parametrize("closer", CLOSERS.values(), ids=CLOSERS)
@pytest.mark.parametrize("arguments", WRONG_VALUES)
async def test_w14_w17_a_code_or_reason_that_must_not_be_sent_changes_nothing(
    closer: Callable[[WebSocketStream], Any], arguments: tuple[Any, ...]
) -> None:
    async with connected_pair() as (client, server):
        with pytest.raises(ValueError):
            await _call(closer(client), arguments)
        await _assert_untouched(client, server)


@pytest.mark.anyio
@pytest.mark.parametrize("code", [1000, 1003, 1007, 1014, 3000, 4999])
async def test_w17_the_codes_at_the_borders_are_sent(code: int) -> None:
    async with connected_pair() as (client, server):
        await client.aclose(code, "x" * 123)
        assert server.close_info == CloseInfo(code, "x" * 123, True)


def test_w32_a_url_is_required() -> None:
    with pytest.raises(TypeError):
        connect()  # type: ignore[call-arg]
    for url in (None, 5, b"ws://127.0.0.1/"):
        with pytest.raises(TypeError):
            connect(url)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "url",
    [
        "",
        "/chat",
        "127.0.0.1/chat",
        "ws:",
        "ws://",
        "ws:///chat",
        "ws://exa mple.com/",
        "ws://example.com:65536/",
        "ws://example.com:port/",
        "ws://[::1/",
        "ws://exa\nmple.com/",
        "ftp://example.com/",
        "file:///etc/hosts",
        "ws://example.com/#",
        "wss://example.com/chat#part",
    ],
)
def test_w33_w34_a_url_that_is_none_is_refused_by_the_call_itself(url: str) -> None:
    with pytest.raises(InvalidURL) as caught:
        connect(url)  # there is no I/O without entering
    assert isinstance(caught.value, ValueError)


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("url", "normalised"),
    [
        ("http://EXAMPLE.com:80", "ws://example.com/"),
        ("HTTP://example.com:443/a?b=c", "ws://example.com:443/a?b=c"),
        ("ws://example.com:8080/ä?ö", "ws://example.com:8080/%C3%A4?%C3%B6"),
        ("ws://user:secret@bücher.example/", "ws://xn--bcher-kva.example/"),
        ("ws://[::1]:80/x", "ws://[::1]/x"),
    ],
)
async def test_w36_the_url_is_normalised(url: str, normalised: str) -> None:
    async with connected_pair(url=url) as (client, server):
        assert client.url == server.url == normalised


def test_w35_an_unknown_option_is_refused() -> None:
    with pytest.raises(TypeError):
        connect("ws://127.0.0.1/", protocols=["chat"])  # type: ignore[call-arg]
    with pytest.raises(TypeError):
        connect("ws://127.0.0.1/", ["chat"])  # type: ignore[misc]


def _connect(**options: Any) -> object:
    return connect("ws://127.0.0.1/", **options)


def _serve(**options: Any) -> object:
    async def handler(ws: WebSocketStream) -> None: ...

    return wsstream.serve(handler, "127.0.0.1", **options)


def _accept(**options: Any) -> object:
    return wsstream.accept(memory_pair()[0], **options)


@pytest.mark.parametrize("opener", [_connect, _serve, _accept])
def test_w36_subprotocols_are_a_sequence_of_distinct_tokens(opener: Callable[..., object]) -> None:
    for wrong in ("hi", [5], [None], [b"chat"]):
        with pytest.raises(TypeError):
            opener(subprotocols=wrong)
    for wrong in (["a", "b", "a"], [""], ["a b"], ["a,b"], ["a/b"], ["ä"], ["a\r\nX: y"]):
        with pytest.raises(ValueError):
            opener(subprotocols=wrong)


def test_w48_an_error_without_arguments_has_no_code_and_no_reason() -> None:
    error = WebSocketError()
    assert (error.code, error.reason, str(error)) == (None, "", "")


def test_w49_a_message_alone_is_not_sent() -> None:
    error = WebSocketError("what happened")
    assert (error.code, error.reason, str(error)) == (None, "", "what happened")


def test_w50_w52_code_and_reason_are_kept() -> None:
    error = WebSocketError("what happened", code=3456, reason="pizza")
    assert (error.code, error.reason, str(error)) == (3456, "pizza", "what happened")
    assert WebSocketError(code=1000).code == 1000
    assert WebSocketError(code=4999).reason == ""


def test_w53_a_reason_alone_stands_for_1000() -> None:
    error = WebSocketError(reason="pizza")
    assert (error.code, error.reason) == (1000, "pizza")


@pytest.mark.parametrize("code", [0, 999, 1001.0, 1004, 1005, 1006, 1015, 2999, 5000, "1000", True])
def test_w54_w55_a_code_that_must_not_be_sent_is_refused(code: Any) -> None:
    with pytest.raises(ValueError if type(code) is int else TypeError):
        WebSocketError(code=code)


def test_w56_w57_a_reason_is_limited_in_bytes_not_in_characters() -> None:
    assert WebSocketError(reason="\N{PILE OF POO}" * 30 + "abc").reason.endswith("abc")  # 123 bytes
    for reason in ("\N{PILE OF POO}" * 32, "\N{PILE OF POO}" * 31, "x" * 124):
        with pytest.raises(ValueError):
            WebSocketError(reason=reason)
    with pytest.raises(TypeError):
        WebSocketError(reason=b"bytes")  # type: ignore[arg-type]


def test_w48_w57_the_tree_is_anyios_too() -> None:
    for kind, base in {
        wsstream.StreamEnded: anyio.EndOfStream,
        wsstream.ClosedLocally: anyio.ClosedResourceError,
        wsstream.ConnectionBroken: anyio.BrokenResourceError,
        wsstream.InvalidURL: ValueError,
        wsstream.HandshakeRejected: wsstream.HandshakeError,
    }.items():
        assert issubclass(kind, base)
        assert issubclass(kind, WebSocketError)
