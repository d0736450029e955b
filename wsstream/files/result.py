"""What is known of a file that was transferred."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["TransferResult"]


@dataclass(frozen=True, slots=True)
class TransferResult:
    """One file that has arrived.

    Attributes:
        name: its name at the receiver.
        size: bytes.
        digest: of all of it, hexadecimal, as both ends computed it.
        hash: the digest's kind: ``"sha256"``, ``"blake3"`` or ``"sha256-tree"``.
        sent: bytes that this attempt moved; 0 if the receiver had the file already.
    """

    name: str
    size: int
    digest: str
    hash: str
    sent: int
