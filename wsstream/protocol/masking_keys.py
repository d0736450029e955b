"""Drawing the masking keys of a client's frames (RFC 6455 section 5.3)."""

from __future__ import annotations

import os

__all__ = ["next_masking_key"]

_KEYS_IN_A_BATCH = 256  # one system call for all of them

_keys: list[bytes] = []
if hasattr(os, "register_at_fork"):  # pragma: no branch - it is missing on Windows
    os.register_at_fork(after_in_child=_keys.clear)  # two processes must not use the same keys


def next_masking_key() -> bytes:
    """A fresh masking key from the system's cryptographic source (section 5.3), drawn in batches."""
    try:
        return _keys.pop()
    except IndexError:
        batch = os.urandom(4 * _KEYS_IN_A_BATCH)
        _keys.extend(batch[i : i + 4] for i in range(4, len(batch), 4))
        return batch[:4]
