from wsstream.codec.burst import Burst as Burst
from wsstream.codec.events import Event
from wsstream.codec.pieces import Messages as Messages
from wsstream.codec.pieces import Pieces as Pieces

def make_frame(first: int, payload: bytes | memoryview, key: bytes | None, /) -> bytes: ...
def scan(
    data: bytes | memoryview, pos: int, masked: bool, room: int, most: int, events: list[Event], /
) -> tuple[int, int]: ...
def apply_mask(payload: bytes | memoryview, key: bytes, offset: int = 0, /) -> bytes: ...
