"""Calling the application's ``process_request``: what it may return, and whose failure an exception is."""

from __future__ import annotations

import inspect
from typing import NoReturn

from wsstream.log import Log
from wsstream.opening.decision import Accept, ProcessRequest
from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.http import Request, Response
from wsstream.streams.close_on_exit import in_cancelled_scope, is_closing, judge, program_end
from wsstream.upgrade.client_name import client_name

__all__ = ["UNCHANGED", "ApplicationResponse", "RequestHook", "check_process_request"]

log = Log("wsstream.server")

UNCHANGED = Accept()
"""The decision of an application that has nothing to add."""


def check_process_request(function: object) -> None:
    """Check an argument `process_request`: TypeError if it can neither be called nor is ``None``."""
    if function is not None and not callable(function):
        raise TypeError(f"process_request must be a function or None, got {type(function).__name__}")


class ApplicationResponse(RequestRejected):
    """The application answered a request itself, which is not a failure."""


class RequestHook:
    """Calls ``process_request`` and reads its decision.

    Args:
        function: the application's ``process_request``, or ``None``.
        own_tasks: it runs in tasks that nobody but the server may cancel, which the server does by cancel
            scopes. Then a cancellation that comes from elsewhere is a failure of `function`.

    Raises:
        TypeError: `function` cannot be called.
    """

    __slots__ = ("_function", "_own_tasks")

    def __init__(self, function: ProcessRequest | None, *, own_tasks: bool) -> None:
        check_process_request(function)
        self._function = function
        self._own_tasks = own_tasks

    def __bool__(self) -> bool:
        """Whether the application has a ``process_request``."""
        return self._function is not None

    async def run(self, request: Request) -> Accept:
        """Let the application decide on `request`.

        Raises:
            ApplicationResponse: it returned a `Response`.
            RequestRejected: it failed; logged.
        """
        if self._function is None:
            return UNCHANGED
        try:
            decision = self._function(request)
            if inspect.isawaitable(decision):
                decision = await decision
            if decision is not None and not isinstance(decision, Response | Accept):
                kind = type(decision).__name__
                raise TypeError(f"process_request must return a Response, an Accept or None, got {kind}")
        except BaseException as error:
            if not self._is_failure(error):
                raise
            self.fail(request, error)
        if isinstance(decision, Response):
            raise ApplicationResponse(decision, f"process_request answered with status {decision.status}")
        return decision or UNCHANGED

    def fail(self, request: Request, error: BaseException) -> NoReturn:
        """Log the application's mistake and reject the request with 500.

        Raises:
            RequestRejected: always.
        """
        name, verdict = client_name(request.peer, request), judge(error)
        if verdict.failed or verdict.cancelled:
            log.error("%s: process_request failed", name, cause=error)
        else:
            log.info("%s: process_request failed: %s", name, verdict.decided_by)
        reason = "The server failed to process this request."
        raise RequestRejected(Response(500, body=f"{reason}\n"), reason) from error

    def _is_failure(self, error: BaseException) -> bool:
        """Whether `error` is the application's own, and no caller expects it: not a cancellation or exit."""
        if is_closing(error) or program_end(error) is not None:
            return False
        return not judge(error).cancelled or (self._own_tasks and not in_cancelled_scope())
