"""Where bytes come from: sockets, TLS, any anyio byte stream."""
