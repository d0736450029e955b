"""The files that a run needs, in a folder of its own."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import frames
import trustme
from cases import FILE, RECEIVED


@contextmanager
def made_for(cases: Iterable[str]) -> Iterator[dict[str, str]]:
    """Paths by name: a certificate for 127.0.0.1, its authority, and the files that are sent and received.

    The one that is received into exists and is in the system's page cache, so that no new pages are measured.
    """
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        authority = trustme.CA()
        certificate = authority.issue_cert("127.0.0.1")
        certificate.private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
        authority.cert_pem.write_to_path(folder / "client.pem")
        if "send-file" in cases:
            (folder / "file").write_bytes(frames.payload(FILE))
        if "receive-file" in cases:
            (folder / "target").write_bytes(bytes(RECEIVED))
        names = {"certificate": "server.pem", "authority": "client.pem", "file": "file", "target": "target"}
        yield {name: str(folder / file) for name, file in names.items()}
