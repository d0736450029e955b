"""Both sides of the opening handshake over a transport: from an open transport to an open WebSocket."""
