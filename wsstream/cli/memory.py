"""The peak memory of this process."""

from __future__ import annotations

import sys

__all__ = ["peak_memory"]


def peak_memory() -> int | None:
    """Return the largest resident set size so far, in bytes; ``None`` if the system does not report it."""
    try:
        # Not ru_maxrss: on Linux a process inherits it from the process that started it.
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
