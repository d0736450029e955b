"""Each public name and parameter of wsstream has its twin without async, or a reason why it has none."""

from __future__ import annotations

import inspect
import io
import typing

import pytest

import wsstream
import wsstream.sync
from wsstream.client.attempts import ConnectOptions

TWINS = {name for name in wsstream.sync.__all__ if hasattr(wsstream, name)}

SHARED = {"listen_fds": "a plain function, whose sockets are for `listeners` of both"}
LOOP = "forwards bytes in the event loop, where each message would otherwise pass two threads"
LEFT_OUT = {
    "accept": "takes an anyio ByteStream, which is asynchronous",
    "pipe": LOOP,
    "proxy": LOOP,
    "join": LOOP,
    "typed": "wraps an asynchronous stream; without async, call the two functions yourself",
    "TypedStream": "made by typed",
    "Router": "its handlers are asynchronous",
}
LEFT_OUT_MEMBERS = {
    "WebSocketStream.send_eof": "only anyio's interface asks for it, and it always raises",
    "WebSocketStream.path_params": "a Router's",
    "WebSocketStream.byte_stream": "for tunnels, which run in the event loop: `wsstream bridge`",
}
RENAMED = {
    "aclose": "close",
    "__aenter__": "__enter__",
    "__aexit__": "__exit__",
    "__aiter__": "__iter__",
    "__anext__": "__next__",
}
LEFT_OUT_PARAMETERS = {
    "connect.transport": "an anyio ByteStream, or a function that opens one",
    "reconnect.transport": "as for connect",
}
WAITS_WITHOUT_TIMEOUT = {
    "serve_forever": "for ever; signals, close and shutdown end it",
    "close": "bounded by close_timeout",
    "flush": "the file interface has none",
    "read": "the file interface has none",
    "save": "as long as the message arrives; Ctrl-C ends it",
    "receive_file": "as save",
    "send_file": "as long as the peer reads; Ctrl-C ends it",
}


def test_every_public_name_has_a_twin_or_a_reason() -> None:
    for name in wsstream.__all__:
        value = getattr(wsstream, name)
        works = name[0].islower() or any(map(inspect.iscoroutinefunction, vars(value).values()))
        if not works or name in SHARED:
            assert name not in TWINS, "the same object serves both"
        elif name not in TWINS:
            assert LEFT_OUT.get(name), f"{name} has no twin in wsstream.sync"
    assert not TWINS & set(LEFT_OUT)


def members(kind: type) -> set[str]:
    """Public members, with those special methods that statements use."""
    return {name for name in vars(kind) if not name.startswith("_") or name in RENAMED}


CLASSES = sorted(name for name in TWINS if isinstance(getattr(wsstream, name), type))


@pytest.mark.parametrize("name", CLASSES)
def test_every_member_has_a_twin_or_a_reason(name: str) -> None:
    twin = getattr(wsstream.sync, name)
    for member in sorted(members(getattr(wsstream, name))):
        if f"{name}.{member}" in LEFT_OUT_MEMBERS:
            assert not hasattr(twin, member)
        else:
            assert hasattr(twin, RENAMED.get(member, member)), f"{name}.{member}"


def attributes(kind: type) -> set[str]:
    """Those that the docstring of a class names."""
    listed = (inspect.getdoc(kind) or "").partition("Attributes:\n")[2]
    lines = [line.strip() for line in listed.splitlines() if line.startswith("    ") and ": " in line]
    return {name.partition(" ")[0] for line in lines for name in line.partition(": ")[0].split(", ")}


@pytest.mark.parametrize("name", CLASSES)
def test_every_attribute_has_a_twin(name: str) -> None:
    twin = getattr(wsstream.sync, name)
    for attribute in attributes(getattr(wsstream, name)):
        assert attribute in attributes(twin) or hasattr(twin, attribute), f"{name}.{attribute}"


@pytest.mark.parametrize("name", CLASSES)
def test_every_parameter_of_a_method_has_a_twin_and_what_waits_has_a_timeout(name: str) -> None:
    kind, twin = getattr(wsstream, name), getattr(wsstream.sync, name)
    for member in sorted(members(kind) - set(RENAMED)):
        function = vars(kind)[member]
        if f"{name}.{member}" in LEFT_OUT_MEMBERS or not inspect.isfunction(function):
            continue
        own = inspect.signature(getattr(twin, member)).parameters
        for parameter in inspect.signature(function).parameters.values():
            assert parameter.name in own, f"{name}.{member}({parameter.name})"
            assert own[parameter.name].default == parameter.default
        if inspect.iscoroutinefunction(function) and member not in WAITS_WITHOUT_TIMEOUT:
            assert "timeout" in own, f"{name}.{member}"


def accepted(function: typing.Callable[..., object]) -> set[str]:
    """The names of all parameters, those of ``**options`` included."""
    names = set()
    for name, parameter in inspect.signature(function).parameters.items():
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            options = typing.get_args(typing.get_type_hints(function)[name])[0]
            names |= set(options.__annotations__)
        else:
            names.add(name)
    return names


@pytest.mark.parametrize("name", ["connect", "reconnect", "serve"])
def test_every_parameter_of_a_function_has_a_twin_or_a_reason(name: str) -> None:
    twin = accepted(getattr(wsstream.sync, name))
    for parameter in sorted(accepted(getattr(wsstream, name))):
        if f"{name}.{parameter}" in LEFT_OUT_PARAMETERS:
            assert parameter not in twin
        else:
            assert parameter in twin, f"{name}({parameter})"
    assert twin <= accepted(getattr(wsstream, name))


def test_the_options_have_the_same_types() -> None:
    there, here = typing.get_type_hints(ConnectOptions), typing.get_type_hints(wsstream.sync.ConnectOptions)
    assert here == {name: kind for name, kind in there.items() if name != "transport"}


def test_readers_and_writers_are_files() -> None:
    assert issubclass(wsstream.sync.MessageReader, io.RawIOBase)
    assert issubclass(wsstream.sync.MessageWriter, io.RawIOBase)


@pytest.mark.parametrize("name", wsstream.sync.__all__)
def test_a_public_name_is_at_home_in_the_package(name: str) -> None:
    value = getattr(wsstream.sync, name)
    assert value.__module__ == "wsstream.sync"
    assert value.__doc__
    typing.get_type_hints(value)


def test_a_contract_says_what_is_raised() -> None:
    for name in wsstream.sync.__all__:
        value = getattr(wsstream.sync, name)
        functions = [value] if inspect.isfunction(value) else []
        if isinstance(value, type):
            functions = [
                each for key, each in vars(value).items() if key[0] != "_" and inspect.isfunction(each)
            ]
        for function in functions:
            text = inspect.getdoc(function) or ""
            assert "aise" in text or "Never waits" in text or "Short for" in text or len(text) < 250, function
