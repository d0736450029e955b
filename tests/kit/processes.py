"""Programs in processes of their own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import wsstream

__all__ = ["environment", "run_program", "run_pytest", "server"]

_TIMEOUT = 50  # seconds; what hangs would do so for ever


def environment(*folders: Path, measured: bool = True) -> dict[str, str]:
    """The environment of a process that finds modules first in `folders`, then in the copy that is tested.

    Unless it is `measured`, its coverage is not: that imports modules, and writes a file at the end.
    """
    tested = Path(wsstream.__file__).parents[1]
    paths = [*map(str, folders), str(tested), os.environ.get("PYTHONPATH", "")]
    kept = {k: v for k, v in os.environ.items() if measured or not k.startswith("COVERAGE")}
    return {**kept, "PYTHONPATH": os.pathsep.join(filter(None, paths))}


def run_program(*arguments: str) -> str:
    """Run Python with `arguments`; return what it prints. It must succeed and print nothing on stderr."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *arguments],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr
    return done.stdout


def run_pytest(folder: Path, *arguments: str) -> str:
    """Run pytest on a user's tests in `folder`, with no configuration of ours; return what it prints."""
    options = ["-q", "-p", "no:cacheprovider", "-p", "no:asyncio", "-c", "/dev/null"]
    return run_program("-m", "pytest", *options, "--rootdir", str(folder), *arguments)


@contextmanager
def server(*arguments: str) -> Iterator[str]:
    """Run Python with `arguments` as a server; yield the URL at the end of the first line that it prints."""
    command = [sys.executable, "-W", "error", *arguments]
    with subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline().split()[-1]
        finally:
            process.kill()
