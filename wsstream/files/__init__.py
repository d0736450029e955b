"""Files over a WebSocket: the subprotocol ``wsstream.file.v1``, and the storage of what it receives."""

from __future__ import annotations
