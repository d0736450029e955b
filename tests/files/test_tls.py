"""`wsstream send` and `receive` over TLS, with an authority of their own, between asyncio and Trio."""

from __future__ import annotations

import os
from hashlib import sha256
from pathlib import Path

import pytest
import trustme
from kit.command_line import CommandLine, peak_memory

pytestmark = pytest.mark.slow

SIZE = 64 << 20
MIB = 1 << 20


@pytest.mark.parametrize(("server", "client"), [("asyncio", "trio"), ("trio", "asyncio")])
def test_the_file_that_comes_back_has_the_same_sha256(
    tmp_path: Path, authority: trustme.CA, server: str, client: str
) -> None:
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(tmp_path / "server.pem")
    content = os.urandom(SIZE)
    digest = sha256(content).hexdigest()
    (tmp_path / "file.bin").write_bytes(content)
    served, back = tmp_path / "served", tmp_path / "back"
    served.mkdir()
    back.mkdir()
    with CommandLine(tmp_path / "modules") as line:
        tls = ["--cert", str(tmp_path / "server.pem"), "--backend", server]
        process = line.start("serve", "files", str(served), "--bind", ":0", "--allow", "get,put", *tls)
        line.wait_for("listening on wss://")
        url = line.stderr().split()[-1]
        trust = ["--cafile", str(tmp_path / "ca.pem"), "--backend", client]
        status, output = line.run("send", str(tmp_path / "file.bin"), url, *trust)
        assert status == 0, output
        assert sha256((served / "file.bin").read_bytes()).hexdigest() == digest
        status, output = line.run("receive", url + "file.bin", str(back), "--expect", digest, *trust)
        assert status == 0, output
        assert peak_memory(process) < 80 * MIB
    assert sha256((back / "file.bin").read_bytes()).hexdigest() == digest
