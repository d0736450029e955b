"""Another certificate for a server that runs."""

from __future__ import annotations

import os
import ssl

__all__ = ["load_certificate"]


def load_certificate(
    context: ssl.SSLContext,
    certfile: str | os.PathLike[str],
    keyfile: str | os.PathLike[str] | None = None,
    password: str | bytes | None = None,
) -> None:
    """Have `context` use another certificate for the TLS handshakes that begin from now on.

    Raises:
        OSError: a file cannot be read, or certificate and key do not fit (``ssl.SSLError``); then `context`
            is as it was.
    """
    # A context that has taken the certificate and then refuses the key could not be used any more.
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certfile, keyfile, password)
    context.load_cert_chain(certfile, keyfile, password)
