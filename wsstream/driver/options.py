"""The options that every connection has, on a client and on a server alike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypedDict

from wsstream.arguments import check_int, check_number, check_type
from wsstream.driver.flow import FlowControl
from wsstream.protocol.arrival import ReceiveRate
from wsstream.protocol.deflate import Deflate

__all__ = ["ConnectionKeywords", "ConnectionOptions", "ServerKeywords"]


@dataclass(frozen=True, slots=True, kw_only=True)
class ConnectionOptions:
    """The options of a connection, checked when they are made: this is their only list, and their defaults.

    Sizes are bytes, times are seconds; ``None`` means no limit. `connect` and `serve` spell the options once
    more, as their documentation; :class:`ConnectionKeywords` and :class:`ServerKeywords` are the same for
    type checkers.

    Attributes:
        max_message_size: the largest message that ``receive`` and ``read`` assemble.
        compression: a :class:`Deflate`, or ``None`` for no compression.
        flow: the water marks.
        open_timeout: until the end of the opening handshake.
        close_timeout: for the closing handshake.
        ping_interval: send a Ping after this time without a byte from the peer; ``None``: never.
        ping_timeout: give the peer up after this time without a sign of life, counted from when a Ping was
            due; ``None``: never.
        receive_timeout: for a message to arrive.
        receive_rate: the least and the greatest rates at which messages may arrive; ``None``: any.

    Raises:
        TypeError, ValueError: an option is wrong; the message names it.
    """

    max_message_size: int | None = 2**20
    compression: Deflate | None = None
    flow: FlowControl = FlowControl()  # noqa: RUF009 - immutable
    open_timeout: float | None = 10
    close_timeout: float | None = 10
    ping_interval: float | None = 20
    ping_timeout: float | None = 20
    receive_timeout: float | None = None
    receive_rate: ReceiveRate | None = None

    @classmethod
    def of_keywords(cls, function: str, keywords: ServerKeywords) -> ConnectionOptions:
        """The options that were given to `function` as keyword arguments; it is named for an unknown one."""
        for name in keywords:
            if name not in cls.__slots__:
                raise TypeError(f"{function}() got an unexpected keyword argument {name!r}")
        return cls(**keywords)

    def __post_init__(self) -> None:
        check_type("compression", self.compression, Deflate | None, "a Deflate or None")
        check_type("flow", self.flow, FlowControl, "a FlowControl")
        check_type("receive_rate", self.receive_rate, ReceiveRate | None, "a ReceiveRate or None")
        check_int("max_message_size", self.max_message_size, 0, optional=True)
        for name in ("open_timeout", "close_timeout", "ping_interval", "ping_timeout", "receive_timeout"):
            check_number(name, getattr(self, name), optional=True)
        if self.ping_interval == 0:
            raise ValueError("ping_interval must be greater than 0; use None to send no Pings")


class ConnectionKeywords(TypedDict, total=False):
    """The options that `connect` passes on, for type checkers."""

    max_message_size: int | None
    compression: Deflate | None
    flow: FlowControl
    open_timeout: float | None
    close_timeout: float | None
    ping_interval: float | None
    ping_timeout: float | None
    receive_timeout: float | None


class ServerKeywords(ConnectionKeywords, total=False):
    """The options that `serve` and `accept` pass on, for type checkers."""

    receive_rate: ReceiveRate | None
