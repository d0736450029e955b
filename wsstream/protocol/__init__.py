"""One WebSocket connection without I/O: the opening handshake, then the rules of RFC 6455."""
