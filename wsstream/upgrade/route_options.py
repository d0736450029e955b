"""The options of a server that a route may have of its own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypedDict

from wsstream.arguments import check_int
from wsstream.opening.handshake import validate_subprotocols
from wsstream.opening.origins import Origins, OriginsArgument

__all__ = ["CheckedOptions", "RouteOptions", "check_route_options", "handler_subprotocols"]


class RouteOptions(TypedDict, total=False):
    """Those that are left out are the server's."""

    subprotocols: Iterable[str]
    origins: OriginsArgument
    max_message_size: int | None


class CheckedOptions(TypedDict, total=False):
    """The same in the form that each request needs."""

    subprotocols: tuple[str, ...]
    origins: Origins | None
    max_message_size: int | None


def check_route_options(options: RouteOptions) -> CheckedOptions:
    """Check `options`, once for any number of requests.

    Raises:
        TypeError, ValueError: an option is wrong or unknown.
    """
    checked = CheckedOptions()
    for name in options:
        if name not in RouteOptions.__annotations__:
            known = ", ".join(RouteOptions.__annotations__)
            raise TypeError(f"a route has no option {name!r}; it takes {known}")
    if "subprotocols" in options:
        checked["subprotocols"] = validate_subprotocols(options["subprotocols"])
    if "origins" in options:
        checked["origins"] = Origins.of(options["origins"])
    if "max_message_size" in options:
        check_int("max_message_size", options["max_message_size"], 0, optional=True)
        checked["max_message_size"] = options["max_message_size"]
    return checked


def handler_subprotocols(handler: object) -> tuple[str, ...]:
    """The subprotocols that a handler speaks by itself: its attribute `subprotocols`, if it has one.

    Raises:
        TypeError, ValueError: the attribute holds no subprotocols.
    """
    return validate_subprotocols(getattr(handler, "subprotocols", ()))
