"""``wsstream send``, ``receive`` and ``serve files``: the subprotocol ``wsstream.file.v1``."""
