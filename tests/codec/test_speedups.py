"""Which version of the codec's hot paths is used, and the compiled module as such."""

from __future__ import annotations

import gc
import importlib.util
import os
import subprocess
import sys
import textwrap
import weakref
from types import ModuleType

import pytest
from kit.codec import VERSIONS, needs_compiled

from wsstream.codec import speedups
from wsstream.codec.events import Chunk

REPORT = "from wsstream.codec import speedups; print(speedups.COMPILED, speedups.scan_messages.__module__)"


def output(program: str, **environment: str) -> str:
    """What `program` prints in a fresh interpreter."""
    variables = {name: value for name, value in os.environ.items() if name != "WSSTREAM_PURE"}
    done = subprocess.run(
        [sys.executable, "-P", "-c", program],  # -P: the installed package, not the checkout
        env=variables | environment,
        capture_output=True,
        text=True,
        check=True,
        timeout=30,
    )
    return done.stdout.strip()


PYTHON = "False wsstream.codec.scan"


def test_the_python_version_is_used_when_wsstream_pure_is_set() -> None:
    assert output(REPORT, WSSTREAM_PURE="1") == PYTHON


def test_the_python_version_is_used_when_the_compiled_one_was_not_built() -> None:
    assert output("import sys; sys.modules['wsstream.codec._speedups'] = None; " + REPORT) == PYTHON


def test_an_empty_wsstream_pure_is_the_same_as_none() -> None:
    assert output(REPORT, WSSTREAM_PURE="") == output(REPORT)


@pytest.mark.skipif(
    not os.environ.get("CI") or bool(os.environ.get("WSSTREAM_PURE")),
    reason="without a C compiler the compiled version need not be present",
)
def test_the_compiled_version_is_built_in_ci() -> None:
    assert output(REPORT) == "True wsstream.codec._speedups"


def test_the_compiled_version_is_used_if_there_is_one() -> None:
    chosen = VERSIONS[-1]
    assert chosen.name == ("compiled" if speedups.COMPILED else "python")
    for name in ("apply_mask", "mask_in_place", "make_frame", "FrameBatch", "MessageIterator", "UnreadQueue"):
        assert getattr(speedups, name) is getattr(chosen, name)
    assert speedups.scan_messages is chosen.scan


# -- the compiled module -------------------------------------------------------------------------


def another_copy() -> ModuleType:
    """The compiled module once more, with types of its own."""
    spec = importlib.util.find_spec("wsstream.codec._speedups")
    assert spec is not None
    assert spec.loader is not None
    copy = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(copy)
    return copy


@needs_compiled
def test_two_copies_of_the_module_share_nothing() -> None:
    copy = another_copy()
    assert copy.UnreadQueue is not speedups.UnreadQueue
    with pytest.raises(TypeError):
        copy.MessageIterator(speedups.UnreadQueue(), print)
    queue = copy.UnreadQueue()
    queue.extend([Chunk("text", b"a", True), "b"], 130)
    steps = [anext(copy.MessageIterator(queue, print)) for _ in range(2)]
    for step, message in zip(steps, "ab", strict=True):
        with pytest.raises(StopIteration) as caught:
            step.send(None)
        assert caught.value.value == message


@needs_compiled
def test_a_copy_of_the_module_is_collected_with_its_types() -> None:
    copy = another_copy()
    queue = copy.UnreadQueue()
    queue.extend(["a"] * 3, 195)
    messages = copy.MessageIterator(queue, print)
    kept = [anext(messages), anext(messages)]
    for _ in range(3):
        anext(messages).close()  # leaves a spare for the next
    batch = copy.FrameBatch(print)
    step = copy.ReadStep(queue, batch, True, False, print, memoryview(bytearray()))
    copy.cycle = step.owner = batch.send = [messages, kept, batch, step]
    gone = [
        weakref.ref(copy),
        *(weakref.ref(value) for value in vars(copy).values() if isinstance(value, type)),
    ]
    assert len(gone) == 6
    del copy, queue, messages, kept, batch, step
    gc.collect()
    assert [ref() for ref in gone] == [None] * 6


@needs_compiled
def test_the_types_cannot_be_changed() -> None:
    for kind in (speedups.FrameBatch, speedups.MessageIterator, speedups.ReadStep, speedups.UnreadQueue):
        with pytest.raises(TypeError):
            kind.put = None  # type: ignore[attr-defined, misc]
        with pytest.raises(TypeError):
            type("Sub", (kind,), {})


@needs_compiled
@pytest.mark.skipif(sys.version_info < (3, 12), reason="interpreters with a GIL of their own are new in 3.12")
def test_interpreters_with_a_gil_of_their_own_run_the_compiled_version_at_once() -> None:
    work = textwrap.dedent("""
        from wsstream.codec import _speedups
        from wsstream.codec.events import Chunk

        async def read(messages):
            return [message async for message in messages]

        async def end():
            raise StopAsyncIteration

        for _ in range(200):
            queue = _speedups.UnreadQueue()
            queue.extend(["a", Chunk("text", b"b", False), Chunk("text", b"c", True)] * 50, 50 * 3 * 65)
            try:
                read(_speedups.MessageIterator(queue, end)).send(None)
            except StopIteration as stop:
                assert stop.value == ["a", "bc"] * 50
            batch = _speedups.FrameBatch(lambda: b"abcd")
            batch.begin(0x82, bytes(100))
            assert len(batch.take()) == 106
        """)
    program = f"""
import threading
try:
    import _interpreters
except ModuleNotFoundError:
    import _xxsubinterpreters as _interpreters

def run():
    interpreter = _interpreters.create()  # isolated, so with a GIL of its own
    failures.append(_interpreters.run_string(interpreter, {work!r}))
    _interpreters.destroy(interpreter)

failures = []
threads = [threading.Thread(target=run) for _ in range(3)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(failures)
"""
    assert output(program) == "[None, None, None]"
