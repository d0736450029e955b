"""Bytes to frames and back: no I/O, no clock, no randomness, no connection state (RFC 6455 section 5)."""
