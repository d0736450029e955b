"""The server's role: `serve` listens, `accept` takes one stream that is already open."""
