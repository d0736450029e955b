"""Streams of bytes that come in: TCP and Unix sockets, each in a task of its own."""

from __future__ import annotations

import argparse
import errno
import socket
from collections.abc import Awaitable, Callable

import anyio
from anyio.abc import ByteStream, TaskGroup

from wsstream.cli.bridge.ends import open_socket
from wsstream.cli.report import Reporter
from wsstream.cli.serving import Bind, listen_on
from wsstream.cli.signals import Stopping
from wsstream.transports.listen import accept_now, close_listener

__all__ = ["serve_streams"]

_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM}
_PAUSE = 0.1  # seconds between attempts to accept while the system is out of descriptors

Handle = Callable[[ByteStream], Awaitable[None]]


async def serve_streams(
    options: argparse.Namespace, bind: Bind, handle: Handle, stopping: Stopping, stop: Callable[[], object]
) -> None:
    """Call `handle` with each stream that comes in, until a signal, or once with ``--once``.

    No more than ``--max-connections`` run at a time; others wait in the kernel's queue. After a signal `stop`
    is called, and what does not end within ``--shutdown-timeout`` is cancelled.

    Raises:
        CommandFailed: the system refuses to listen.
    """
    listeners = await listen_on([bind])
    for listener in listeners:
        name = listener.getsockname()
        where = name if isinstance(name, str) else f"{name[0]}:{name[1]}"
        Reporter(options).note("listening", f"listening on {where}", address=where)
    slots = anyio.Semaphore(options.max_connections)
    async with anyio.create_task_group() as connections:
        async with anyio.create_task_group() as accepting:

            def end() -> None:
                accepting.cancel_scope.cancel()
                stop()

            with stopping.by(end):
                for listener in listeners:
                    accepting.start_soon(
                        _accept, options.once, listener, handle, slots, connections, accepting
                    )
                await anyio.sleep_forever()
        for listener in listeners:
            close_listener(listener)
        if stopping.number is not None and options.shutdown_timeout is not None:
            connections.cancel_scope.deadline = anyio.current_time() + options.shutdown_timeout


async def _accept(
    once: bool,
    listener: socket.socket,
    handle: Handle,
    slots: anyio.Semaphore,
    connections: TaskGroup,
    accepting: TaskGroup,
) -> None:
    async def run(sock: socket.socket) -> None:
        try:
            stream = await open_socket(sock)
        except (OSError, ValueError):  # the client has reset it meanwhile
            sock.close()
        else:
            await handle(stream)
        finally:
            slots.release()

    while True:
        await slots.acquire()
        connections.start_soon(run, await _next(listener))
        if once:
            accepting.cancel_scope.cancel()


async def _next(listener: socket.socket) -> socket.socket:
    while True:
        try:
            if (accepted := accept_now(listener)) is not None:
                return accepted[0]
            await anyio.wait_readable(listener)
        except OSError as error:
            if error.errno not in _OUT_OF_RESOURCES:
                raise
            await anyio.sleep(_PAUSE)
