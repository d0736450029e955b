from wsstream.codec.batch import FrameBatch as FrameBatch
from wsstream.codec.events import Event
from wsstream.codec.unread import MessageIterator as MessageIterator
from wsstream.codec.unread import UnreadQueue as UnreadQueue

def make_frame(first: int, payload: bytes | memoryview, key: bytes | None, /) -> bytes: ...
def scan(
    data: bytes | memoryview, pos: int, masked: bool, rsv1: bool, room: int, most: int, events: list[Event], /
) -> tuple[int, int]: ...
def apply_mask(payload: bytes | memoryview, key: bytes, offset: int = 0, /) -> bytes: ...
