"""From an exception to a command's message and exit status."""

from __future__ import annotations

import ssl

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.errors import ConnectionClosed, HandshakeError, HandshakeRejected, KeepaliveTimeout

__all__ = ["failure_of", "reason_of"]

_NO_CLOSE = 1006  # RFC 6455 section 7.1.5


def reason_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return the exception that explains `group`, not one that only says that the connection is closed."""
    return min(_leaves(group), key=lambda error: isinstance(error, ConnectionClosed))


def failure_of(error: BaseException) -> BaseException:
    """Return the :class:`CommandFailed` for `error`; `error` itself if it is an internal error."""
    if isinstance(error, HandshakeRejected):
        body = error.body.decode(errors="replace")
        return CommandFailed(Exit.REFUSED, "\n".join([str(error), *map(_printable, body.splitlines())]))
    if isinstance(error, ssl.SSLError):
        return CommandFailed(Exit.TLS, f"TLS: {error}")
    if isinstance(error, OSError | HandshakeError):
        return CommandFailed(Exit.NO_CONNECTION, f"could not connect: {str(error) or type(error).__name__}")
    if isinstance(error, ConnectionClosed):
        return _closed(error)
    return error


def _closed(error: ConnectionClosed) -> CommandFailed:
    cause = error.__cause__
    lost = error.info.code == _NO_CLOSE or isinstance(cause, KeepaliveTimeout)
    message = f"{error}; {cause}" if cause is not None and str(cause) else str(error)
    return CommandFailed(Exit.LOST if lost else Exit.CLOSED, message)


def _leaves(error: BaseException) -> list[BaseException]:
    if not isinstance(error, BaseExceptionGroup):
        return [error]
    return [leaf for inner in error.exceptions for leaf in _leaves(inner)]


def _printable(text: str) -> str:
    """`text` with control characters escaped: a peer's text must not control the terminal."""
    return text if text.isprintable() else ascii(text)[1:-1]
