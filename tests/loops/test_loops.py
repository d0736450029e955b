"""That the tests run in an event loop as a program of a user does: nobody has said which library it is."""

from __future__ import annotations

import anyio
import anyio.lowlevel
import pytest
from kit import backends

from wsstream.transports.eventloop import event_loop

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "anyio_backend", ["asyncio", backends.UVLOOP, "asyncio-virtual", "trio"], indirect=True
    ),
]


async def library_in_a_callback() -> str | None:
    """Which library a callback of the event loop is told that it runs in."""
    loop, told, done = event_loop().callbacks(), [], anyio.Event()

    def ask() -> None:
        try:
            told.append(anyio.get_cancelled_exc_class().__module__)
        except RuntimeError:  # anyio 4.11 raises another kind of it
            told.append(None)
        done.set()

    if loop is None:
        return anyio.get_cancelled_exc_class().__module__
    loop.call_soon(ask)
    await done.wait()
    library: str | None = told[0]
    return library


async def test_a_callback_is_told_nothing_where_only_sniffio_could_tell(
    anyio_backend_name: str, pytestconfig: pytest.Config
) -> None:
    library = await library_in_a_callback()
    if anyio_backend_name == "trio":
        assert library is not None
        assert library.startswith("trio")
    elif pytestconfig.getoption("--loop") == "anyio.run":
        assert library == "asyncio.exceptions"
    else:
        pytest.importorskip("sniffio", reason="without it anyio sees every loop of asyncio")
        assert library is None


@pytest.fixture
async def library_of_a_fixture() -> str | None:
    return await library_in_a_callback()


async def test_fixtures_run_in_the_same_way(library_of_a_fixture: str | None) -> None:
    assert library_of_a_fixture == await library_in_a_callback()


async def test_the_loop_is_the_one_that_was_asked_for(
    anyio_backend: object, anyio_backend_name: str, pytestconfig: pytest.Config
) -> None:
    loop = event_loop().callbacks()
    wanted = pytestconfig.getoption("--loop") == "uvloop.run" or "use_uvloop" in str(anyio_backend)
    assert anyio_backend_name == "trio" or wanted == ("uvloop" in str(type(loop).__mro__))
