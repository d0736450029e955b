"""The opening handshake, without I/O: URLs, HTTP heads, what is offered and agreed on, proxies, redirects."""
