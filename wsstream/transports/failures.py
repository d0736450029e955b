"""What lies behind the failure of a connection, and what may help."""

from __future__ import annotations

import ssl

__all__ = ["add_tls_hint", "reported"]

# What OpenSSL makes of an answer in another language than TLS.
_NOT_TLS = ("WRONG_VERSION_NUMBER", "UNKNOWN_PROTOCOL", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
# The end of the name of an alert (RFC 8446 section 6.2) by which a server refuses a client's certificate.
_CERTIFICATE_REFUSED = (
    *("ALERT_BAD_CERTIFICATE", "ALERT_UNSUPPORTED_CERTIFICATE", "ALERT_CERTIFICATE_REVOKED"),
    *("ALERT_CERTIFICATE_EXPIRED", "ALERT_CERTIFICATE_UNKNOWN", "ALERT_UNKNOWN_CA"),
)


def reported(failure: BaseException | None) -> OSError | None:
    """What the system or TLS reported, if that is a cause of `failure`.

    Streams over streams wrap an error once for each layer.
    """
    while failure is not None and not isinstance(failure, OSError):
        failure = failure.__cause__
    return failure


def add_tls_hint(error: OSError, plain: str) -> None:
    """Add a note that says what may help, if `error` is one of TLS for which that is known.

    Args:
        error: changed.
        plain: the scheme of a URL for the same without TLS.
    """
    reason = getattr(error, "reason", None) or ""
    if isinstance(error, ssl.SSLEOFError) or reason in _NOT_TLS:
        error.add_note(f"Does that port speak TLS? If it does not, use {plain}://.")
    elif reason.endswith("ALERT_CERTIFICATE_REQUIRED"):
        error.add_note(
            "The other side wants a client certificate: give one to the TLS context, with load_cert_chain()."
        )
    elif reason.endswith(_CERTIFICATE_REFUSED):
        error.add_note("The other side does not accept the client certificate of the TLS context.")
