"""The engine with callbacks: for sockets on event loops that call back (asyncio, uvloop, Trio with epoll).

It takes the same steps as that with tasks, without a switch of tasks for each, and an idle connection is
smaller. A callback raises nothing: nobody would see it.
"""

from __future__ import annotations

from math import inf
from typing import Any

from wsstream.codec.speedups import ReadStep
from wsstream.driver.engine import Engine, Next, Output, Steps
from wsstream.transports.alarms import Alarm
from wsstream.transports.base import Transport
from wsstream.transports.eventloop import EventLoop

__all__ = ["CallbackEngine"]


_DECODE, _SLEEP = Next.DECODE, Next.SLEEP  # a name of the module is found faster than a member


class CallbackEngine(Engine):
    """Calls the steps from callbacks of the event loop.

    Args:
        steps: what to call.
        transport: what calls back, see `Transport.watch_readable`.
        operations: those of the event loop, which may have no callbacks: then `watch` returns false.
        read_step: what the event loop calls first when there is something to read.
    """

    __slots__ = (
        "_alarm",
        "_alarms",
        "_loop",
        "_operations",
        "_read_step",
        "_step_due",
        "_steps",
        "_stopping",
        "_transport",
    )

    def __init__(
        self, steps: Steps, transport: Transport, operations: EventLoop, read_step: ReadStep
    ) -> None:
        self._steps = steps
        self._transport = transport
        self._operations = operations
        self._loop: Any = operations.callbacks()
        self._alarms = operations.alarms()
        self._stopping = False
        self._read_step = read_step
        read_step.otherwise = self._on_readable
        self._step_due = False  # a step is scheduled, to decode
        self._alarm: Alarm | None = None

    def watch(self) -> bool:
        """Have the event loop call back when there is something to read; false: it cannot."""
        watched = self._transport.watch_readable(self._read_step.on_readable)
        self._read_step.watched = watched
        return watched

    def start(self) -> None:
        """Set the alarm. The transport is watched already."""
        self._operations.attach(self)
        self.wake_at(self._steps.deadline)

    # -- reading -------------------------------------------------------------------------------

    def _on_readable(self) -> bool:
        if self._step_due:
            return True  # one step for each turn
        if self._read_step.skip:
            self._read_step.skip = False
            return True
        after = self._steps.read()
        if after is _DECODE:
            self.decode_soon()
        elif after is _SLEEP:
            self._transport.unwatch_readable()
        return False

    def resume_reading(self) -> None:
        """Watch the transport again."""
        if not self._stopping:
            self._transport.watch_readable(self._read_step.on_readable)

    def step_was_taken(self, after: Next) -> None:
        """Skip the next callback, which the bytes that were read may still cause."""
        self._read_step.skip = True

    def step_is_over(self) -> None:
        """No callback need be skipped any more."""
        self._read_step.skip = False

    def decode_soon(self) -> None:
        """Take a step in the next turn of the event loop."""
        if not self._step_due and not self._stopping:
            self._step_due = True
            self._loop.call_soon(self._on_step)

    def _on_step(self) -> None:
        self._step_due = False
        if self._stopping:
            return
        if self._read_step.skip:
            self._read_step.skip = False
            self.decode_soon()
        else:
            self._on_readable()

    # -- writing -------------------------------------------------------------------------------

    def write_soon(self) -> None:
        """Watch for the transport to take more."""
        self._transport.watch_writable(self._on_writable)

    def _on_writable(self) -> None:
        steps = self._steps  # a step may be the last one
        steps.write()
        if steps.output is Output.NOTHING:
            self._transport.unwatch_writable()

    # -- time ----------------------------------------------------------------------------------

    def wake_at(self, deadline: float) -> None:
        """Set the alarm to `deadline`, if it would go off later."""
        alarm = self._alarm
        if deadline >= (inf if alarm is None else alarm[0]) or self._stopping:
            return
        if alarm is not None:
            self._alarms.cancel(alarm)
        self._alarm = self._alarms.set(deadline, self)

    def on_time(self) -> None:
        """Look at the clocks."""
        self._alarm = None
        steps = self._steps
        try:
            steps.tick()
            self.wake_at(steps.deadline)
        except Exception as error:
            steps.reading_failed(error)

    # -- the end -------------------------------------------------------------------------------

    def stop(self) -> None:
        """Call nothing any more. No task is left, and a closed socket holds nothing."""
        self._stopping = True
        if self._alarm is not None:
            self._alarms.cancel(self._alarm)
            self._alarm = None
        self._operations.detach(self, self._finish)

    def _finish(self) -> None:
        steps = self._steps
        del self._steps  # they refer to this object
        steps.finish()

    def loop_ended(self) -> None:
        """End the connection, for which nothing is called any more."""
        self._steps.stopped()
