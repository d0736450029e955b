"""Exceptions of an application that are hard to judge."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from wsstream import CloseInfo, ConnectionBroken, ConnectionClosed, WebSocketError

__all__ = ["HOSTILE", "Hostile"]


class Hostile(NamedTuple):
    """An exception that is hard to judge, and what a connection whose block it leaves has to make of it."""

    make: Callable[[], BaseException]
    code: int
    """Of the Close frame."""
    failed: bool
    """Whether it is worth an ERROR in the log, not an INFO."""


class _NoInit(WebSocketError):
    def __init__(self, user: str) -> None:
        self.user = user


class _ClosedNoInit(ConnectionClosed):
    def __init__(self) -> None: ...


class _AttributesRaise(WebSocketError):
    @property
    def code(self) -> int:  # type: ignore[override]
        raise RuntimeError("code")

    reason = code  # type: ignore[assignment]

    def __init__(self) -> None: ...


class _NoText(Exception):
    def __str__(self) -> str:
        raise RuntimeError("__str__")

    __repr__ = __str__


class _CodeWithoutText(WebSocketError):
    __str__ = __repr__ = _NoText.__str__


class _NoBase(BaseException):
    pass


class _GroupThatHidesItsParts(ExceptionGroup[Exception]):
    @property
    def exceptions(self) -> Any:  # type: ignore[override]
        raise RuntimeError("exceptions")


class _UnlikeANumber(int):
    def __le__(self, other: object) -> bool:
        raise RuntimeError("<=")

    __ge__ = __lt__ = __gt__ = __le__


class _ClassRaises(Exception):
    @property
    def __class__(self) -> Any:  # type: ignore[override]
        raise RuntimeError("__class__")


def _with(**attributes: object) -> WebSocketError:
    error = WebSocketError("odd", code=4000)
    vars(error).update(attributes)
    return error


def _broken() -> ConnectionBroken:
    return ConnectionBroken("the connection broke", CloseInfo(1006, "", False))


def _nested(*errors: BaseException) -> BaseExceptionGroup[BaseException]:
    return BaseExceptionGroup("outer", [BaseExceptionGroup("inner", errors)])


HOSTILE = {
    "init-not-called": Hostile(lambda: _NoInit("eve"), 1011, True),
    "closed-init-not-called": Hostile(_ClosedNoInit, 1011, False),
    "attributes-raise": Hostile(_AttributesRaise, 1011, True),
    "class-raises": Hostile(_ClassRaises, 1011, True),
    "code-of-str": Hostile(lambda: _with(code="4000"), 1011, True),
    "code-of-bool": Hostile(lambda: _with(code=True), 1011, True),
    "code-that-must-not-be-sent": Hostile(lambda: _with(code=1006), 1011, True),
    "code-that-does-not-compare": Hostile(lambda: _with(code=_UnlikeANumber(4000)), 1011, True),
    "reason-of-bytes": Hostile(lambda: _with(reason=b"bytes"), 1011, True),
    "reason-too-long": Hostile(lambda: _with(reason="x" * 124), 1011, True),
    "reason-with-a-surrogate": Hostile(lambda: _with(reason="\ud800"), 1011, True),
    "no-code": Hostile(lambda: WebSocketError("no code"), 1011, True),
    "no-text": Hostile(_NoText, 1011, True),
    "code-without-text": Hostile(lambda: _CodeWithoutText(code=4001), 4001, False),
    "group-closed": Hostile(lambda: _nested(_broken(), _broken()), 1011, False),
    "group-closed-and-code": Hostile(
        lambda: _nested(_broken(), WebSocketError(code=4002, reason="why")), 4002, False
    ),
    "group-of-two-codes": Hostile(
        lambda: _nested(WebSocketError(code=4003), WebSocketError(code=4004)), 4003, False
    ),
    "group-code-and-failure": Hostile(
        lambda: _nested(WebSocketError(code=4005), ZeroDivisionError()), 1011, True
    ),
    "group-of-the-above": Hostile(lambda: _nested(_NoInit("eve"), _AttributesRaise(), _NoText()), 1011, True),
    "group-that-hides-its-parts": Hostile(
        lambda: _GroupThatHidesItsParts("hides", [WebSocketError(code=4006)]), 4006, False
    ),
    "generator-exit": Hostile(GeneratorExit, 1001, True),
    "base-exception": Hostile(_NoBase, 1001, True),
    "group-of-base-exceptions": Hostile(
        lambda: _nested(_NoBase(), GeneratorExit(), ValueError()), 1001, True
    ),
}
