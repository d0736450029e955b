"""The subprotocol ``wsstream.file.v1`` without I/O."""
