"""For the whole suite: event loops, TLS contexts and peers; what they are made of is in ``kit``."""

from __future__ import annotations

import ssl
from collections.abc import Iterator

import pytest
import trustme
from kit import backends, effort, ids, installation, limit, peers, tls
from kit.hostile import HOSTILE, Hostile

effort.load_profile()


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--loop",
        choices=["asyncio.run", "uvloop.run", "anyio.run"],
        default="asyncio.run",
        help="how asyncio is started",
    )


def pytest_configure(config: pytest.Config) -> None:
    for marker in effort.MARKERS + limit.MARKERS + backends.MARKERS:
        config.addinivalue_line("markers", marker)
    installation.check()
    limit.open_stderr(config)
    backends.use_loop(config.getoption("--loop"))


def pytest_report_header() -> list[str]:
    absent = [] if backends.HAS_TRIO else ["trio is not installed: nothing runs on trio"]
    return [installation.header(), *absent]


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    backends.parametrize(metafunc)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[object]:
    with limit.time_limit(item):
        return (yield)


def pytest_itemcollected(item: pytest.Item) -> None:
    effort.mark_slow(item)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip what cannot run: on Trio where it is not installed, and some tests on uvloop."""
    ids.check(items)
    uvloop = config.getoption("--loop") == "uvloop.run"
    for item in items:
        trio = backends.runs_on_trio(item)
        if trio and not backends.HAS_TRIO:
            item.add_marker(pytest.mark.skip(reason="trio is not installed"))
        elif uvloop and not trio and item.get_closest_marker("not_on_uvloop"):
            item.add_marker(pytest.mark.skip(reason="not on uvloop"))


def pytest_collection_finish() -> None:
    effort.spare_collections()


@pytest.fixture
def anyio_backend(request: pytest.FixtureRequest) -> backends.Backend:
    """The event loop and the clock of one run of a test: see `kit.backends`."""
    return backends.backend(request.param, request.node)


@pytest.fixture(scope="session")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="session")
def client_tls(authority: trustme.CA) -> ssl.SSLContext:
    return tls.client_context(authority)


@pytest.fixture(scope="session")
def server_tls(authority: trustme.CA) -> ssl.SSLContext:
    return tls.server_context(authority)


@pytest.fixture(scope="session")
def listen() -> peers.Listen:
    """`kit.peers.listen`."""
    return peers.listen


@pytest.fixture(params=HOSTILE)
def hostile(request: pytest.FixtureRequest) -> Hostile:
    """One exception after the other."""
    return HOSTILE[request.param]
