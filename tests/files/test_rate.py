"""The limit on the rate: the bucket by itself, and files at both ends by a virtual clock."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import anyio
import pytest

from wsstream.files import SUBPROTOCOL, Progress, receive_file, send_file
from wsstream.files.rate import RateLimit
from wsstream.testing import connected_pair

KIB = 1024


def test_bytes_pass_at_the_rate_and_not_in_a_burst() -> None:
    limit = RateLimit(100 * KIB)
    assert limit.step == 5 * KIB
    now = times = 0.0
    for _ in range(200):
        delay = limit.take(limit.step, now)
        assert delay <= 0.05 + 1e-9, "each step waits for the one before, and for no more"
        now += delay
        times += 1
    assert now == pytest.approx((200 - 2) * 0.05, abs=0.051), "two steps may go at once"


def test_a_pause_gives_no_more_than_a_tenth_of_a_second() -> None:
    limit = RateLimit(100 * KIB)
    limit.take(limit.step, 0.0)
    passed = 0
    while limit.take(limit.step, 1000.0) == 0.0:
        passed += limit.step
    assert passed <= 15 * KIB


def test_the_steps_are_neither_tiny_nor_larger_than_a_segment() -> None:
    assert RateLimit(KIB).step == KIB
    assert RateLimit(1 << 30).step == 256 * KIB


@pytest.mark.parametrize(
    ("rate", "error", "message"),
    [
        (0, ValueError, "limit_rate must be at least 1024, got 0"),
        (1.5, TypeError, "limit_rate must be an int, got float"),
        (True, TypeError, "limit_rate must be an int, got bool"),
    ],
)
def test_another_rate_is_refused(rate: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        RateLimit(rate)


@pytest.mark.heavy
@pytest.mark.anyio
@pytest.mark.virtual_time(idle=0.02)
@pytest.mark.parametrize("who", ["sender", "receiver"])
async def test_a_file_takes_its_time_and_nothing_is_lost(tmp_path: Path, who: str) -> None:
    rate = 400 * KIB
    content = bytes(range(256)) * 4 * KIB  # 1 MiB: 2.6 s
    (tmp_path / "file.bin").write_bytes(content)
    (tmp_path / "received").mkdir()
    seen: list[tuple[float, int]] = []
    began = 0.0

    def watch(progress: Progress) -> None:
        if progress.phase == "receiving":
            seen.append((anyio.current_time() - began, progress.acknowledged))

    options = {"subprotocols": [SUBPROTOCOL]}
    async with (
        connected_pair(client_options=options, server_options=options) as (client, server),
        anyio.create_task_group() as tasks,
    ):
        began = anyio.current_time()

        async def receive() -> None:
            limit = rate if who == "receiver" else None
            await receive_file(server, tmp_path / "received", limit_rate=limit, progress=watch)

        tasks.start_soon(receive)
        limit = rate if who == "sender" else None
        await send_file(client, tmp_path / "file.bin", limit_rate=limit)
        took = anyio.current_time() - began
    assert (tmp_path / "received" / "file.bin").read_bytes() == content
    assert took >= len(content) / rate - 0.2, "not faster than the limit, but for the burst at the start"
    for time, acknowledged in seen:
        assert acknowledged <= rate * (time + 0.2), "not in bursts"
