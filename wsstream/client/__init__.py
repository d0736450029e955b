"""Opening connections: `connect`, and `reconnect` on top of it."""
