"""Items as frames: of any size, compressed or not, and cut where they may be."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from wsstream import Deflate
from wsstream.feeds.engine import Entry
from wsstream.feeds.protocol import read_item
from wsstream.feeds.shared import PIECE, SharedItem, batches, variant_of
from wsstream.protocol.deflate import Agreed
from wsstream.testing import parse_frames

AGREED = Agreed(Deflate(), 12, True, 12, True)
SMALL = st.text(max_size=200) | st.binary(max_size=200)
DATA = SMALL | st.just("ä" * 70_000) | st.just(bytes(200_000))


@given(st.lists(DATA, min_size=1, max_size=8), st.booleans())
def test_a_client_gets_the_items_from_the_batches_of_a_page(items: list[str | bytes], heads: bool) -> None:
    variant = variant_of(heads=heads, deflate=None)
    entries = [Entry(number, data) for number, data in enumerate(items, 1)]
    made = list(batches(entries))
    assert [item.offset for batch in made for item in batch.items] == [*range(1, len(items) + 1)]
    got: list[object] = []
    for batch in made:
        pieces = batch.pieces(variant)
        assert all(len(piece) <= PIECE + 14 for piece in pieces)
        assert len(pieces) == 1 or len(batch.items) == 1
        text = not heads and isinstance(items[batch.first - 1], str)
        payload: list[bytes] = []
        for frame in parse_frames(b"".join(pieces), masked=False):
            payload.append(frame.payload)
            if frame.opcode == 1 or (frame.opcode == 0 and text):
                frame.payload.decode()  # each fragment is valid by itself
            if frame.fin:
                whole = b"".join(payload)
                got.append(read_item(whole) if heads else whole)
                payload = []
    expected = [
        (number, data) if heads else data.encode() if isinstance(data, str) else data
        for number, data in enumerate(items, 1)
    ]
    assert got == expected


def test_connections_that_send_alike_share_a_variant() -> None:
    other = Agreed(Deflate(), 12, False, 15, False)
    assert variant_of(heads=True, deflate=AGREED) is variant_of(heads=True, deflate=other)
    assert variant_of(heads=True, deflate=AGREED) is not variant_of(heads=False, deflate=AGREED)
    narrow = Agreed(Deflate(), 9, False, 15, False)
    assert variant_of(heads=True, deflate=AGREED) is not variant_of(heads=True, deflate=narrow)


@pytest.mark.parametrize("heads", [False, True])
def test_the_first_frame_of_a_compressed_item_alone_says_so(heads: bool) -> None:
    noise = random.Random(1).randbytes(200_000)
    frames = SharedItem(Entry(1, noise)).frames(variant_of(heads=heads, deflate=AGREED))
    parsed = parse_frames(b"".join(frames), masked=False)
    assert [frame.rsv1 for frame in parsed] == [True] + [False] * (len(parsed) - 1)
    assert len(parsed) == 4
    small = SharedItem(Entry(1, b"small")).frames(variant_of(heads=heads, deflate=AGREED))
    assert parse_frames(b"".join(small), masked=False)[0].rsv1 is False
