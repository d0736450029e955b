"""The options that every connection has, on a client and on a server alike."""

from __future__ import annotations

from dataclasses import dataclass

import anyio
from anyio.lowlevel import cancel_shielded_checkpoint

from wsstream.arguments import check_int, check_number, check_type
from wsstream.driver.flow import FlowControl
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.deflate import Deflate
from wsstream.transports.base import Transport

__all__ = ["ConnectionOptions", "release"]

_RELEASE_TIMEOUT = 2.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """Sizes in bytes, times in seconds; ``None`` means no limit. Checked when made.

    Attributes:
        max_message_size: the largest message that is received whole.
        compression: a :class:`Deflate`, or ``None`` for none.
        flow: the water marks.
        open_timeout: for everything up to the end of the opening handshake.
        close_timeout: for the closing handshake.
        ping_interval: send a Ping when nothing was received for this long; ``None``: never.
        ping_timeout: give up this long after a Ping was due without a sign of life; ``None``: never.
        receive_timeout: for a message to arrive; ``None``: no limit.
        receive_rate: the least rate for that, or ``None``.
    """

    max_message_size: int | None
    compression: Deflate | None
    flow: FlowControl
    open_timeout: float | None
    close_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    receive_timeout: float | None = None
    receive_rate: ReceiveRate | None = None

    def __post_init__(self) -> None:
        check_type("compression", self.compression, Deflate | None, "a Deflate or None")
        check_type("flow", self.flow, FlowControl, "a FlowControl")
        check_type("receive_rate", self.receive_rate, ReceiveRate | None, "a ReceiveRate or None")
        check_int("max_message_size", self.max_message_size, 0, optional=True)
        for name in ("open_timeout", "close_timeout", "ping_interval", "ping_timeout", "receive_timeout"):
            check_number(name, getattr(self, name), optional=True)
        if self.ping_interval == 0:
            raise ValueError("ping_interval must be greater than 0; use None to send no Pings")


async def release(transport: Transport) -> None:
    """Drop a transport that no driver owns, whatever is cancelled meanwhile; at most 2 seconds."""
    transport.close()
    with anyio.move_on_after(_RELEASE_TIMEOUT, shield=True):
        await transport.aclose()
    await cancel_shielded_checkpoint()
