"""Files over a WebSocket: the subprotocol ``wsstream.file.v1``."""
