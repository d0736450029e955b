"""The exceptions of wsstream.

The type alone says whose fault it was::

    WebSocketError(Exception)                        .code  .reason
    ├─ InvalidURL(ValueError)                        raised before any I/O
    ├─ HandshakeError                                the opening handshake failed: .url .hint
    │   ├─ HandshakeRejected                         .status .headers .body
    │   └─ ProxyError                                .status .headers .body
    ├─ ConnectionClosed                              .info: CloseInfo
    │   ├─ StreamEnded(anyio.EndOfStream)            clean end; ends ``async for``
    │   ├─ ClosedLocally(anyio.ClosedResourceError)  we closed; a call made afterwards
    │   └─ ConnectionBroken(anyio.BrokenResourceError)
    │                                                unclean end, or sending after the peer closed
    ├─ MessageTooBig                                 1009
    ├─ InvalidUTF8                                   1007
    ├─ ProtocolViolation                             1002
    ├─ MessageAborted                                a MessageWriter was left unfinished
    ├─ KeepaliveTimeout                              the peer gave no sign of life
    └─ ReceiveTimeout(TimeoutError)                  1008, a message took too long to arrive

What the library found out about the peer (a violation, a timeout, a failed system call) is the
``__cause__`` of the :class:`ConnectionBroken` that calls raise.

All of them can be copied and pickled, subclasses of yours too: see :class:`WebSocketError`.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

import anyio

from wsstream.close_codes import CloseCode, is_close_code

__all__ = [
    "NOT_CLOSED",
    "CloseInfo",
    "ClosedLocally",
    "ConnectionBroken",
    "ConnectionClosed",
    "HandshakeError",
    "HandshakeRejected",
    "InvalidURL",
    "InvalidUTF8",
    "KeepaliveTimeout",
    "MessageAborted",
    "MessageTooBig",
    "ProtocolViolation",
    "ProxyError",
    "ReceiveTimeout",
    "StreamEnded",
    "WebSocketError",
    "check_close_arguments",
    "first_line",
]

_MAX_QUOTED = 100  # characters
_QUERY = re.compile(r"\?\S+")


class CloseInfo(NamedTuple):
    """How a connection ended.

    `code` and `reason` are the peer's when it sent a Close frame. `code` is 1005 when its Close
    frame carried none and 1006 when there was no Close frame (RFC 6455 section 7.1.5). When this
    side failed the connection, they are what it told the peer. `clean` is true when both Close
    frames passed and no message was cut off in either direction.
    """

    code: int
    reason: str
    clean: bool


NOT_CLOSED = CloseInfo(int(CloseCode.ABNORMAL), "", False)
"""Stands for the end until it is known."""


def check_close_arguments(code: object, reason: object) -> None:
    """Check a close code and a reason before anything is done with them.

    `code` is ``None`` or an ``int`` in 1000–1003, 1007–1014 or 3000–4999 (RFC 6455 section 7.4);
    `reason` is a ``str`` of at most 123 bytes of UTF-8 (section 5.5).

    Raises:
        TypeError: `code` is not an ``int`` (``bool`` is none), or `reason` is not a ``str``.
        ValueError: the code must not be sent, or the reason is too long or has a lone surrogate.
    """
    if code is not None:
        if not isinstance(code, int) or isinstance(code, bool):
            raise TypeError(f"a close code must be an int, got {type(code).__name__}")
        if not is_close_code(code):
            raise ValueError(
                "a close code must be in 1000..1003, 1007..1014 or 3000..4999 to be sent "
                f"(RFC 6455 section 7.4), got {int(code)}"
            )
    if not isinstance(reason, str):
        raise TypeError(f"a close reason must be a str, got {type(reason).__name__}")
    if (size := len(reason.encode())) > 123:
        raise ValueError(
            f"a close reason must have at most 123 bytes of UTF-8 (RFC 6455 section 5.5), got {size}"
        )


def first_line(body: bytes) -> str:
    """A colon and a quotation from a response's body, for the message of an error.

    Quotes the first line that is not blank, escaped and cut; ``""`` if there is no such line. Many servers
    repeat the target there, so queries are left out: they may hold a secret.
    """
    lines = (_QUERY.sub("?...", line).strip() for line in body.decode(errors="replace").splitlines())
    text = next((repr(line) for line in lines if line), "")
    if len(text) > _MAX_QUOTED:
        text = f"{text[:_MAX_QUOTED]}..."
    return text and f": {text}"


class WebSocketError(Exception):
    """The root of the tree; raise it yourself to close with a code.

    Raised inside the body of ``connect``, ``accept`` or a server's handler, its `code` and `reason`
    are sent to the peer in the Close frame. A reason without a code stands for code 1000.

    A copy, also one that was pickled, has the same type, message, attributes and notes, and the same
    cause if that can be pickled itself. ``__init__`` is not called for it, so a subclass may take what
    it likes.

    Args:
        message: what ``str()`` of the exception says; by default the reason.
        code: a close code that may be sent (1000–1003, 1007–1014, 3000–4999), or ``None``.
        reason: at most 123 bytes of UTF-8.

    Raises:
        TypeError, ValueError: `code` or `reason` must not be sent.
    """

    code: int | None = None  # also of subclasses that do not call __init__
    reason: str = ""

    def __init__(self, message: str = "", *, code: int | None = None, reason: str = "") -> None:
        check_close_arguments(code, reason)
        super().__init__(message or reason)
        self.code = int(CloseCode.NORMAL) if code is None and reason else code
        self.reason = reason

    # Exceptions are copied by calling their class with `args`, which here are seldom what __init__ takes.

    def __reduce__(self) -> tuple[Any, ...]:
        return _remade, (type(self), self.args), (self.__getstate__(), _Cause(self.__cause__))

    def __setstate__(self, state: Any) -> None:
        attributes, cause = state
        for names in attributes if isinstance(attributes, tuple) else (attributes,):  # two where slots are
            super().__setstate__(names)
        if cause.error is not None:
            self.__cause__ = cause.error


def _remade(cls: type[WebSocketError], args: tuple[Any, ...]) -> WebSocketError:
    error = cls.__new__(cls, *args)
    error.args = args  # those that are an OSError too leave that to __init__
    return error


class _Cause:
    """A cause that is copied. It is pickled by itself: if it fails at either end, only the cause is lost."""

    def __init__(self, error: BaseException | None) -> None:
        self.error = error

    def __reduce__(self) -> tuple[Any, ...]:
        try:
            return _unpickled_cause, (pickle.dumps(self.error),)
        except Exception:  # whatever somebody else's exception raises
            return _Cause, (None,)


def _unpickled_cause(data: bytes) -> _Cause:
    try:
        return _Cause(pickle.loads(data))  # noqa: S301 - part of what is being unpickled
    except Exception:  # as above
        return _Cause(None)


class InvalidURL(WebSocketError, ValueError):
    """The URL is not a WebSocket URL (RFC 6455 section 3), or a proxy URL is not valid. Nothing was sent."""


class HandshakeError(WebSocketError):
    """The opening handshake failed: the peer does not speak RFC 6455 as it should.

    ``str()`` of the exception also has `url` and `hint`.
    """

    url: str = ""
    """What ``connect`` tried to open, without userinfo and query; ``""`` on the server's side."""
    hint: str = ""
    """What may help, ``""`` if that is not known."""

    def __str__(self) -> str:
        text = super().__str__()
        if self.url:
            text += f" ({self.url})"
        return f"{text}; {self.hint}" if self.hint else text


class HandshakeRejected(HandshakeError):
    """The server answered the opening handshake with another status than 101.

    `status` is the HTTP status, `headers` the header fields as a list of (name, value) with names
    in lower case, `body` the first KiB of the body, or what arrived of it within half a second.
    """

    def __init__(self, status: int, headers: Sequence[tuple[str, str]] = (), body: bytes = b"") -> None:
        message = f"the server answered the opening handshake with HTTP status {status}"
        super().__init__(message + first_line(body))
        self.status = status
        self.headers = list(headers)
        self.body = body


class ProxyError(HandshakeError):
    """The proxy refused to connect to the server, or does not speak its protocol as it should.

    The server was not asked. `status` is the HTTP status of the proxy's answer, `headers` its header
    fields as a list of (name, value) with names in lower case, `body` the first KiB of its body, or
    what arrived of it within half a second. For SOCKS proxies, and without a valid response, `status` is
    ``None`` and the others are empty.
    """

    def __init__(
        self,
        message: str,
        status: int | None = None,
        headers: Sequence[tuple[str, str]] = (),
        body: bytes = b"",
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = list(headers)
        self.body = body


class ConnectionClosed(WebSocketError):
    """The connection is closing or closed. `info` says how; `code` and `reason` are those of `info`.

    While it is not known how the connection ends, `info` has code 1006, as after an end without a Close
    frame. ``ws.close_info`` tells the two apart: it is ``None`` until the end is known.
    """

    info: CloseInfo

    def __init__(self, message: str, info: CloseInfo) -> None:
        super().__init__(message if info is NOT_CLOSED else f"{message} ({_describe(info)})")
        self.info = info
        self.code = info.code
        self.reason = info.reason


def _describe(info: CloseInfo) -> str:
    if info.code == CloseCode.NO_CODE:
        text = "no close code"
    elif info.code == CloseCode.ABNORMAL:
        text = "no Close frame"
    else:
        text = f"close code {info.code}"
    return f"{text}: {info.reason!r}" if info.reason else text


class StreamEnded(ConnectionClosed, anyio.EndOfStream):
    """The peer closed cleanly and everything it sent has been received."""


class ClosedLocally(ConnectionClosed, anyio.ClosedResourceError):
    """The connection was closed on this side; this call came afterwards."""


class ConnectionBroken(ConnectionClosed, anyio.BrokenResourceError):
    """The connection ended without a closing handshake, inside a message, or before a send.

    ``__cause__`` is what was found out, if anything.
    """


class _Failure(WebSocketError):
    """An error whose class fixes the close code that goes to the peer, with `reason` or the message."""

    code: int  # pyright: ignore[reportIncompatibleVariableOverride] - no one sets it to None

    def __init__(self, message: str, *, reason: str = "") -> None:
        super().__init__(message, code=self.code, reason=reason)


class MessageTooBig(_Failure):
    """A message is larger than ``max_message_size`` and was asked for whole. The code is 1009."""

    code = int(CloseCode.MESSAGE_TOO_BIG)


class InvalidUTF8(_Failure):
    """A text message or a close reason is not UTF-8. The code is 1007.

    Raised by a call, it is about the bytes that the caller gave to a :class:`~wsstream.MessageWriter` of
    kind ``"text"``. What the peer sent is never raised itself: it is the ``__cause__`` of the
    :class:`ConnectionBroken` that calls raise.
    """

    code = int(CloseCode.INVALID_PAYLOAD)


class ProtocolViolation(_Failure):
    """The peer broke a rule of RFC 6455. The code is 1002."""

    code = int(CloseCode.PROTOCOL_ERROR)


class MessageAborted(_Failure):
    """The block of a :class:`~wsstream.MessageWriter` was left before the message was finished."""

    code = int(CloseCode.INTERNAL_ERROR)


class KeepaliveTimeout(_Failure):
    """The peer gave no sign of life within ``ping_timeout`` after a Ping was due. TCP was dropped without a
    Close frame.

    Its own code is 1011; that of the connection is 1006.
    """

    code = int(CloseCode.INTERNAL_ERROR)


class ReceiveTimeout(_Failure, TimeoutError):
    """A message took longer to arrive than ``receive_timeout`` or ``receive_rate`` allows. The code is
    1008.
    """

    code = int(CloseCode.POLICY_VIOLATION)
