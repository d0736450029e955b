"""Bytes to frames and back (RFC 6455 section 5). No I/O, no clock, no randomness, no connection state."""
