"""The windows of all transfers of a server, which have a sum: it bounds what may wait in memory."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from wsstream.files.channel import WINDOW_LIMIT
from wsstream.files.errors import TransferError
from wsstream.files.protocol.session import Session
from wsstream.files.protocol.window import MIN_WINDOW

__all__ = ["Windows"]


class Windows:
    """Divides `total` bytes among the sessions that receive."""

    def __init__(self, total: int) -> None:
        self._total = total
        self._sessions: set[Session] = set()

    @contextmanager
    def share(self, session: Session) -> Iterator[None]:
        """Give `session` its share while the block runs, as the largest window that it grants.

        Raises:
            TransferError: ``busy``: all is in use.
        """
        self._divide(len(self._sessions) + 1)  # what they have shrinks with their next acks
        free = self._total - sum(map(_used, self._sessions))
        if free < MIN_WINDOW:
            raise TransferError("busy", "too many files are being received")
        self._sessions.add(session)
        session.window_limit = min(free, self._share(len(self._sessions)))
        try:
            yield
        finally:
            self._sessions.remove(session)
            self._divide(len(self._sessions))

    def _share(self, count: int) -> int:
        return max(MIN_WINDOW, min(WINDOW_LIMIT, self._total // count))

    def _divide(self, count: int) -> None:
        for session in self._sessions:
            session.window_limit = self._share(count)


def _used(session: Session) -> int:
    return MIN_WINDOW if session.grant is None else max(MIN_WINDOW, session.grant.window)
