"""The windows of all transfers of a server have a sum."""

from __future__ import annotations

from contextlib import ExitStack
from typing import Any

import pytest

from wsstream.files.channel import WINDOW_LIMIT
from wsstream.files.errors import TransferError
from wsstream.files.protocol.window import MIN_WINDOW, Grant
from wsstream.files.windows import Windows


class FakeSession:
    def __init__(self) -> None:
        self.window_limit = 0
        self.grant: Grant | None = None

    def has(self, window: int) -> None:
        self.grant = Grant(0, window, 1 << 18, window, 0.0)


def share(stack: ExitStack, windows: Windows) -> FakeSession:
    session: Any = FakeSession()
    stack.enter_context(windows.share(session))
    return session  # type: ignore[no-any-return]


def test_one_session_gets_the_largest_window() -> None:
    with ExitStack() as stack:
        assert share(stack, Windows(256 << 20)).window_limit == WINDOW_LIMIT


def test_the_shares_of_several_shrink_and_grow_again() -> None:
    windows = Windows(8 << 20)
    with ExitStack() as stack:
        first = share(stack, windows)
        assert first.window_limit == 8 << 20
        with ExitStack() as inner:
            second = share(inner, windows)
            assert (first.window_limit, second.window_limit) == (4 << 20, 4 << 20)
        assert first.window_limit == 8 << 20


def test_what_was_granted_counts_until_it_is_taken_back() -> None:
    windows = Windows(8 << 20)
    with ExitStack() as stack:
        first = share(stack, windows)
        first.has(8 << 20)
        with pytest.raises(TransferError, match="busy"):
            share(stack, windows)
        assert first.window_limit == 4 << 20, "so that there is room for the next attempt"
        first.has(4 << 20)
        assert share(stack, windows).window_limit == 4 << 20


def test_there_is_a_least_window_and_so_a_number_of_transfers() -> None:
    windows = Windows(4 * MIN_WINDOW)
    with ExitStack() as stack:
        sessions = [share(stack, windows) for _ in range(4)]
        with pytest.raises(TransferError, match="busy"):
            share(stack, windows)
        assert {each.window_limit for each in sessions} == {MIN_WINDOW}
