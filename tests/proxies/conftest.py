"""A certificate that the proxies and their clients share."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from kit import tls


@pytest.fixture
def proxy_folder(tmp_path: Path, authority: trustme.CA) -> Path:
    """A folder with the certificate of a proxy on 127.0.0.1."""
    certificate = authority.issue_cert("127.0.0.1", "localhost")
    certificate.private_key_pem.write_to_path(tmp_path / "key.pem")
    for pem in certificate.cert_chain_pems:
        pem.write_to_path(tmp_path / "cert.pem", append=True)
    certificate.private_key_and_cert_chain_pem.write_to_path(tmp_path / "both.pem")
    return tmp_path


@pytest.fixture(scope="session")
def trusting(authority: trustme.CA) -> ssl.SSLContext:
    return tls.client_context(authority)
