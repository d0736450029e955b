"""Answers HTTP requests for the web page, its style and its scripts, which are data of this package."""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from typing import NamedTuple

from wsstream.files.web.login import Login
from wsstream.opening.headers import Headers
from wsstream.opening.http import Request, Response

__all__ = ["WebPage", "web_page"]

_SESSION = "session"  # below the page's path: where the page logs in

_TYPES = {
    "html": "text/html; charset=utf-8",
    "css": "text/css; charset=utf-8",
    "js": "text/javascript; charset=utf-8",
    "svg": "image/svg+xml",
    "json": "application/json",
}

# Nothing but what this server sends, and no script or style in the page itself.
_POLICY = "; ".join(
    [
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "img-src 'self'",
        "connect-src 'self'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
        "require-trusted-types-for 'script'",
    ]
)
_SAFETY = (
    ("Content-Security-Policy", _POLICY),
    ("X-Content-Type-Options", "nosniff"),
    ("Referrer-Policy", "no-referrer"),
    ("Cross-Origin-Opener-Policy", "same-origin"),
    ("Cross-Origin-Resource-Policy", "same-origin"),
)


class _File(NamedTuple):
    """A file that is served: the header fields of its response, and its bytes."""

    headers: Headers
    etag: str
    body: bytes


def web_page(path: str = "/", *, control: str | None = None, token: str | None = None) -> WebPage:
    """Make a ``process_request`` for :func:`~wsstream.serve` that answers requests for the web page.

    The page opens its WebSockets at `path` with the subprotocol ``wsstream.file.v1``, for a handler made by
    :func:`wsstream.files.serve_files`::

        async with serve(serve_files("shared"), port=8080, process_request=web_page()) as server:
            await server.wait_closed()

    With a `token`, the page asks people for it, and opens its WebSockets with a cookie that it gets in
    return. Requests for a WebSocket at `path`, or below it, that have neither this cookie nor the token as
    ``Authorization: Bearer`` get 401. The page itself is shown to everybody, and has nothing to hide. From
    which other pages WebSockets may be opened is not decided here: :func:`~wsstream.serve` has `origins`.

    Args:
        path: of the page; with a slash at its end, as the page's files are below it.
        control: a subprotocol by which the page's slider for the server's disk tells the server, as
            ``{"disk": bytes per second or null}``. ``None``: the page has no such slider.
        token: one word of printable ASCII that people have to know; best a long, random one. ``None``: no
            token is asked for.

    Raises:
        TypeError: `token` is no text.
        ValueError: `path` does not begin and end with a slash, or `token` is not one word of printable ASCII.
    """
    if not (path.startswith("/") and path.endswith("/")):
        raise ValueError(f"path must begin and end with a slash, got {path!r}")
    return WebPage(path, control, None if token is None else Login(token))


class WebPage:
    """Answers for the web page. Made by :func:`web_page`.

    Called with a request, it returns the response: 200 with the file, 304 if the client has it, 404, or 405
    for other methods than GET and HEAD. It returns ``None`` for requests that open a WebSocket, unless the
    token is missing, and for those outside the page's path, so that another function may answer them::

        page = web_page("/files/")

        def process_request(request):
            return page(request) or answer_others(request)
    """

    def __init__(self, path: str, control: str | None, login: Login | None) -> None:
        self._path = path
        self._login = login
        self._files = {
            entry.name: _make(entry.name, entry.read_bytes())
            for entry in files("wsstream.files.web").joinpath("static").iterdir()
            if entry.name.rpartition(".")[2] in _TYPES
        }
        self._files[""] = self._files.pop("index.html")
        settings = {"control": control, "login": login is not None}
        self._files["settings.json"] = _make("settings.json", json.dumps(settings).encode())

    def knows(self, request: Request) -> bool:
        """Whether the client has the token, or the page's cookie for it. True if the page has no token."""
        return self._login is None or self._login.knows(request)

    def __call__(self, request: Request) -> Response | None:
        """Answer a request, or return ``None``."""
        if not (request.path + "/").startswith(self._path):
            return None
        if "upgrade" in request.headers:
            return None if self._login is None else self._login.check(request)
        if self._login is not None and request.path == self._path + _SESSION:
            return self._login.answer(request)
        if request.method not in ("GET", "HEAD"):
            return Response(405, {"Allow": "GET, HEAD"}, "The page is read with GET.\n")
        if not request.path.startswith(self._path):
            return Response(308, {"Location": self._path})
        file = self._files.get(request.path[len(self._path) :])
        if file is None:
            return Response(404, dict(_SAFETY), "There is no such page.\n")
        if _has(request, file.etag):
            return Response(304, file.headers)
        return Response(200, file.headers, file.body)


def _make(name: str, body: bytes) -> _File:
    etag = f'"{hashlib.sha256(body).hexdigest()[:32]}"'
    fields = [
        ("Content-Type", _TYPES[name.rpartition(".")[2]]),
        ("ETag", etag),
        ("Cache-Control", "no-cache"),  # kept, and asked for with the etag each time
        *_SAFETY,
    ]
    return _File(Headers(fields), etag, body)


def _has(request: Request, etag: str) -> bool:
    """Whether the client has this version (RFC 9110 section 13.1.2)."""
    given = ",".join(request.headers.get_all("if-none-match"))
    return any(tag.strip() in ("*", etag, f"W/{etag}") for tag in given.split(","))
