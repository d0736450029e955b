"""The specification of ``wsstream.file.v1``: its transcript is what two sessions say; its tables are true."""

from __future__ import annotations

import random
import re
from pathlib import Path

from kit.file_ends import Disk, Network, Receiver, Sender

from wsstream.files.errors import ERRORS
from wsstream.files.protocol.messages import KINDS
from wsstream.files.protocol.states import RECEIVE, State

PAGE = (Path(__file__).parents[2] / "docs" / "reference" / "file-protocol.md").read_text(encoding="utf-8")
CONTENT = random.Random(1).randbytes(1_000_000)


class Transcript(Network):
    """Notes what passes."""

    def __init__(self, sender: Sender, receiver: Receiver) -> None:
        self.lines: list[str] = []
        self.offset = 0
        super().__init__(sender, receiver, sender_is_client=True)

    def deliver(self) -> None:
        """All that is under way, and the receiver writes what it has."""
        while self.to_receiver or self.to_sender or self.receiver.memory:
            if self.to_receiver:
                self.note_client(self.to_receiver[0])
            self.deliver_to_receiver()
            self.receiver.write(self.now)
            self.handle()
            if self.to_sender:
                self.lines.append(f"server: {self.to_sender[0]}")
            self.deliver_to_sender()

    def note_client(self, item: str | bytes) -> None:
        if isinstance(item, str):
            self.lines.append(f"client: {item}")
        else:
            self.lines.append(f"client: bytes {self.offset} to {self.offset + len(item)}")
            self.offset += len(item)

    def send(self) -> None:
        if sent := self.send_data():
            self.offset = sent[0]
        self.deliver()


def interrupted_upload() -> list[str]:
    disk = Disk()
    network = Transcript(Sender(CONTENT), Receiver(disk))
    network.deliver()
    network.send()
    network.send()
    network.receiver.sync()
    network.wait(1)
    network.deliver()
    network.send()  # written, and not yet durable
    network.lines.append("-- the connection is lost --")
    network.connect()
    network.deliver()
    for _ in range(3):
        network.send()
    assert disk.complete == CONTENT
    assert network.sender.done
    return network.lines


def test_the_interrupted_upload_is_what_two_sessions_say() -> None:
    found = re.search(r"## An interrupted upload.*?```text\n(.*?)```", PAGE, re.DOTALL)
    assert found is not None
    assert found[1].splitlines() == interrupted_upload()


def test_the_table_of_errors_is_that_of_the_code() -> None:
    rows = re.findall(r"^\| `([a-z-]+)` \| (never|now|later) \| (\d{4}) \| (.+) \|$", PAGE, re.MULTILINE)
    assert rows == [(name, kind.retry, str(kind.close_code), kind.meaning) for name, kind in ERRORS.items()]


def test_the_table_of_states_is_that_of_the_code() -> None:
    for state in State:
        if state in (State.HELLO, State.CLOSED):
            continue
        (row,) = re.findall(rf"^\| {state.name} \| [^|]+\| (.+) \|$", PAGE, re.MULTILINE)
        kinds = {"data" if kind is bytes else kind.__name__.lower() for at, kind in RECEIVE if at is state}
        assert set(re.findall(r"`([a-z]+)`", row)) == kinds, state


def test_each_field_of_each_message_is_named() -> None:
    for t, kind in KINDS.items():
        found = re.search(rf"^### {t}\n(.*?)^##", PAGE, re.MULTILINE | re.DOTALL)
        assert found is not None, t
        named = set(re.findall(r"^\| `(\w+)`", found[1], re.MULTILINE))
        assert named == {each.key for each in kind.FIELDS} - {"id"}, t
