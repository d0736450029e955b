"""What the log of a server says of each client that goes, and what its records hold."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from typing import Any

import anyio
import pytest
from kit.endpoints import check_echo, echo
from kit.waiting import until

from wsstream import ConnectionBroken, Request, Response, WebSocketStream, connect, serve

pytestmark = [pytest.mark.anyio, pytest.mark.virtual_time(idle=0.01)]


class _Keeping(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.records.append(record)


@pytest.fixture
def records() -> Iterator[list[logging.LogRecord]]:
    """Those of the server, as they come."""
    logger, handler = logging.getLogger("wsstream.server"), _Keeping()
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    yield handler.records
    logger.setLevel(logging.NOTSET)
    logger.removeHandler(handler)


def _facts(record: logging.LogRecord) -> dict[str, Any]:
    facts: dict[str, Any] = record.wsstream  # type: ignore[attr-defined]
    json.dumps(facts)  # for a formatter that writes JSON
    return facts


async def test_a_connection_has_one_line_when_it_has_ended(records: list[logging.LogRecord]) -> None:
    async with serve(echo, "127.0.0.1") as server, connect(f"{server.url}/chat?token=secret") as ws:
        await check_echo(ws)
        (there,) = server.connections
        await anyio.sleep(5)
        port = there.request.peer[1]  # type: ignore[index]
        await ws.aclose(4001, "enough\r\nfor today")
        await until(lambda: not server.connections)
    (record,) = records
    assert record.getMessage() == (
        f"connection {there.id} (127.0.0.1:{port} GET /chat): closed with 4001 enough\\r\\nfor today after "
        f"{_facts(record)['duration']:.3f} s, {_facts(record)['bytes_received']} bytes received, "
        f"{_facts(record)['bytes_sent']} sent"
    )
    facts = dict(_facts(record))
    assert 5 <= facts.pop("duration") < 6
    assert facts.pop("bytes_received") == 6 + len("there and back") + 6 + 2 + len("enough\r\nfor today")
    assert facts.pop("bytes_sent") == 2 + len("there and back") + 4 + len("enough\r\nfor today")
    assert facts == {
        "connection": there.id,
        "client": f"127.0.0.1:{port}",
        "method": "GET",
        "path": "/chat",
        "status": 101,
        "close_code": 4001,
        "close_reason": r"enough\r\nfor today",
        "clean": True,
    }


async def test_a_connection_that_broke_says_what_its_handler_raised(records: list[logging.LogRecord]) -> None:
    async def handler(ws: WebSocketStream) -> None:
        while True:
            await ws.receive()

    async with serve(handler, "127.0.0.1") as server, connect(server.url) as ws:
        await until(lambda: server.connections)
        ws.abort()
        await until(lambda: not server.connections)
    (record,) = records
    assert f"; the handler ended with {ConnectionBroken.__name__}: " in record.getMessage()
    assert (_facts(record)["close_code"], _facts(record)["clean"]) == (1006, False)


async def test_an_answer_of_the_application_is_logged_by_its_status(
    records: list[logging.LogRecord], http: Any
) -> None:
    def answer(request: Request) -> Response | None:
        return Response(200, body="secret") if request.path == "/healthz" else None

    async with serve(echo, "127.0.0.1", process_request=answer) as server:
        assert (await http.get(server, path="/healthz?a=secret"))[0] == 200
        assert (await http.get(server, path="/other"))[0] == 426
        await until(lambda: len(records) == 2)
    answered, rejected = records
    assert {record.levelname for record in records} == {"INFO"}
    assert answered.getMessage().endswith(" GET /healthz: answered with status 200")
    assert " GET /other: rejected with status 426: " in rejected.getMessage()
    assert "secret" not in str([vars(record) for record in records])
    assert [_facts(record)["status"] for record in records] == [200, 426]
    assert [_facts(record)["path"] for record in records] == ["/healthz", "/other"]
    assert all(0 <= _facts(record)["duration"] < 5 for record in records)


async def test_a_client_that_sends_no_request_has_its_address_alone(
    records: list[logging.LogRecord],
) -> None:
    async with (
        serve(echo, "127.0.0.1", open_timeout=2) as server,
        await anyio.connect_tcp("127.0.0.1", server.port),
    ):
        await until(lambda: records)
    (record,) = records
    assert record.getMessage().endswith(
        ": dropped after open_timeout, 2 s, still waiting for the client's request"
    )
    assert sorted(_facts(record)) == ["client", "duration"]
    assert _facts(record)["duration"] >= 2


async def test_where_nobody_reads_the_log_nothing_is_gathered(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    caplog.set_level(logging.WARNING, "wsstream.server")
    monkeypatch.setattr(WebSocketStream, "statistics", None)
    async with serve(echo, "127.0.0.1") as server, connect(server.url) as ws:
        await check_echo(ws)
    assert caplog.records == []
