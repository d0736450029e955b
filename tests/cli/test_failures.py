from __future__ import annotations

import ssl

import pytest

from wsstream.cli.exits import CommandFailed, Exit
from wsstream.cli.failures import failure_of, reason_of
from wsstream.errors import (
    CloseInfo,
    ConnectionBroken,
    HandshakeError,
    HandshakeRejected,
    KeepaliveTimeout,
    StreamEnded,
)


def _broken(code: int, cause: BaseException | None = None) -> ConnectionBroken:
    error = ConnectionBroken("the connection broke", CloseInfo(code, "", False))
    error.__cause__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (ConnectionRefusedError("refused"), Exit.NO_CONNECTION),
        (TimeoutError(), Exit.NO_CONNECTION),
        (HandshakeError("no handshake"), Exit.NO_CONNECTION),
        (ssl.SSLCertVerificationError("bad certificate"), Exit.TLS),
        (HandshakeRejected(403), Exit.REFUSED),
        (_broken(1006), Exit.LOST),
        (_broken(1011, KeepaliveTimeout("no sign of life")), Exit.LOST),
        (_broken(1011), Exit.CLOSED),
        (StreamEnded("the peer closed", CloseInfo(1000, "", True)), Exit.CLOSED),
    ],
)
def test_each_error_has_its_exit_status(error: Exception, status: Exit) -> None:
    failure = failure_of(error)
    assert isinstance(failure, CommandFailed)
    assert failure.status == status
    assert str(failure) not in ("", "could not connect: ")


@pytest.mark.parametrize(
    "error", [CommandFailed(Exit.LOCAL_IO, "x"), ZeroDivisionError(), KeyboardInterrupt()]
)
def test_failures_and_internal_errors_stay_what_they_are(error: BaseException) -> None:
    assert failure_of(error) is error


def test_what_was_found_out_is_told_with_the_broken_connection() -> None:
    assert "no sign of life" in str(failure_of(_broken(1011, KeepaliveTimeout("no sign of life"))))


def test_the_body_of_a_refusal_is_shown_but_cannot_control_the_terminal() -> None:
    failure = failure_of(HandshakeRejected(403, [], b"go away\n\x1b[2J\xff"))
    assert str(failure).splitlines()[1:] == ["go away", "\\x1b[2J\ufffd"]


def test_the_reason_is_what_broke_the_connection_and_not_that_it_is_broken() -> None:
    reason = OSError("disk")
    group = BaseExceptionGroup("", [_broken(1006), BaseExceptionGroup("", [_broken(1011), reason])])
    assert reason_of(group) is reason


def test_a_broken_connection_alone_is_the_reason() -> None:
    reason = _broken(1006)
    assert reason_of(BaseExceptionGroup("", [reason, _broken(1011)])) is reason
