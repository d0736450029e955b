"""What each side of a connection is waiting for: its state, its buffers, its socket, its tasks."""

from __future__ import annotations

import array
import socket
import sys
from collections.abc import Iterator
from dataclasses import asdict
from traceback import format_exception
from types import FrameType
from typing import Any

import anyio
from anyio.abc import SocketAttribute
from connection import Connection, Side

from wsstream import WebSocketStream

__all__ = ["all_tasks", "describe", "report_failed_callbacks"]

_SIMPLE = (bool, int, float, str, type(None))


def describe(connection: Connection) -> str:
    """Several lines, to be read by whoever looks for what does not end."""
    plan = connection.plan
    lines = [f"{plan}"]
    tasks = all_tasks()
    for side in (connection.client, connection.server):
        lines += [f"  {side.name}:", *(f"    {line}" for line in _describe_side(side))]
        names = [f"{connection.name} {side.name}"]
        if side.ws is not None:
            names += [f"wsstream reader {side.ws.id}", f"wsstream writer {side.ws.id}"]
        lines += [f"    {line}" for line in _stacks(tasks, tuple(names))]
    known = (f"{connection.name} client", f"{connection.name} server")
    others = [(name, where) for name, where in tasks if not name.startswith(known)]
    lines += [f"  {line}" for line in _stacks(others, (connection.name,))]
    return "\n".join(lines)


def _describe_side(side: Side) -> Iterator[str]:
    begun, arrived = dict(side.sends.begun), side.receives.arrived
    yield f"done: {side.done.is_set()}; by lane, has begun {begun} messages, last one received {arrived}"
    if side.ws is None:
        yield "not open"
        return
    yield f"{side.ws.state}, {side.ws.close_info}, {asdict(side.ws.statistics())}"
    driver: Any = side.ws._driver
    yield "ending: " + _fields(driver.ending)
    yield "receiver: " + _fields(driver.receiver)
    yield "sender: " + _fields(driver.sender)
    yield "queue: " + _fields(driver.connection.queue)
    outbox = driver.sender.outbox
    yield f"outbox: closing={outbox.closing} turn: {_fields(outbox.turn)}"
    if outbox.message is not None:
        yield "message: " + _fields(outbox.message)
    yield "inbox: " + _fields(driver.receiver.inbox)
    yield "transport: " + _fields(driver.transport)
    yield _queues(side.ws)


def _fields(thing: object) -> str:
    """What is simple among an object's attributes; of buffers the length."""
    shown = []
    for name in _names(thing):
        value = getattr(thing, name, None)
        if isinstance(value, _SIMPLE):
            shown.append(f"{name}={value}")
        elif isinstance(value, bytes | bytearray | memoryview | list | set | dict):
            shown.append(f"len({name})={len(value)}")
    return " ".join(shown)


def _names(thing: object) -> list[str]:
    slots = [name for cls in type(thing).__mro__ for name in getattr(cls, "__slots__", ())]
    return sorted({*slots, *getattr(thing, "__dict__", {})} - {"__weakref__"})


def _queues(ws: WebSocketStream) -> str:
    """Bytes in the kernel (Linux)."""
    raw = ws.extra(SocketAttribute.raw_socket, None)
    if raw is None or raw.fileno() < 0 or sys.platform != "linux":
        return "no socket"
    import fcntl
    import termios

    held = []
    for request in (termios.FIONREAD, termios.TIOCOUTQ):
        count = array.array("i", [0])
        try:
            fcntl.ioctl(raw.fileno(), request, count)
        except OSError as error:
            return f"socket: {error}"
        held.append(count[0])
    kind = "Unix" if raw.family == socket.AF_UNIX else "TCP"
    return f"{kind} socket {raw.fileno()}: {held[0]} bytes to be read, {held[1]} not yet with the peer"


def _stacks(tasks: list[tuple[str, list[str]]], names: tuple[str, ...]) -> Iterator[str]:
    for name, where in tasks:
        if name.startswith(names):
            yield f"task {name!r} waits in " + " < ".join(reversed(where))


def all_tasks() -> list[tuple[str, list[str]]]:
    """The name of each task of the event loop, and where it waits, from the outside in."""
    if anyio.get_cancelled_exc_class().__module__.startswith("trio"):
        return [(task.name, [_place(f) for f, _ in task.iter_await_frames()]) for task in _trio_tasks()]
    import asyncio  # noqa: TID251 - anyio does not show where tasks wait

    return [(task.get_name(), list(_awaits(task.get_coro()))) for task in asyncio.all_tasks()]


def report_failed_callbacks(problems: list[str]) -> None:
    """Note what a callback of asyncio's event loop raises, or a task that nobody awaits. Trio has none."""
    if anyio.get_cancelled_exc_class().__module__.startswith("trio"):
        return
    import asyncio  # noqa: TID251 - as above

    def report(_: object, context: dict[str, Any]) -> None:
        error = context.get("exception")
        if not isinstance(error, asyncio.InvalidStateError):  # anyio's own Unix streams, when cancelled
            trace = "".join(format_exception(error)) if error is not None else ""
            problems.append(f"{context['message']}: {trace}")

    asyncio.get_running_loop().set_exception_handler(report)


def _trio_tasks() -> Iterator[Any]:
    import trio  # noqa: TID251 - as above

    waiting: list[Any] = [trio.lowlevel.current_root_task()]
    while waiting:
        task = waiting.pop()
        yield task
        waiting += [child for nursery in task.child_nurseries for child in nursery.child_tasks]


def _awaits(awaited: Any) -> Iterator[str]:
    """The chain of what a coroutine awaits."""
    while awaited is not None:
        frame = next(
            (f for name in ("cr", "gi", "ag") if (f := getattr(awaited, f"{name}_frame", None))), None
        )
        if frame is not None:
            yield _place(frame)
        names = ("cr_await", "gi_yieldfrom", "ag_await")
        awaited = next((getattr(awaited, name) for name in names if hasattr(awaited, name)), None)


def _place(frame: FrameType) -> str:
    return f"{'/'.join(frame.f_code.co_filename.split('/')[-2:])}:{frame.f_lineno} {frame.f_code.co_name}"
