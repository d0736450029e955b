"""Run the fuzzer: ``python tests/fuzz/run.py TARGET --seconds 20``. Needs the extra `fuzz`.

Starts from the kept corpus and leaves it as it is. Exits with 1 on a finding: an exception, an input
that takes more than ten seconds, or more than 1 GiB of memory. What led to it is kept as ``crash-…``,
``timeout-…`` or ``oom-…`` in the folder of `--findings`.

``run.py TARGET --reproduce FILE`` runs such an input once, without the fuzzer.
``run.py TARGET --keep FOLDER`` keeps there what reached something new, and ``run.py TARGET --merge FOLDER``
makes the kept corpus the smallest that covers all that it and `FOLDER` cover.
"""

from __future__ import annotations

import argparse
import importlib
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

HERE = Path(__file__).parent
CORPUS = HERE / "corpus"
DICTIONARIES = {"handshake": "text.dict", "extensions": "text.dict", "files": "files.dict"}
GRACE = 60  # seconds that the fuzzer may take above its time, to load and to end


def main() -> int:
    """Do what the command line says; the exit code."""
    options = parsed_arguments()
    if options.reproduce is not None:
        return reproduce(options.target, options.reproduce)
    if options.merge is not None:
        return merge(options.target, options.merge)
    options.findings.mkdir(parents=True, exist_ok=True)
    before = set(options.findings.iterdir())
    with tempfile.TemporaryDirectory() as scratch:
        found = options.keep or Path(scratch)
        found.mkdir(parents=True, exist_ok=True)
        code = fuzz(options, found)
    findings = sorted(set(options.findings.iterdir()) - before)
    for path in findings:
        print(f"{path}: run.py {options.target} --reproduce {path}")
    return int(code != 0 or bool(findings))


def fuzz(options: argparse.Namespace, found: Path) -> int:
    limits = [f"-max_total_time={options.seconds}", f"-max_len={options.max_len}", "-rss_limit_mb=1024"]
    limits += ["-timeout=10", f"-artifact_prefix={options.findings}/"]
    if options.target in DICTIONARIES:
        limits.append(f"-dict={HERE / DICTIONARIES[options.target]}")
    folders = [str(found), str(CORPUS / options.target)]
    return run(options.target, [*limits, "-print_final_stats=1", *folders], options.seconds + GRACE)


def merge(target: str, found: Path) -> int:
    with tempfile.TemporaryDirectory() as scratch:
        code = run(
            target,
            ["-set_cover_merge=1", "-use_counters=0", scratch, str(CORPUS / target), str(found)],
            10 * GRACE,
        )
        if code == 0:
            for path in filter(has_hash_as_name, (CORPUS / target).iterdir()):
                path.unlink()
            shutil.copytree(scratch, CORPUS / target, dirs_exist_ok=True)
    return code


def has_hash_as_name(path: Path) -> bool:
    """Files with other names were put there by hand; they stay."""
    return len(path.name) == 40 and set(path.name) <= set("0123456789abcdef")


def run(target: str, options: list[str], seconds: float) -> int:
    """Run libFuzzer in a process of its own, as it ends the process it is in; show the end of its report."""
    command = [sys.executable, str(HERE / "instrumented.py"), target, *options]
    done = subprocess.run(
        command, timeout=seconds, check=False, stderr=subprocess.PIPE, text=True, errors="replace"
    )
    lines = done.stderr.splitlines()
    summary = [line for line in lines if line.startswith(("#", "Done", "MERGE", "stat::"))]
    print(target, *(lines[-60:] if done.returncode else summary[-7:]), sep="\n    ")
    return done.returncode


def reproduce(target: str, path: Path) -> int:
    sys.path[:0] = [str(HERE), str(HERE.parent.parent)]
    importlib.import_module("targets").TARGETS[target](path.read_bytes())
    return 0


def parsed_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("target", choices=sorted(path.name for path in CORPUS.iterdir()))
    parser.add_argument("--seconds", type=int, default=20)
    parser.add_argument("--max-len", type=int, default=4096, help="bytes of an input")
    parser.add_argument("--findings", type=Path, default=Path("fuzz-findings"))
    parser.add_argument("--keep", type=Path, help="a folder")
    parser.add_argument("--merge", type=Path, help="a folder")
    parser.add_argument("--reproduce", type=Path, help="a file")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
