"""Read the ``index.json`` of the Autobahn suite's reports: how many cases ended how, and which did not pass.

Usage: python summary.py INDEX_JSON...

A case has two results, for what was sent and for how the connection was closed. It passes when both are OK or
INFORMATIONAL. The exit status is 1 if a case does not pass or there is none, else 0.
"""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

PASSED = {"OK", "INFORMATIONAL"}
RESULTS = ("behavior", "behaviorClose")


def main(paths: list[str]) -> int:
    if not paths or any(path.startswith("-") for path in paths):
        print(__doc__.strip(), file=sys.stderr)
        return 2
    agents = [agent for path in paths for agent in json.loads(Path(path).read_text()).items()]
    failures = 0
    for agent, cases in agents:
        print(f"{agent}: {len(cases)} cases")
        for result in RESULTS:
            counts = Counter(case[result] for case in cases.values())
            print(f"  {result}: " + ", ".join(f"{count} {name}" for name, count in counts.most_common()))
        for line in not_passed(cases):
            print(f"  {line}")
            failures += 1
    return 1 if failures or not any(cases for _, cases in agents) else 0


def not_passed(cases: dict[str, Any]) -> Iterator[str]:
    """A line for each case that did not pass, in the order of their numbers."""
    for number in sorted(cases, key=lambda number: [int(part) for part in number.split(".")]):
        results = [cases[number][result] for result in RESULTS]
        if not PASSED.issuperset(results):
            yield f"{number}: {results[0]}, close {results[1]}, see {cases[number]['reportfile']}"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
