"""The libraries that are measured, each by its own API and as its documentation recommends for speed."""

from __future__ import annotations

import os
from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec
from typing import Any, NamedTuple

from .library import Library


class Subject(NamedTuple):
    """One library on one event loop: a column of the table."""

    library: str
    module: str
    loop: str
    package: str  # what has to be installed, as its distribution is called
    pure: bool = False


SUBJECTS = {
    "raw": Subject("raw socket", "raw", "none", ""),
    "raw-trio": Subject("raw socket", "raw_trio", "trio", ""),
    "wsstream-asyncio": Subject("wsstream", "wsstream_", "asyncio", "wsstream"),
    "wsstream-uvloop": Subject("wsstream", "wsstream_", "uvloop", "wsstream"),
    "wsstream-trio": Subject("wsstream", "wsstream_", "trio", "wsstream"),
    "wsstream-pure": Subject("wsstream", "wsstream_", "asyncio", "wsstream", pure=True),
    "picows-asyncio": Subject("picows", "picows_", "asyncio", "picows"),
    "picows-uvloop": Subject("picows", "picows_", "uvloop", "picows"),
    "websockets-asyncio": Subject("websockets", "websockets_", "asyncio", "websockets"),
    "websockets-uvloop": Subject("websockets", "websockets_", "uvloop", "websockets"),
    "websockets-trio": Subject("websockets", "websockets_trio", "trio", "websockets"),
    "wsstream-sync": Subject("wsstream", "wsstream_sync", "threads", "wsstream"),
    "websockets-sync": Subject("websockets", "websockets_sync", "threads", "websockets"),
    "aiohttp-asyncio": Subject("aiohttp", "aiohttp_", "asyncio", "aiohttp"),
    "aiohttp-uvloop": Subject("aiohttp", "aiohttp_", "uvloop", "aiohttp"),
    "trio-websocket": Subject("trio-websocket", "trio_websocket_", "trio", "trio-websocket"),
}


def missing(names: Iterable[str]) -> list[str]:
    """The packages of these that are not installed."""
    wanted = {SUBJECTS[name].package for name in names} | {SUBJECTS[name].loop for name in names}
    loops = {"asyncio", "threads", "none", ""}
    return sorted(each for each in wanted - loops if find_spec(each.replace("-", "_")) is None)


def load(name: str) -> tuple[Library, str, dict[str, Any]]:
    """The library, and the backend and options of the loop that it runs on. Called in its own process."""
    subject = SUBJECTS[name]
    if subject.pure:
        os.environ["WSSTREAM_PURE"] = "1"
    module = import_module(f"subjects.{subject.module}")
    library: Library = module.LIBRARY
    if subject.loop == "uvloop":
        return library, "asyncio", {"use_uvloop": True}
    return library, "trio" if subject.loop == "trio" else "asyncio", {}
