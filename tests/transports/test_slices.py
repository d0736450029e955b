from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from wsstream.transports.slices import slices


@given(st.lists(st.binary(max_size=40)), st.integers(1, 50))
def test_pieces_are_the_bytes_in_order_and_all_but_the_last_are_full(buffers, size):
    cut = list(slices(buffers, size))
    assert b"".join(cut) == b"".join(buffers)
    assert all(len(piece) == size for piece in cut[:-1])
    assert all(0 < len(piece) <= size for piece in cut)


def test_a_piece_within_one_buffer_is_a_view_of_it():
    buffer = bytearray(b"abcdef")
    first, second = slices([memoryview(buffer)], 4)
    buffer[:] = b"ABCDEF"
    assert (bytes(first), bytes(second)) == (b"ABCD", b"EF")
