"""The only place where a protocol connection meets a transport: reading, sending, the end, and the clock."""
