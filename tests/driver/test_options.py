"""The options of a connection: one list with its defaults and checks, and every function that spells it."""

from __future__ import annotations

import dataclasses
import inspect
import typing
from typing import Any

import pytest

from wsstream import Deflate, FlowControl, ReceiveRate, accept, connect, serve
from wsstream.driver.options import ConnectionKeywords, ConnectionOptions, ServerKeywords
from wsstream.testing import memory_pair

FIELDS = {field.name: field for field in dataclasses.fields(ConnectionOptions)}
HINTS = typing.get_type_hints(ConnectionOptions)


@pytest.mark.parametrize(
    ("function", "names"),
    [(connect, set(FIELDS) - {"receive_rate"}), (serve, set(FIELDS))],
    ids=["connect", "serve"],
)
def test_the_functions_spell_the_options_with_the_same_types_and_defaults(
    function: Any, names: set[str]
) -> None:
    hints = typing.get_type_hints(function)
    parameters = inspect.signature(function).parameters
    assert {name for name in parameters if name in FIELDS} == names
    for name in names:
        assert parameters[name].default == FIELDS[name].default
        assert hints[name] == HINTS[name]


def test_the_keywords_for_type_checkers_are_the_options() -> None:
    assert typing.get_type_hints(ServerKeywords) == HINTS
    assert typing.get_type_hints(ConnectionKeywords) == {
        name: HINTS[name] for name in HINTS if name != "receive_rate"
    }


GOOD: dict[str, Any] = {
    "max_message_size": 5,
    "compression": Deflate(),
    "flow": FlowControl(receive_high_water=1000),
    "open_timeout": 1.5,
    "close_timeout": 2,
    "ping_interval": 3,
    "ping_timeout": 4,
    "receive_timeout": 5,
    "receive_rate": ReceiveRate(6),
}


def test_every_function_passes_each_option_on() -> None:
    of_connect = {name: value for name, value in GOOD.items() if name != "receive_rate"}
    connecting: Any = connect("ws://h/", **of_connect)
    accepting: Any = accept(memory_pair()[0], **GOOD)
    serving: Any = serve(print, **GOOD)
    assert connecting._connector.options == ConnectionOptions(**of_connect)
    assert accepting._policy.options == ConnectionOptions(**GOOD)
    assert serving._make_server.args[1].options == ConnectionOptions(**GOOD)


@pytest.mark.parametrize(
    ("option", "error", "message"),
    [
        ({"max_message_size": -1}, ValueError, "max_message_size must not be negative, got -1"),
        ({"max_message_size": True}, TypeError, "max_message_size must be an int or None, got bool"),
        ({"compression": True}, TypeError, "compression must be a Deflate or None, got bool"),
        ({"flow": 5}, TypeError, "flow must be a FlowControl, got int"),
        ({"receive_rate": 5}, TypeError, "receive_rate must be a ReceiveRate or None, got int"),
        ({"ping_interval": 0}, ValueError, "ping_interval must be greater than 0; use None to send no Pings"),
        *[
            case
            for name in ("open_timeout", "close_timeout", "ping_interval", "ping_timeout", "receive_timeout")
            for case in [
                ({name: -1}, ValueError, f"{name} must not be negative, got -1"),
                ({name: float("nan")}, ValueError, f"{name} must not be negative, got nan"),
                ({name: "5"}, TypeError, f"{name} must be a number or None, got str"),
                ({name: True}, TypeError, f"{name} must be a number or None, got bool"),
            ]
        ],
        ({"max_size": 5}, TypeError, "accept() got an unexpected keyword argument 'max_size'"),
        ({"of_keywords": 5}, TypeError, "accept() got an unexpected keyword argument 'of_keywords'"),
    ],
    ids=str,
)
def test_a_wrong_option_is_an_error_that_names_it(
    option: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error) as caught:
        accept(memory_pair()[0], **option)
    assert str(caught.value) == message


@pytest.mark.parametrize("name", sorted(set(FIELDS) - {"flow"}))
def test_none_is_a_value_of_every_option_but_flow(name: str) -> None:
    assert getattr(ConnectionOptions(**{name: None}), name) is None
