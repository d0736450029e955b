"""The log of a server: one line for each client when it goes, with what is known of it.

The facts of a line are also in its record, see :mod:`wsstream.log`. Neither has the query of the request,
which may hold secrets, or anything of the application's response but the status.
"""

from __future__ import annotations

from wsstream.display import excerpt
from wsstream.log import Log
from wsstream.opening.handshake_server import RequestRejected
from wsstream.opening.http import Request
from wsstream.opening.peer import PeerAddress
from wsstream.server.clients import Client
from wsstream.streams.websocket import WebSocketStream
from wsstream.upgrade.client_name import address_text, client_name, shown_method
from wsstream.upgrade.process_request import ApplicationResponse

__all__ = ["ConnectionName", "facts_of_client", "log", "log_end", "log_rejection"]

log = Log("wsstream.server")

_LENGTH = 300  # characters of a fact that comes from the client


class ConnectionName:
    """A connection in a log line; the text is made only if the line is wanted."""

    __slots__ = ("_ws",)

    def __init__(self, ws: WebSocketStream) -> None:
        self._ws = ws

    def __str__(self) -> str:
        ws = self._ws
        return f"connection {ws.id} ({client_name(ws.request.peer, ws.request)})"


def _facts_of(peer: PeerAddress, request: Request | None, **more: object) -> dict[str, object]:
    """What a line says of a client, for the record."""
    facts: dict[str, object] = {"client": address_text(peer, request)}
    if request is not None:
        facts["method"] = shown_method(request)
        facts["path"] = excerpt(request.path, _LENGTH)
    return facts | more


def facts_of_client(client: Client, duration: float) -> dict[str, object]:
    """The facts of a client that has opened no connection, `duration` seconds after it came."""
    request = None if client.upgrade is None else client.upgrade.request
    return _facts_of(client.peer, request, duration=round(duration, 6))


def log_rejection(client: Client, rejected: RequestRejected, duration: float) -> None:
    """Log a response other than 101. The application's own is no failure, and its body is not shown."""
    if not log.wants_info:
        return
    status = rejected.response.status
    facts = facts_of_client(client, duration) | {"status": status}
    if isinstance(rejected, ApplicationResponse):
        log.info("%s: answered with status %s", client, status, facts=facts)
    else:
        log.info("%s: rejected with status %s: %s", client, status, rejected, facts=facts)


def log_end(ws: WebSocketStream, duration: float, error: BaseException | None) -> None:
    """Log that a connection has ended, after `duration` seconds.

    `error`: what its handler raised, if that is no failure.
    """
    if not log.wants_info:
        return
    info, statistics = ws.close_info, ws.statistics()
    facts = _facts_of(
        ws.request.peer,
        ws.request,
        connection=ws.id,
        status=ws.response.status,
        duration=round(duration, 6),
        bytes_received=statistics.bytes_received,
        bytes_sent=statistics.bytes_sent,
        close_code=None if info is None else info.code,
        close_reason=None if info is None else excerpt(info.reason, _LENGTH),
        clean=info is not None and info.clean,
    )
    text = "%s: closed with %s after %s s, %s bytes received, %s sent"
    how = "no code" if info is None else f"{info.code} {info.reason}".strip()
    args = [ConnectionName(ws), how, f"{duration:.3f}", statistics.bytes_received, statistics.bytes_sent]
    if error is not None:
        text += "; the handler ended with %s: %s"
        args += [type(error).__name__, error]
    log.info(text, *args, facts=facts)
