"""Which redirects a client follows, and what it sends to another origin."""

from __future__ import annotations

from dataclasses import dataclass, field

from wsstream.errors import HandshakeRejected, InvalidURL
from wsstream.opening.headers import Headers
from wsstream.opening.url import URL

__all__ = ["MAX_LOCATION", "Destination", "not_followed", "redirected"]

MAX_LOCATION = 8000
"""Characters of a URL to which a redirect may lead, as many as RFC 9110 section 4.1 asks all to support."""
_STATUSES = frozenset({301, 302, 303, 307, 308})
# Credentials, and the name of a virtual host: the caller gave them for one origin.
_FOR_ONE_ORIGIN = frozenset({"authorization", "cookie", "host", "proxy-authorization"})


@dataclass(frozen=True, slots=True)
class Destination:
    """Where an opening handshake goes, and what the caller gave for it.

    Attributes:
        url: the server.
        headers: more header fields for the request.
        server_hostname: the name to verify by TLS; ``None`` for the URL's host.
    """

    url: URL
    headers: Headers = field(repr=False)
    server_hostname: str | None = None


def redirected(here: Destination, rejection: HandshakeRejected) -> Destination:
    """The destination to which `rejection`, the response to a request to `here`, redirects.

    Another origin (scheme, host or port) gets neither the caller's credentials nor its ``Host``; another
    host does not get the `server_hostname`.

    Raises:
        HandshakeRejected: `rejection` itself, if it is not a redirect with exactly one ``Location``, or if
            that is not followed: it is not a WebSocket URL, or leads from ``wss`` to ``ws``. Its
            ``__cause__`` says why.
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
    """Add a hint to `rejection`, if it is a redirect: only `most` redirects are followed."""
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
