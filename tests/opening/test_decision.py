"""`Accept`, with which an application takes part in the response 101."""

from __future__ import annotations

from typing import Any

import pytest

from wsstream.opening.decision import Accept


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"headers": {"Upgrade": "x"}}, ValueError),
        ({"headers": {"Sec-WebSocket-Protocol": "x"}}, ValueError),
        ({"headers": {"Content-Length": "0"}}, ValueError),
        ({"headers": {"X": "a\r\nb"}}, ValueError),
        ({"headers": {"X": 1}}, TypeError),
        ({"subprotocol": "not a token"}, ValueError),
        ({"subprotocol": ["a"]}, TypeError),
        ({"subprotocol": 0}, TypeError),
    ],
    ids=str,
)
def test_accept_is_checked_where_it_is_made(arguments: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        Accept(**arguments)


@pytest.mark.parametrize("subprotocol", ["chat", "", None])
def test_accept_takes_a_token_none_or_no_choice(subprotocol: str | None) -> None:
    assert Accept(subprotocol=subprotocol).subprotocol == subprotocol


def test_accept_is_a_record() -> None:
    accept = Accept(headers={"Set-Cookie": "a=secret"}, subprotocol="a", state=5)
    assert accept == Accept(headers=[("set-cookie", "a=secret")], subprotocol="a", state=5)
    assert repr(accept) == "Accept(headers=<Headers Set-Cookie>)"  # a subprotocol may be a secret
    with pytest.raises(AttributeError):
        accept.state = 6  # type: ignore[misc]
