"""From an exception to a command's message and exit status."""

from __future__ import annotations

import ssl
import sys
from typing import TYPE_CHECKING, TypeGuard

import anyio

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.terminal import printable
from wsstream.close_codes import CloseCode
from wsstream.errors import (
    CloseInfo,
    ConnectionClosed,
    HandshakeError,
    HandshakeRejected,
    KeepaliveTimeout,
    MessageTooBig,
    ProxyError,
    WebSocketError,
)

if TYPE_CHECKING:
    from wsstream.files.errors import TransferError

__all__ = ["failure_of", "is_good_end", "reason_of"]

_GOOD = (CloseCode.NORMAL, CloseCode.GOING_AWAY, CloseCode.NO_CODE)
_GATEWAY_ERRORS = (502, 503, 504)  # RFC 9110 sections 15.6.3 to 15.6.5
_BY_RULE = frozenset(
    ("denied", "exists", "invalid-name", "no-space", "not-found", "quota", "too-large", "unauthorized")
)
_MISMATCHES = frozenset(("changed", "digest-mismatch", "short"))
_PROXIES = ("apache", "caddy", "cloudflare", "cloudfront", "envoy", "haproxy", "nginx", "traefik", "varnish")


def is_good_end(info: CloseInfo) -> bool:
    """Whether a connection ended as it should: 1000, 1001 or no code."""
    return info.code in _GOOD


def reason_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that explains `group`, not one that only says that the connection is closed."""
    return min(_leaves(group), key=lambda error: isinstance(error, ConnectionClosed))


def failure_of(error: BaseException) -> BaseException:
    """Return the :class:`CommandFailed` for `error`; `error` itself if it is an internal error."""
    match error:
        case HandshakeRejected():
            return CommandFailed(Exit.REFUSED, "\n".join([str(error), *_answer(error)]))
        case ProxyError():
            return CommandFailed(Exit.NO_CONNECTION, "\n".join([str(error), *_body(error.body)]))
        case ssl.SSLError():
            return CommandFailed(Exit.TLS, f"TLS: {error}")
        case OSError() | HandshakeError():
            return CommandFailed(
                Exit.NO_CONNECTION, f"could not connect: {str(error) or type(error).__name__}"
            )
        case MessageTooBig():
            return CommandFailed(Exit.POLICY, "a message of the peer is larger than --max-message")
        case ConnectionClosed():
            return _closed(error)
        case WebSocketError() if _is_transfer_error(error):
            return _transfer_failed(error)
        case WebSocketError():  # the peer sent what is not taken here
            return CommandFailed(Exit.CLOSED, str(error))
        case anyio.BrokenResourceError():
            return CommandFailed(
                Exit.LOST, f"the connection broke: {error.__cause__ or 'no reason is known'}"
            )
    return error


def _is_transfer_error(error: WebSocketError) -> TypeGuard[TransferError]:
    """Whether it is one. Importing its module takes 0.1 s, which commands without files save."""
    module = sys.modules.get("wsstream.files.errors")
    return module is not None and isinstance(error, module.TransferError)


def _transfer_failed(error: TransferError) -> CommandFailed:
    """By the name of the error; one that the system of this side raised is the cause of `error`."""
    lines = [printable(str(error)), *getattr(error, "__notes__", ())]
    status = Exit.CLOSED
    if isinstance(error.__cause__, OSError) and error.error != "exists":
        status = Exit.LOCAL_IO
    elif error.error in _BY_RULE:
        status = Exit.POLICY
    elif error.error in _MISMATCHES:
        status = Exit.MISMATCH
    elif error.error == "timeout":
        status = Exit.LOST
    return CommandFailed(status, "\n".join(lines))


def _answer(error: HandshakeRejected) -> list[str]:
    """The body of a refusal, and who answered, if it was a proxy that could not reach the server."""
    lines = _body(error.body)
    fields = [value for name, value in error.headers if name in ("server", "via")]
    name = next((name for name in _PROXIES for value in fields if name in value.lower()), None)
    if name is not None and error.status in _GATEWAY_ERRORS:
        lines.append(f"(this answer came from a proxy, {name}: the server behind it may be down)")
    return lines


def _body(body: bytes) -> list[str]:
    return [printable(line) for line in body.decode(errors="replace").splitlines()]


def _closed(error: ConnectionClosed) -> CommandFailed:
    cause = error.__cause__
    lost = error.info.code == CloseCode.ABNORMAL or isinstance(cause, KeepaliveTimeout)
    message = f"{error}; {cause}" if cause is not None and str(cause) else str(error)
    lines = [message, *getattr(error, "__notes__", ())]
    return CommandFailed(Exit.LOST if lost else Exit.CLOSED, "\n".join(lines))


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]
