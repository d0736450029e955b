"""Another certificate while the server runs."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
import trustme
from anyio.streams.tls import TLSAttribute
from kit.endpoints import check_echo, echo

from wsstream import WebSocketStream, connect, serve

pytestmark = [pytest.mark.anyio, pytest.mark.also_on_uvloop]


def _files(authority: trustme.CA, folder: Path) -> tuple[Path, Path]:
    """Another certificate for the server, and its key."""
    certificate = authority.issue_cert("127.0.0.1")
    cert, key = folder / "cert.pem", folder / "key.pem"
    cert.write_bytes(b"".join(part.bytes() for part in certificate.cert_chain_pems))
    key.write_bytes(certificate.private_key_pem.bytes())
    return cert, key


def _serial(ws: WebSocketStream) -> object:
    return ws.extra(TLSAttribute.peer_certificate)["serialNumber"]


@pytest.mark.parametrize("name", ["path", "str"])
async def test_new_clients_get_the_new_certificate_and_open_connections_go_on(
    name: str, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    async with (
        serve(echo, "127.0.0.1", ssl=context) as server,
        connect(server.url, ssl=client_tls) as old,
    ):
        cert, key = _files(authority, tmp_path)
        server.reload_certificate(*((cert, key) if name == "path" else (str(cert), str(key))))
        async with connect(server.url, ssl=client_tls) as new:
            await check_echo(new)
            await check_echo(old)
            assert _serial(new) != _serial(old)


@pytest.mark.parametrize("wrong", ["missing", "other-key", "garbage"])
async def test_with_a_wrong_file_the_server_keeps_what_it_has(
    wrong: str, authority: trustme.CA, client_tls: ssl.SSLContext, tmp_path: Path
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    cert, key = _files(authority, tmp_path)
    if wrong == "missing":
        key.unlink()
    elif wrong == "other-key":
        key.write_bytes(authority.issue_cert("127.0.0.1").private_key_pem.bytes())
    else:
        cert.write_text("garbage")
    async with serve(echo, "127.0.0.1", ssl=context) as server:
        async with connect(server.url, ssl=client_tls) as ws:
            before = _serial(ws)
        with pytest.raises(OSError):
            server.reload_certificate(cert, key)
        async with connect(server.url, ssl=client_tls) as ws:
            await check_echo(ws)
            assert _serial(ws) == before


async def test_a_server_without_tls_has_no_certificate(tmp_path: Path) -> None:
    async with serve(echo, "127.0.0.1") as server:
        with pytest.raises(ValueError, match="started with ssl"):
            server.reload_certificate(tmp_path / "cert.pem")
