"""`Router`: chooses the handler of a connection, or the answer to a request, by the path."""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Iterator
from typing import NamedTuple, TypeAlias, TypeVar, Unpack

from wsstream.display import never_raises
from wsstream.opening.decision import Decision, ProcessRequest
from wsstream.opening.handshake import has_item
from wsstream.opening.http import Request, Response
from wsstream.routing.pattern import Pattern, split_path
from wsstream.streams.websocket import WebSocketStream
from wsstream.upgrade.route_options import (
    CheckedOptions,
    RouteOptions,
    check_route_options,
    handler_subprotocols,
)

__all__ = ["Router"]

_Handler: TypeAlias = Callable[[WebSocketStream], Awaitable[object]]
_Respond: TypeAlias = Callable[[Request], Response | Awaitable[Response]]
_AnyHandler = TypeVar("_AnyHandler", bound=_Handler)


class _Route(NamedTuple):
    """One of the two functions: for connections, or for requests that open none."""

    options: CheckedOptions
    handler: _Handler | None = None
    respond: _Respond | None = None


class _Match(NamedTuple):
    route: _Route
    parameters: dict[str, str | int]


class Router:
    """Several handlers in one server, chosen by the path: pass it to :func:`serve` as the handler.

    ::

        router = Router()

        @router.route("/chat/{room}", subprotocols=["chat.v1"])
        async def chat(ws):
            room = ws.path_params["room"]

        router.mount("/files", serve_files("shared"))
        router.get("/healthz", lambda request: Response(200, body="ok"))

    A path has text and parameters: ``{name}`` is one segment, ``{name:int}`` one of up to 18 digits, and
    ``{name:path}`` the rest of the path. Segments are compared after percent-decoding, so an encoded slash
    separates nothing. Of several paths that match, the one added first counts. A request to no path of these
    gets 404; one whose method the path does not take, 405; one that should open a WebSocket and does not,
    426; one whose path is not UTF-8, 400.

    A `process_request` of :func:`serve` comes first, and sees the parameters as ``request.path_params``. With
    :func:`accept`, pass the router's `process_request` and then await ``router(ws)``.
    """

    def __init__(self) -> None:
        self._entries: list[tuple[Pattern, _Route | tuple[Router, CheckedOptions]]] = []

    @never_raises
    def __repr__(self) -> str:
        return f"<Router: {', '.join(pattern.text for pattern, _ in self._entries)[:200]}>"

    def route(self, path: str, **options: Unpack[RouteOptions]) -> Callable[[_AnyHandler], _AnyHandler]:
        """``@router.route(path)``: the async function below it handles the connections to `path`.

        Args:
            options: `subprotocols`, `origins`, `max_message_size`, in place of those of :func:`serve`.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        pattern, checked = Pattern(path), check_route_options(options)

        def add(handler: _AnyHandler) -> _AnyHandler:
            if not callable(handler):
                raise TypeError(f"handler must be an async function, got {type(handler).__name__}")
            spoken = handler_subprotocols(handler)
            own = CheckedOptions(subprotocols=spoken) if spoken else CheckedOptions()
            self._entries.append((pattern, _Route(own | checked, handler=handler)))
            return handler

        return add

    def get(self, path: str, respond: _Respond) -> None:
        """Answer the GET and HEAD requests to `path` that open no WebSocket with what ``respond(request)``
        returns: a :class:`Response`. It may be async.

        Raises:
            TypeError, ValueError: an argument is wrong.
        """
        if not callable(respond):
            raise TypeError(f"respond must be a function, got {type(respond).__name__}")
        self._entries.append((Pattern(path), _Route(CheckedOptions(), respond=respond)))

    def mount(self, prefix: str, handler: _Handler | Router, **options: Unpack[RouteOptions]) -> None:
        """Give all paths below `prefix` to a handler or to another router.

        A handler finds the rest as ``ws.path_params["path"]``. A router matches the rest; the options of its
        routes come before those given here.

        Raises:
            TypeError, ValueError: an argument is wrong, or the routers would contain each other.
        """
        prefix = prefix.rstrip("/")
        if not isinstance(handler, Router):
            self.route(prefix + "/{path:path}", **options)(handler)
            return
        if handler._contains(self):
            raise ValueError("a router must not be mounted in itself")
        self._entries.append((Pattern(prefix + "/{path:path}"), (handler, check_route_options(options))))

    # -- for `serve` and `accept` --------------------------------------------------------------

    async def process_request(self, request: Request, first: ProcessRequest | None = None) -> Decision:
        """Find the route of a request, and answer it unless it is to open a connection.

        `first` is another `process_request`, called when the route is known; its decision comes before. What
        it and the function given to `get` raise, this raises. If it is cancelled, nothing was decided.
        """
        answer = self._choose(request)
        decision = None if first is None else first(request)
        if inspect.isawaitable(decision):
            decision = await decision
        if answer is None or isinstance(decision, Response):
            return decision
        response = answer(request)
        return await response if inspect.isawaitable(response) else response

    async def __call__(self, ws: WebSocketStream) -> None:
        """Await the handler of the route of ``ws.request``.

        Raises:
            RuntimeError: the request did not come by the router's `process_request`.
        """
        if not isinstance(ws.request.route, _Route) or ws.request.route.handler is None:
            raise RuntimeError("this connection was opened without the router's process_request")
        await ws.request.route.handler(ws)

    # -- finding a route -------------------------------------------------------------------------

    def _contains(self, other: Router) -> bool:
        inner = (entry[0] for _, entry in self._entries if not isinstance(entry, _Route))
        return self is other or any(router._contains(other) for router in inner)

    def _choose(self, request: Request) -> _Respond | None:
        """Set the route and the parameters of `request`; returns what answers it, ``None`` for a handler."""
        try:
            matches = list(self._matches(split_path(request.path), CheckedOptions()))
        except ValueError:
            return _answer(400, "The path of the request is not UTF-8.")
        opens = has_item(request.headers.get_all("upgrade"), "websocket")
        # Where there are both, a request that opens a WebSocket is for a handler, and any other is not.
        matches.sort(key=lambda match: (match.route.handler is not None) is not opens)
        if not matches:
            return _answer(404, "There is nothing at this path.")
        request.route, request.path_params = matches[0]
        respond = matches[0].route.respond
        if respond is not None and request.method not in ("GET", "HEAD"):
            return _answer(405, "This path takes GET and HEAD requests only.", ("Allow", "GET, HEAD"))
        return respond

    def _matches(self, segments: tuple[str, ...], outer: CheckedOptions) -> Iterator[_Match]:
        for pattern, entry in self._entries:
            if (parameters := pattern.match(segments)) is None:
                continue
            if isinstance(entry, _Route):
                yield _Match(entry._replace(options=outer | entry.options), parameters)
                continue
            router, options = entry
            del parameters["path"]
            for route, inner in router._matches(pattern.rest(segments) or ("",), outer | options):
                yield _Match(route, parameters | inner)


def _answer(status: int, reason: str, *fields: tuple[str, str]) -> Callable[[Request], Response]:
    return lambda request: Response(status, fields, f"{reason}\n")
