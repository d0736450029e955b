"""Who may use the web page: a token, or a cookie that the page got for it.

A page cannot send a header field with its WebSocket, but its browser sends cookies. So the page sends the
token once, as ``Authorization: Bearer`` of a request of its own, and gets a cookie that its scripts cannot
read. The cookie has no token in it: it has the time until which it holds, and an HMAC of that time with the
token as the key. So nobody without the token can forge one; it holds in all processes that have the same
token, also after a restart; and it ends when the token is changed.
"""

from __future__ import annotations

import hashlib
import hmac
import time

from wsstream.arguments import check_type, is_word
from wsstream.opening.http import Request, Response

__all__ = ["HOLDS", "Login", "has_bearer"]

HOLDS = 7 * 24 * 3600
"""Seconds for which a cookie holds: as long as a server keeps parts of files."""

_METHODS = "GET, POST, DELETE"
_SAFETY = {"Cache-Control": "no-store", "X-Content-Type-Options": "nosniff"}
_LONGEST = 12  # digits of a time


def has_bearer(request: Request, token: str) -> bool:
    """Whether the request has ``Authorization: Bearer`` with `token`. It takes the same time if not."""
    scheme, _, given = (request.headers.get("authorization") or "").partition(" ")
    return _same(given.strip(), token) and scheme.lower() == "bearer"


class Login:
    """Lets in clients that have a token, and gives cookies for it.

    Args:
        token: what they have to know.

    Raises:
        TypeError, ValueError: `token` is not a word of printable ASCII.
    """

    def __init__(self, token: str) -> None:
        check_type("token", token, str, "a str or None")
        if not is_word(token):
            raise ValueError("token must be one word of printable ASCII")  # it is not shown: it is a secret
        self._token = token
        # Browsers keep one set of cookies for all ports of a host, so each token has a name of its own.
        self._cookie = f"wsstream-{self._mac('name')[:16]}"

    def knows(self, request: Request) -> bool:
        """Whether the client has the token, or a cookie that holds."""
        return has_bearer(request, self._token) or self._holds(request.cookies.get(self._cookie, ""))

    def check(self, request: Request) -> Response | None:
        """The answer to a client that is not let in; ``None``: it is."""
        return None if self.knows(request) else _refusal()

    def answer(self, request: Request) -> Response:
        """Answer a request of the page: GET asks whether it is known, POST logs in, DELETE logs out.

        Pages of other sites cannot log in or out: they would have to ask first, by OPTIONS, and get 405.
        """
        if request.method == "GET":
            return self.check(request) or Response(204, _SAFETY)
        if request.method == "DELETE":
            return Response(204, {**_SAFETY, "Set-Cookie": self._set(request, "", 0)})
        if request.method != "POST":
            return Response(405, {**_SAFETY, "Allow": _METHODS}, "Use GET, POST or DELETE.\n")
        if not has_bearer(request, self._token):
            return _refusal()
        until = str(int(time.time()) + HOLDS)
        value = f"{until}.{self._mac(until)}"
        return Response(204, {**_SAFETY, "Set-Cookie": self._set(request, value, HOLDS)})

    def _set(self, request: Request, value: str, seconds: int) -> str:
        # Without a path, the cookie is for the page's folder as the browser sees it, perhaps behind a proxy.
        secure = "; Secure" if request.scheme == "https" else ""
        return f"{self._cookie}={value}; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}"

    def _holds(self, value: str) -> bool:
        until, _, given = value.partition(".")
        is_time = until.isascii() and until.isdigit() and len(until) <= _LONGEST
        return _same(given, self._mac(until)) and is_time and int(until) > time.time()

    def _mac(self, text: str) -> str:
        return hmac.new(self._token.encode(), f"wsstream page\0{text}".encode(), hashlib.sha256).hexdigest()


def _same(given: str, expected: str) -> bool:
    """Compare in a time that does not depend on where they differ."""
    return hmac.compare_digest(given.encode(errors="replace"), expected.encode())


def _refusal() -> Response:
    return Response(401, {**_SAFETY, "WWW-Authenticate": "Bearer"}, "a token is needed\n")
