"""Objects that are made for one ``async with``."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from typing import Any

import anyio
import pytest

from wsstream import accept, serve
from wsstream.testing import memory_pair

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time]

MAKE = [
    pytest.param(lambda: serve(anyio.sleep, "127.0.0.1"), "serve(...) as server", id="serve"),
    pytest.param(lambda: accept(memory_pair()[0], open_timeout=0), "accept(stream) as ws", id="accept"),
]
Make = Callable[[], AbstractAsyncContextManager[Any]]


@pytest.mark.parametrize(("make", "use"), MAKE)
async def test_another_use_is_told_the_right_one(make: Make, use: str) -> None:
    block: Any = make()
    with pytest.raises(TypeError) as caught, block:
        pytest.fail("entered")
    assert str(caught.value) == f'use "async with {use}"'
    with pytest.raises(TypeError) as caught:
        await block
    assert str(caught.value) == f'use "async with {use}"'


@pytest.mark.parametrize(("make", "use"), MAKE)
async def test_a_block_is_entered_once(make: Make, use: str) -> None:
    block = make()
    try:
        async with block:
            pass
    except TimeoutError:
        pass
    name = use.partition("(")[0]
    with pytest.raises(RuntimeError, match=rf"this {name}\(\) was entered before; call {name}\(\) again"):
        async with block:
            pytest.fail("entered")
