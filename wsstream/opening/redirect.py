"""Which redirects a client follows, and what goes with it to another origin."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsstream.errors import HandshakeRejected, InvalidURL
from wsstream.opening.headers import Headers
from wsstream.opening.url import URL

__all__ = ["MAX_LOCATION", "Destination", "not_followed", "redirected"]

MAX_LOCATION = 8000
"""Characters of a URL that a redirect may lead to: what RFC 9110 section 4.1 asks everybody to support."""
_STATUSES = frozenset({301, 302, 303, 307, 308})
# Credentials, and the name of a virtual host: meant for the origin that they were given for.
_FOR_ONE_ORIGIN = frozenset({"authorization", "cookie", "host", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an opening handshake goes, with what was given for it.

    Attributes:
        url: where to.
        headers: more header fields for the request.
        server_hostname: the name to verify by TLS, ``None`` for the URL's host.
    """

    url: URL
    headers: Headers = field(repr=False)
    server_hostname: str | None = None


def redirected(here: Destination, rejection: HandshakeRejected) -> Destination:
    """Where `rejection`, the answer to a request to `here`, leads.

    Another origin (scheme, host or port) gets neither credentials nor a ``Host`` of the caller's;
    another host not the `server_hostname`.

    Raises:
        HandshakeRejected: `rejection` itself, if it is no redirect, does not have exactly one
            ``Location``, or has one that is not followed: no WebSocket URL, or from ``wss`` to
            ``ws``. Its ``__cause__`` says why.
    """
    locations = [value for name, value in rejection.headers if name == "location"]
    if rejection.status not in _STATUSES or len(locations) != 1:
        raise rejection
    try:
        url = _followed(here.url, locations[0])
    except InvalidURL as exc:
        raise rejection from exc
    return Destination(
        url,
        here.headers if url.origin == here.url.origin else _without_credentials(here.headers),
        here.server_hostname if url.host == here.url.host else None,
    )


def not_followed(rejection: HandshakeRejected, most: int) -> None:
    """Have `rejection` say, if it is a redirect, that `most` are followed and this is one more."""
    if rejection.status in _STATUSES:
        rejection.hint = f"this redirect was not followed, as max_redirects is {most}"


def _followed(url: URL, location: str) -> URL:
    if len(location) > MAX_LOCATION:
        raise InvalidURL(f"the redirect leads to a URL of more than {MAX_LOCATION} characters")
    target = url.resolve(location)
    if url.secure and not target.secure:
        raise InvalidURL("the redirect leads from wss to ws")
    return target


def _without_credentials(headers: Headers) -> Headers:
    return Headers((name, value) for name, value in headers.items() if name.lower() not in _FOR_ONE_ORIGIN)
