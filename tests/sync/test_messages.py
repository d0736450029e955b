"""Messages, whole and as files, between threads and a server."""

from __future__ import annotations

import hashlib
import io
import random
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import anyio
import pytest
from sync.conftest import until

from wsstream import (
    ClosedLocally,
    ConnectionBroken,
    Deflate,
    FlowControl,
    MessageTooBig,
    StreamEnded,
    WebSocketError,
)
from wsstream.sync import WebSocketStream, connect, serve

CONTENT = random.Random(1).randbytes(1 << 20)


def serving(handler: Callable[[WebSocketStream], object], **options):  # type: ignore[no-untyped-def]
    return serve(handler, "127.0.0.1", **options)


@pytest.mark.parametrize(
    "message",
    ["", "text", "wörld", b"", b"bytes", bytearray(b"mutable"), memoryview(b"view"), CONTENT, CONTENT.hex()],
    ids=lambda message: f"{type(message).__name__}-{len(message)}",
)
def test_a_message_of_any_type_and_size_comes_back(echo_url: str, message: str | bytes) -> None:
    with connect(echo_url, max_message_size=None) as ws:
        ws.send(message)
        answer = ws.receive()
    assert answer == message
    assert type(answer) is (str if isinstance(message, str) else bytes)


def test_messages_keep_their_order_whatever_way_they_take(echo_url: str) -> None:
    sizes = [1, 100_000, 2, 3, 70_000, 66_000, 4] * 5
    with connect(echo_url, max_message_size=None) as ws:
        receiver = threading.Thread(target=lambda: [ws.send(bytes(size)) for size in sizes])
        receiver.start()
        assert [len(ws.receive()) for _ in sizes] == sizes
        receiver.join()


def test_iterating_ends_with_the_clean_end_and_receive_raises_it() -> None:
    def three(ws: WebSocketStream) -> None:
        for number in range(3):
            ws.send(str(number))

    with serving(three) as server, connect(server.url) as ws:
        assert list(ws) == ["0", "1", "2"]
        with pytest.raises(StreamEnded) as caught:
            ws.receive()
        assert caught.value.info.code == 1000
        assert ws.close_info == caught.value.info
        assert ws.state == "closed"


def test_what_had_arrived_is_delivered_before_a_broken_end() -> None:
    def abort(ws: WebSocketStream) -> None:
        for number in range(500):
            ws.send(str(number))
        ws.writable.drain()
        ws.receive()
        ws.abort()

    with serving(abort) as server, connect(server.url) as ws:
        first = ws.receive()
        ws.send("enough")
        received = [first]
        with pytest.raises(ConnectionBroken):
            received.extend(iter(ws.receive, None))
        assert received == [str(number) for number in range(500)]


def test_a_timeout_loses_nothing(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with pytest.raises(TimeoutError, match=r"0\.01 s"):
            ws.receive(timeout=0.01)
        ws.send("hello")
        assert ws.receive(timeout=30) == "hello"
        with pytest.raises(ValueError, match="timeout must not be negative"):
            ws.receive(timeout=-1)


def test_a_message_that_comes_as_the_timeout_passes_is_kept(echo_url: str) -> None:
    received: list[str | bytes] = []
    with connect(echo_url) as ws:
        for number in range(300):
            ws.send(str(number))
            try:
                received.append(ws.receive(timeout=0.0001))
            except TimeoutError:
                pass
        while len(received) < 300:
            received.append(ws.receive(timeout=30))
    assert received == [str(number) for number in range(300)]


def test_a_message_above_the_limit_is_refused_only_when_it_is_asked_for_whole(echo_url: str) -> None:
    with connect(echo_url, max_message_size=1000) as ws:
        ws.send(b"small")
        ws.send(bytes(1001))
        assert ws.receive() == b"small"
        with ws.readable.message() as reader:
            assert len(b"".join(iter(lambda: reader.read(100), b""))) == 1001
        ws.send(bytes(1001))
        with pytest.raises(MessageTooBig):
            ws.receive()
        assert ws.close_info is not None
        assert ws.close_info.code == 1009


def test_messages_that_a_batch_holds_can_be_read_as_files() -> None:
    def handler(ws: WebSocketStream) -> None:
        for message in ("first", "zweiß", b"third"):
            ws.send(message)
        ws.receive()

    with serving(handler) as server, connect(server.url) as ws:
        assert ws.receive() == "first"
        until(lambda: ws.statistics().receive_buffered > 128)
        with ws.readable.message() as reader:
            assert reader.kind == "text"
            assert reader.receive(3) == b"zwe"
            assert reader.read() == "iß".encode()
            assert (reader.complete, reader.bytes_received) == (True, 6)
            assert reader.read() == b""
        readers = ws.readable.messages()
        assert next(readers).receive(1) == b"t"
        ws.send("done")
        assert list(readers) == []


def test_lines_of_a_text_message(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with (
            ws.writable.message("text") as writer,
            io.TextIOWrapper(io.BufferedWriter(writer), "utf-8") as out,
        ):
            print("first", "wörld", sep="\n", file=out)
        with ws.readable.message() as reader:
            lines = io.TextIOWrapper(io.BufferedReader(reader), "utf-8")
            assert list(lines) == ["first\n", "wörld\n"]


@pytest.mark.parametrize("buffer", [10, 4096, 65536, 1 << 20])
def test_a_file_there_and_back(echo_url: str, tmp_path: Path, buffer: int) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    with connect(echo_url, max_message_size=None) as ws:
        with ws.writable.message() as writer, (tmp_path / "source").open("rb") as source:
            shutil.copyfileobj(source, writer, max(buffer, 4096))
            assert writer.bytes_sent == len(CONTENT)
        with ws.readable.message() as reader, (tmp_path / "copy").open("wb") as copy:
            shutil.copyfileobj(reader, copy, buffer)
    assert (tmp_path / "copy").read_bytes() == CONTENT


def test_send_file_and_receive_file_report_in_the_calling_thread(echo_url: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT)
    threads: set[int] = set()
    seen: list[int] = []

    def progress(count: int) -> None:
        threads.add(threading.get_ident())
        seen.append(count)

    digests = hashlib.sha256(), hashlib.sha256()
    with connect(echo_url, max_message_size=None) as ws:
        sent = ws.writable.send_file(tmp_path / "source", offset=1, progress=progress, hash=digests[0])
        got = ws.readable.receive_file(tmp_path / "copy", progress=progress, hash=digests[1])
    assert sent == got == len(CONTENT) - 1
    assert (tmp_path / "copy").read_bytes() == CONTENT[1:]
    assert digests[0].digest() == digests[1].digest() == hashlib.sha256(CONTENT[1:]).digest()
    assert threads == {threading.get_ident()}
    assert seen.count(sent) == 2


def test_an_error_of_progress_aborts_the_message_and_is_raised_here(echo_url: str, tmp_path: Path) -> None:
    (tmp_path / "source").write_bytes(CONTENT * 8)

    def progress(count: int) -> None:
        raise LookupError("stop")

    with connect(echo_url, max_message_size=None) as ws, pytest.raises(LookupError, match="stop"):
        ws.writable.send_file(tmp_path / "source", progress=progress)


def test_a_message_larger_than_its_file_may_be(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.send("not saved")
        with pytest.raises(TypeError, match="file must be a path or a binary file, got StringIO"):
            ws.readable.receive_file(io.StringIO())  # type: ignore[arg-type]
        ws.send(CONTENT[:1000])
        file = io.BytesIO()
        with pytest.raises(MessageTooBig, match="more than 999 bytes"):
            ws.readable.receive_file(file, max_bytes=999)
        assert file.getvalue() == CONTENT[:999]


def test_leaving_a_reader_skips_the_rest(echo_url: str) -> None:
    with connect(echo_url, max_message_size=None) as ws:
        ws.send(CONTENT)
        ws.send("next")
        with ws.readable.message() as reader:
            assert reader.receive(10) == CONTENT[:10]
        assert reader.closed
        assert ws.receive() == "next"
        with pytest.raises(anyio.ClosedResourceError):
            reader.receive()
        with pytest.raises(ValueError, match="was closed"):
            reader.read(1)


def test_asking_for_the_next_message_skips_the_rest_of_an_open_one(echo_url: str) -> None:
    with connect(echo_url, max_message_size=None) as ws:
        for message in (CONTENT, "two", "three"):
            ws.send(message)
        readers = ws.readable.messages()
        first = next(readers)
        first.receive(1)
        assert next(readers).read() == b"two"
        assert first.closed
        assert ws.receive() == "three"


def test_a_forgotten_reader_does_not_block_the_next_message(echo_url: str) -> None:
    with connect(echo_url, max_message_size=None) as ws:
        ws.send(CONTENT)
        ws.send("next")
        assert next(ws.readable.messages()).receive(1) == CONTENT[:1]
        assert ws.receive() == "next"


def test_a_connection_that_ends_inside_a_message_breaks_its_reader() -> None:
    def half(ws: WebSocketStream) -> None:
        with ws.writable.message() as writer:
            writer.send(b"half")
            writer.flush()
            ws.receive()
            ws.abort()

    with serving(half) as server, connect(server.url) as ws, ws.readable.message() as reader:
        assert reader.read(10) == b"half"
        ws.send("go on")
        with pytest.raises(ConnectionBroken):
            reader.read(10)
        assert not reader.complete


def test_a_second_thread_that_receives_is_refused(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.send("x")
        ws.receive()
        errors: list[Exception] = []

        def wait() -> None:
            try:
                ws.receive()
            except ClosedLocally as error:
                errors.append(error)

        waiting = threading.Thread(target=wait)
        waiting.start()
        until(lambda: ws.statistics().tasks_waiting_receive)
        with pytest.raises(anyio.BusyResourceError):
            ws.receive()
        ws.close()
        waiting.join()
        assert len(errors) == 1


def test_only_takes_one_kind(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.send("text")
        ws.send(b"bytes")
        texts = ws.readable.only(str)
        assert next(texts) == "text"
        with pytest.raises(WebSocketError, match="only text messages") as caught:
            next(texts)
        assert caught.value.code == 1003
        with pytest.raises(TypeError, match="takes str or bytes"):
            ws.readable.only(int)  # type: ignore[type-var]


def test_discard_drops_what_comes(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.readable.discard()
        for _ in range(1000):
            ws.send(bytes(1000))
        ws.ping()
        assert ws.statistics().receive_buffered == 0


# -- sending ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("item", "error"),
    [(5, TypeError), (None, TypeError), ({"a": 1}, TypeError), ("\ud800", UnicodeEncodeError)],
    ids=repr,
)
def test_what_cannot_be_sent_is_an_error_at_the_callers_line(
    echo_url: str, item: object, error: type[Exception]
) -> None:
    with connect(echo_url) as ws:
        with pytest.raises(error) as caught:
            ws.send(item)  # type: ignore[arg-type]
        assert "test_messages.py" in str(caught.traceback[0].path)
        ws.send("goes on")
        assert ws.receive() == "goes on"


def test_an_iterable_is_one_message(echo_url: str) -> None:
    with connect(echo_url) as ws:
        ws.send(iter([b"a", bytearray(b"b"), b"c"]))
        assert ws.receive() == b"abc"
        ws.send(chunk for chunk in ("ä", "b"))
        assert ws.receive() == "äb"
        ws.send([])
        with pytest.raises(TypeError, match="of one type, got str and bytes"):
            ws.send(["a", b"b"])  # type: ignore[list-item]
        with pytest.raises(WebSocketError):
            ws.receive()


def test_an_async_iterable_is_refused(echo_url: str) -> None:
    async def chunks():  # type: ignore[no-untyped-def]
        yield b"a"

    with connect(echo_url) as ws, pytest.raises(TypeError, match="without async"):
        ws.send(chunks())  # type: ignore[arg-type]


def test_a_buffer_may_be_changed_as_soon_as_send_has_returned(echo_url: str) -> None:
    with connect(echo_url, max_message_size=None) as ws:
        for size in (10, 300_000):
            buffer = bytearray(b"a" * size)
            ws.send(buffer)
            buffer[:] = b"b" * size
            assert ws.receive() == b"a" * size


def test_this_thread_cannot_send_inside_its_own_message(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with ws.writable.message("text") as writer:
            writer.send("a")
            for call in (lambda: ws.send("b"), lambda: ws.writable.message().__enter__()):
                with pytest.raises(RuntimeError, match="must finish its MessageWriter"):
                    call()
        assert ws.receive() == "a"


def test_another_threads_message_waits_for_the_end_of_one_in_chunks(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with ws.writable.message("text") as writer:
            writer.send("a")
            other = threading.Thread(target=ws.send, args=("b",))
            other.start()
            until(lambda: ws.statistics().tasks_waiting_send)
            writer.send("c")
            with pytest.raises(TimeoutError):
                call_in_thread(lambda: ws.send("d", timeout=0.01))
        other.join()
        assert [ws.receive(), ws.receive()] == ["ac", "b"]


def call_in_thread(function: Callable[[], object]) -> None:
    errors: list[BaseException] = []

    def run() -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    if errors:
        raise errors[0]


@pytest.mark.parametrize("wrapped", [False, True])
def test_a_message_left_by_an_exception_is_never_completed(wrapped: bool) -> None:
    seen: list[object] = []

    def handler(ws: WebSocketStream) -> None:
        try:
            seen.append(ws.receive())
        except ConnectionBroken as error:
            seen.append(error.info.code)

    with serving(handler) as server, connect(server.url) as ws:
        with pytest.raises(LookupError), ws.writable.message("text") as writer:
            if wrapped:
                with io.TextIOWrapper(io.BufferedWriter(writer), "utf-8") as out:
                    out.write("half")
                    raise LookupError
            writer.write(b"half")
            raise LookupError
        with pytest.raises(ConnectionBroken):
            ws.wait_closed()
    assert seen == [1011]


def test_a_message_of_a_declared_size(echo_url: str) -> None:
    with connect(echo_url) as ws:
        with ws.writable.message(size=4) as writer:
            assert writer.write(bytearray(b"1234")) == 4
            with pytest.raises(ValueError, match="4 bytes"):
                writer.write(b"5")
        assert ws.receive() == b"1234"
        assert writer.closed
        with pytest.raises(ValueError, match="was closed"):
            writer.write(b"6")
        with pytest.raises(ValueError, match="must be 'text' or 'binary'"):
            ws.writable.message("json")  # type: ignore[arg-type]


def test_compressed_messages() -> None:
    def echo(ws: WebSocketStream) -> None:
        for message in ws:
            ws.send(message)

    with serving(echo, compression=Deflate()) as server, connect(server.url, compression=Deflate()) as ws:
        assert "permessage-deflate" in ws.extensions
        for _ in range(200):
            ws.send("all the same " * 20)
        ws.send("plain " * 50, compress=False)
        received = [ws.receive() for _ in range(201)]
    assert set(received) == {"all the same " * 20, "plain " * 50}


def test_ten_threads_send_and_each_keeps_its_order(echo_url: str) -> None:
    count = 300
    with connect(echo_url, max_message_size=None) as ws:

        def send(name: int) -> None:
            for number in range(count):
                ws.send(f"{name} {number}".ljust(100 + (90_000 if number % 100 == name else 0)))

        threads = [threading.Thread(target=send, args=(name,)) for name in range(9)]
        for thread in threads:
            thread.start()
        seen: dict[str, list[int]] = {}
        for _ in range(9 * count):  # the tenth thread
            name, number = str(ws.receive()).split()
            seen.setdefault(name, []).append(int(number))
        for thread in threads:
            thread.join()
    assert seen == {str(name): list(range(count)) for name in range(9)}


# -- backpressure ----------------------------------------------------------------------------------

FLOW = FlowControl(receive_high_water=64 * 1024, send_high_water=32 * 1024)


@pytest.mark.heavy
def test_a_thread_that_does_not_read_stops_the_peer() -> None:
    """What the peer hands over is bounded by both sides' marks and the kernel's buffers."""
    sent = threading.Semaphore(0)
    total = 4000
    progress: list[int] = []

    def blast(ws: WebSocketStream) -> None:
        for number in range(total):
            ws.send(bytes(16 * 1024))
            progress.append(number)
        sent.release()

    with serving(blast, flow=FLOW) as server, connect(server.url, flow=FLOW) as ws:
        assert len(ws.receive()) == 16 * 1024
        until(lambda: ws.statistics().reading_paused)
        until(lambda: has_stopped(progress))
        assert len(progress) * 16 * 1024 < 16 << 20  # 64 MiB are to be sent; the kernel holds some
        assert ws.statistics().receive_buffered <= 64 * 1024 + 32 * 1024
        assert sum(len(ws.receive()) for _ in range(total - 1)) == (total - 1) * 16 * 1024


def test_a_batch_holds_a_quarter_of_the_mark_at_most() -> None:
    def blast(ws: WebSocketStream) -> None:
        for _ in range(20_000):
            ws.send(bytes(1024))

    with serving(blast, flow=FLOW) as server, connect(server.url, flow=FLOW) as ws:
        until(lambda: ws.statistics().reading_paused)
        ws.receive()
        assert 8 * 1024 < ws._link.incoming.cost <= 16 * 1024
        ws.abort()


def has_stopped(progress: list[int]) -> bool:
    before = len(progress)
    threading.Event().wait(0.3)
    return len(progress) == before


def test_a_peer_that_does_not_read_stops_the_senders() -> None:
    go_on = threading.Event()
    got: list[int] = []

    def lazy(ws: WebSocketStream) -> None:
        go_on.wait()
        got.extend(len(message) for message in ws)

    with serving(lazy, flow=FLOW) as server, connect(server.url, flow=FLOW) as ws:
        accepted = 0
        with pytest.raises(TimeoutError, match=r"within 0\.5 s"):
            while accepted < 100_000:
                ws.send(bytes(1000), timeout=0.5)
                accepted += 1
        assert accepted * 1000 < 16 << 20  # of 100 MB; the kernel holds some
        assert ws.statistics().send_buffered < 2 * 32 * 1024 + 16 * 1024
        go_on.set()
        ws.close()
        until(lambda: len(got) == accepted)  # what was accepted leaves before Close


def test_closing_in_another_thread_wakes_those_who_wait() -> None:
    release = threading.Event()

    def lazy(ws: WebSocketStream) -> None:
        release.wait()

    with serving(lazy, flow=FLOW) as server, connect(server.url, flow=FLOW, close_timeout=0.2) as ws:
        errors: list[BaseException] = []

        def attempt(function: Callable[[], object]) -> None:
            try:
                while True:
                    function()
            except BaseException as error:
                errors.append(error)

        def large() -> None:
            ws.send(bytes(1 << 20))

        calls = [ws.receive, lambda: ws.send(bytes(1000)), large, ws.ping]
        threads = [threading.Thread(target=attempt, args=(call,)) for call in calls]
        for thread in threads:
            thread.start()
        until(lambda: ws.statistics().tasks_waiting_send >= 2)
        ws.close()
        for thread in threads:
            thread.join()
        release.set()
    assert {type(error) for error in errors} == {ClosedLocally}
