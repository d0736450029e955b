"""The library's log: whatever logging runs of the application's, a log line ends nothing."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import pytest

import wsstream
from wsstream.log import Log

NAME = "wsstream.server"


@pytest.fixture
def log() -> Log:
    return Log(NAME)


class _Raises(logging.Handler):
    def filter(self, record: logging.LogRecord) -> bool:
        raise KeyError("request_id")

    def emit(self, record: logging.LogRecord) -> None:
        raise KeyError("emit")


@pytest.fixture(params=["filter-of-the-logger", "filter-of-a-handler", "handler"])
def broken_logging(request: pytest.FixtureRequest) -> Iterator[None]:
    """The application's part of logging raises, in each place where it can."""
    logger, handler = logging.getLogger(NAME), _Raises()
    if request.param == "filter-of-the-logger":
        logger.addFilter(handler.filter)
    else:
        if request.param == "handler":
            handler.filter = lambda record: True  # type: ignore[method-assign]
        logger.addHandler(handler)
    yield
    logger.removeFilter(handler.filter)
    logger.removeHandler(handler)


@pytest.mark.usefixtures("broken_logging")
def test_what_the_application_raises_in_a_log_call_is_printed(
    log: Log, capsys: pytest.CaptureFixture[str]
) -> None:
    log.error("a line of %s", "the log", cause=ValueError())
    assert "KeyError" in capsys.readouterr().err


@pytest.mark.usefixtures("broken_logging")
def test_it_is_not_printed_where_logging_prints_no_errors(
    log: Log, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logging, "raiseExceptions", False)
    log.error("a line of %s", "the log")
    assert capsys.readouterr().err == ""


def test_a_line_has_its_level_its_arguments_and_its_place(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    cause = ValueError()
    log.info("%s of %s", 1, 3)
    log.warning("%s of %s", 2, 3)
    log.error("%s of %s", 3, 3, cause=cause)
    assert [(r.levelname, r.getMessage()) for r in caplog.records] == [
        ("INFO", "1 of 3"),
        ("WARNING", "2 of 3"),
        ("ERROR", "3 of 3"),
    ]
    assert [record.exc_info and record.exc_info[1] for record in caplog.records] == [None, None, cause]
    assert {record.funcName for record in caplog.records} == {
        "test_a_line_has_its_level_its_arguments_and_its_place"
    }


def test_nothing_is_made_of_the_arguments_where_nothing_is_logged(log: Log) -> None:
    class Text:
        def __str__(self) -> str:
            raise AssertionError("asked for its text")

    assert not logging.getLogger(NAME).isEnabledFor(logging.INFO)
    log.info("%s", Text())


def test_an_argument_without_a_text_is_named_by_its_type(log: Log, caplog: pytest.LogCaptureFixture) -> None:
    class Odd:
        def __str__(self) -> str:
            raise RuntimeError

    log.error("this: %s", Odd())
    assert "Odd" in caplog.records[0].getMessage()


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("/plain?a=b'c", "/plain?a=b'c"),
        ("a\r\nERROR forged \x1b[31m\u2028", r"a\r\nERROR forged \x1b[31m\u2028"),
        ("x" * 400, "x" * 300 + "..."),
        (KeyError(), "KeyError"),
        (None, "None"),
    ],
)
def test_an_argument_is_cut_and_cannot_forge_a_line(
    text: object, shown: str, log: Log, caplog: pytest.LogCaptureFixture
) -> None:
    log.error("here: %s", text)
    assert caplog.messages == [f"here: {shown}"]


def test_the_library_logs_in_no_other_way() -> None:
    root = Path(wsstream.__file__).parent
    users = [
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        if "import logging" in path.read_text()
    ]
    own = {"asgi/uvicorn.py"}  # it logs as uvicorn's protocols do, where uvicorn's users look
    assert [path for path in users if not path.startswith("cli/") and path not in own] == ["log.py"]
