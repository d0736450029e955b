"""One target under libFuzzer: ``python instrumented.py TARGET LIBFUZZER-OPTIONS…``. Started by run.py."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import atheris

HERE = Path(__file__).parent


def main(target: str, options: list[str]) -> None:
    """Fuzz; the process ends inside libFuzzer."""
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    with atheris.instrument_imports(include=["wsstream"]):
        targets = importlib.import_module("targets")
    # libFuzzer starts itself again when it merges, by a shell.
    atheris.Setup([f"{sys.executable} {__file__} {target}", *options], targets.TARGETS[target])
    atheris.Fuzz()


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
