"""The cause of a connection's failure, and hints that may help."""

from __future__ import annotations

import ssl

__all__ = ["add_tls_hint", "reported"]

# OpenSSL's reasons when the peer's answer is not TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
# Alerts by which a server refuses a client's certificate (RFC 8446 section 6.2): how OpenSSL's reasons end.
_CERTIFICATE_REFUSED = (
    *("ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE", "ALERT_CERTIFICATE_REVOKED"),
    *("ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_UNKNOWN_CA"),
)


def reported(failure: BaseException | None) -> OSError | None:
    """Return the error of the system or of TLS among the causes of `failure`, ``None`` if there is none.

    Streams over streams wrap an error once for each layer.
    """
    while failure is not None and not isinstance(failure, OSError):
        failure = failure.__cause__
    return failure


def add_tls_hint(error: OSError, plain: str) -> None:
    """Add a note with a hint to `error`, if it is an error of TLS with a known remedy.

    Args:
        error: gets the note.
        plain: the scheme of URLs without TLS.
    """
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLEOFError) or reason in _NOT_TLS:
        error.add_note(f"Does that port speak TLS? If it does not, use {plain}://.")
    elif reason.endswith("ALERT_CERTIFICATE_REQUIRED"):
        error.add_note(
            "The other side wants a client certificate: load one into the TLS context with load_cert_chain()."
        )
    elif reason.endswith(_CERTIFICATE_REFUSED):
        error.add_note("The other side does not accept the client certificate of the TLS context.")
