"""The memory that the C library keeps for this process."""

from __future__ import annotations

from functools import cache

__all__ = ["keep_freed"]


@cache
def keep_freed(size: int) -> None:
    """Have glibc keep up to `size` bytes that were freed, for what is allocated next.

    glibc maps large blocks one by one, and returns the free end of its heap to the system. Then received
    bytes always come to lie in new pages, which the system has to zero first: writing to the page cache takes
    half as long. But once a mapped block was freed, glibc takes blocks up to this size from the heap, and
    keeps twice as much. So this frees one that has never been touched. Other C libraries are not affected.
    """
    bytes(size // 2)  # not a bytearray, which is filled
