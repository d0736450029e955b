"""``python -m wsstream`` is ``wsstream``."""

from __future__ import annotations

import sys

from wsstream.cli import main

if __name__ == "__main__":
    sys.exit(main())
