"""The engine with tasks: for TLS, byte streams that are not sockets, and event loops that call nothing back.

The reader task lives as long as the connection and also keeps the time. The writer task is started when the
transport first takes less than it is offered, or when messages first come in a batch: those after the first
are left to it, to leave together.
"""

from __future__ import annotations

import anyio
from anyio.lowlevel import checkpoint

from wsstream.driver.engine import Engine, Next, Output, Steps
from wsstream.driver.signals import Signal, spawn
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import Task

__all__ = ["TaskEngine"]


class TaskEngine(Engine):
    """Calls the steps from a reader task and a writer task.

    Args:
        steps: what to call.
        transport: what to wait for.
        name: of the connection, in the names of the tasks.
    """

    __slots__ = (
        "_name",
        "_next",
        "_output",
        "_releasing",
        "_resumed",
        "_skip_turn",
        "_steps",
        "_stopping",
        "_tasks",
        "_timer",
        "_transport",
        "_waits",
        "_writer_runs",
    )

    def __init__(self, steps: Steps, transport: Transport, name: str) -> None:
        self._steps = steps
        self._transport = transport
        self._name = name
        self._tasks = 0
        self._stopping = False
        self._releasing = False
        # the reader
        self._next = Next.READ
        self._skip_turn = False
        self._waits = False  # for the transport
        self._timer: anyio.CancelScope | None = None
        self._resumed = Signal()
        # the writer
        self._writer_runs = False
        self._output = Signal()

    def start(self) -> None:
        """Start the reader task."""
        self._spawn(self._read_loop, "reader")

    # -- the reader task -----------------------------------------------------------------------

    async def _read_loop(self) -> None:
        try:
            while not self._stopping:
                with anyio.CancelScope(deadline=self._steps.deadline) as self._timer:
                    await self._read()
                self._steps.tick()
        except Exception as error:
            self._steps.reading_failed(error)

    async def _read(self) -> None:
        while not self._stopping:
            if self._next is Next.SLEEP:
                await self._resumed.wait()
            elif self._next is Next.WAIT:
                self._next = Next.READ
                await self._wait_readable()
            elif self._skip_turn:
                self._skip_turn = False
                await checkpoint()
            else:
                self._next = after = self._steps.read()
                if after is Next.READ or after is Next.DECODE:
                    await checkpoint()

    async def _wait_readable(self) -> None:
        self._waits = True
        try:
            await self._transport.wait_readable()
        finally:
            self._waits = False

    def resume_reading(self) -> None:
        """Wake the reader task, if it sleeps."""
        if self._next is Next.SLEEP:
            self._next = Next.READ
        self._resumed.notify()

    def step_was_taken(self, after: Next) -> None:
        """Have the reader task go on from there, one turn later."""
        self._next = after
        self._skip_turn = True

    def step_is_over(self) -> None:
        """The reader task need not skip a turn any more."""
        self._skip_turn = False

    def decode_soon(self) -> None:
        """Wake the reader task, if it waits for the transport."""
        self._next = Next.DECODE
        if self._waits and self._timer is not None:
            self._timer.cancel()

    def wake_at(self, deadline: float) -> None:
        """Have the reader task wake at `deadline`. If it would have woken later."""
        if self._timer is not None and deadline < self._timer.deadline:
            self._timer.deadline = deadline

    # -- the writer task -----------------------------------------------------------------------

    def write_soon(self) -> None:
        """Wake the writer task; start it at the first call."""
        if self._writer_runs:
            self._output.notify()
        else:
            self._writer_runs = True
            self._spawn(self._write_loop, "writer")

    async def _write_loop(self) -> None:
        try:
            while not self._stopping:
                output = self._steps.output
                if output is Output.NOTHING:
                    await self._output.wait()
                    continue
                if output is Output.BLOCKED:
                    await self._transport.wait_writable()
                else:
                    await checkpoint()  # let the batch grow for one more turn
                self._steps.write()
        except Exception as error:
            self._steps.writing_failed(error)

    # -- the end -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Let the tasks end."""
        self._stopping = True
        self._resumed.notify()
        self._output.notify()

    def _spawn(self, loop: Task, role: str) -> None:
        self._tasks += 1
        spawn(loop, f"wsstream {role} {self._name}", self._end_task)

    def _end_task(self) -> None:
        """A task has ended, in whatever way. The last one releases the transport."""
        self._steps.stopped()
        self._tasks -= 1
        if self._tasks:
            return
        if self._transport.released or self._releasing:
            steps = self._steps
            del self._steps  # they refer to this object
            steps.finish()
        else:
            self._releasing = True
            self._spawn(self._steps.release, "release")
