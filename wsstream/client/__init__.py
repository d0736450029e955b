"""The client's role: `connect`, and `reconnect` on top of it."""
