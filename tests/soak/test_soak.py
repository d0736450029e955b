"""The soak finds nothing wrong with the library, and finds and names what is wrong with a broken one."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

_FOLDER = Path(__file__).parent

# What is done to the library first; the arguments; what the soak has to say.
BROKEN = {
    "reading is never resumed": (
        "from wsstream.driver.intake import Intake; Intake.resume_if_low = lambda self: None",
        ["--only", "13"],
        # of either side: which one stops first depends on the order in which Trio runs its tasks
        ["nothing moves any more", "'reading_paused': True", " receiver' waits in"],
    ),
    "who waits for room is never told": (
        "from wsstream.driver.pump import Pump\n"
        "after = Pump._after_step\n"
        "def forget(self):\n"
        "    signal, self.progress = self.progress, type(self.progress)()\n"
        "    unsent, self.progress = after(self), signal\n"
        "    return unsent\n"
        "Pump._after_step = forget",
        ["--only", "13"],
        ["nothing moves any more", "sender.py", "lane 0' waits in"],
    ),
    "messages are lost": (
        "from wsstream.driver.inbox import Inbox\n"
        "from wsstream.driver.intake import Intake\n"
        "choose = Intake.choose_way\n"
        "def decode(self):\n"  # else the way of a message depends on how it arrives
        "    choose(self)\n"
        "    self.read_step.open = False\n"
        "Intake.choose_way = decode\n"
        "put = Inbox.put\n"
        "def lose(self, events, cost, **options):\n"
        "    kept = [each for each in events if not isinstance(each, bytes) or len(each) < 100]\n"
        "    cost -= sum(len(each) + 64 for each in events if each not in kept)\n"
        "    put(self, kept, cost, **options)\n"
        "Inbox.put = lose",
        ["--only", "13"],
        ["lost"],
    ),
}


def soak(*arguments: str, first: str = "") -> subprocess.CompletedProcess[str]:
    program = f"import sys; sys.path.insert(0, {str(_FOLDER)!r})\n{first}\nimport run; sys.exit(run.main())"
    return subprocess.run(
        [sys.executable, "-c", program, *arguments],
        text=True,
        capture_output=True,
        timeout=50,
        check=False,
    )


@pytest.mark.heavy_after_first
@pytest.mark.parametrize("loop", ["asyncio.run", "uvloop.run", "trio"])
def test_nothing_is_wrong_with_one_connection(loop: str) -> None:
    if loop == "uvloop.run":
        pytest.importorskip("uvloop")
    done = soak("--loop", loop, "--seed", "1", "--only", "13")
    assert (done.returncode, done.stderr) == (0, "")
    assert "0 problems" in done.stdout


@pytest.mark.heavy
@pytest.mark.parametrize("loop", ["asyncio.run", "trio"])
@pytest.mark.parametrize("fault", BROKEN)
def test_what_is_wrong_is_found_and_named(fault: str, loop: str) -> None:
    first, arguments, wanted = BROKEN[fault]
    done = soak("--loop", loop, "--seed", "1", "--patience", "0.6", *arguments, first=first)
    assert done.returncode == 1, done.stdout
    for words in wanted:
        assert words in done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("loop", ["asyncio.run", "trio"])
def test_nothing_is_left_of_many_connections(loop: str) -> None:
    done = soak("--loop", loop, "--seed", "1", "--seconds", "3")
    assert done.returncode == 0, done.stdout + done.stderr
