"""What each connection of a soak will be like: drawn from the seed and the connection's number alone."""

from __future__ import annotations

from dataclasses import dataclass
from random import Random

from wsstream import FlowControl

__all__ = ["Faults", "Network", "Plan", "make_plan"]

Network = str
SOCKETS = ("tcp", "tls", "unix")
FAULTY = ("relay", "relay-tls", "wrapped", "memory")  # between the ends, around one of them, around both
VIOLENT = ("abort", "close", "cancel", "break")
SMALL = FlowControl(receive_high_water=3000, send_high_water=2000, frame_size=700)
TINY = FlowControl(
    receive_high_water=200, receive_low_water=0, send_high_water=1, send_low_water=0, frame_size=60
)
FLOWS = {"default": FlowControl(), "small": SMALL, "tiny": TINY}
PIECES = {"default": 2000, "small": 700, "tiny": 60}  # bytes that are on their way at a time, at least
SECONDS = 4.0  # for what a slow line is given to carry


@dataclass(frozen=True)
class Faults:
    """Of one direction. `None` and 0: none of this kind.

    Attributes:
        rate: bytes per second.
        delay: seconds before each piece.
        split: bytes that arrive at a time, at most.
        stall: seconds for which nothing passes, now and then.
        cut: bytes after which the connection ends.
        reset: it ends with an RST.
    """

    rate: float | None = None
    delay: float = 0.0
    split: int | None = None
    stall: float = 0.0
    cut: int | None = None
    reset: bool = False


@dataclass(frozen=True)
class Plan:
    """Of one connection.

    Attributes:
        number: stands in the path of the client's request too.
        network: how the ends are connected.
        compression: whether it is offered and accepted.
        flows: the water marks of the client and of the server, by name.
        ending: ``"leave"`` or ``"return"`` when all has arrived, by the client or by the server; or
            early: one of `VIOLENT`.
        ends_at: the side that ends it, 0 is the client.
        ends_after: seconds, for an early end.
        faults: to the server, to the client.
        sizes: bytes that each direction may carry, about.
        lanes: tasks that send at the same time, in each direction.
    """

    number: int
    network: Network
    compression: bool
    flows: tuple[str, str]
    ending: str
    ends_at: int
    ends_after: float
    faults: tuple[Faults, Faults]
    sizes: tuple[int, int]
    lanes: tuple[int, int]

    @property
    def violent(self) -> bool:
        """Whether it may end before everything has arrived."""
        return self.ending in VIOLENT or any(each.cut is not None for each in self.faults)

    @property
    def path(self) -> str:
        return f"/{self.number}"


def make_plan(seed: int, number: int, share_of_faults: float) -> Plan:
    """Draw the plan of connection `number`."""
    draw = Random(f"{seed}/{number}")
    faulty = draw.random() < share_of_faults
    network = draw.choice(FAULTY if faulty else SOCKETS)
    faults = (_draw_faults(draw), _draw_faults(draw)) if faulty else (Faults(), Faults())
    flows = (draw.choice(list(FLOWS)), draw.choice(list(FLOWS)))
    violent = draw.random() < 0.35
    return Plan(
        number=number,
        network=network,
        compression=draw.random() < 0.4,
        flows=flows,
        ending=draw.choice(VIOLENT if violent else ("leave", "return")),
        ends_at=draw.randrange(2),
        ends_after=draw.random() * 2,
        faults=faults,
        sizes=(_draw_size(draw, faults[0], flows), _draw_size(draw, faults[1], flows)),
        lanes=(draw.choice((1, 1, 2, 3)), draw.choice((1, 1, 2, 3))),
    )


def _draw_faults(draw: Random) -> Faults:
    """Up to two kinds of fault."""
    kinds = set(draw.choices(("rate", "delay", "split", "stall", "cut"), (4, 2, 3, 3, 1), k=2))
    if kinds & {"delay", "rate"}:  # a pause before every single byte: minutes to open a connection
        kinds.discard("split")
    return Faults(
        rate=10 ** draw.uniform(4.5, 6.5) if "rate" in kinds else None,
        delay=draw.random() * 0.02 if "delay" in kinds else 0.0,
        split=draw.choice((1, 7, 125, 1000)) if "split" in kinds else None,
        stall=draw.random() * 1.5 if "stall" in kinds else 0.0,
        cut=int(10 ** draw.uniform(2.5, 6.3)) if "cut" in kinds else None,
        reset=draw.random() < 0.5,
    )


def _draw_size(draw: Random, faults: Faults, flows: tuple[str, str]) -> int:
    """What a line carries in some seconds, so that a connection that takes much longer stands still."""
    size = 10 ** draw.uniform(3, 6.6)
    if faults.rate is not None:
        size = min(size, faults.rate * SECONDS)
    if faults.delay:
        size = min(size, min(PIECES[flow] for flow in flows) / faults.delay * SECONDS)
    if faults.split is not None:
        size = min(size, 2000 * faults.split)
    if "tiny" in flows:
        size = min(size, 40_000)
    return int(size)
