"""The fence: what a writer shows before it writes, and what makes an older writer stop."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

__all__ = ["Fence"]


@runtime_checkable
class Fence(Protocol):
    """The right to write one partial file, until a newer holder has one with a higher number.

    The storage calls `check` before each step. A writer may be stopped after the call and go on much later,
    so this alone protects nothing: a new holder that could not wait for the older one says so with `barrier`.

    Attributes:
        number: higher than that of every holder of the same token before; at least 1.
        barrier: the highest number, up to this fence's own, that was given out while an older holder still
            had the right, because it did not answer; 0 if that never happened. A partial file that was last
            used under a lower number is copied, and a writer that is left behind writes to the old copy.
    """

    number: int
    barrier: int

    def check(self) -> None:
        """Do nothing while this fence is the newest. Quick; called from worker threads.

        Raises:
            TransferError: ``superseded``: a newer holder has the right, or asks for it.
        """

    def check_held(self) -> None:
        """Do nothing while the right is held, even if a newer holder asks for it: that one still waits.

        For the last step of a writer that lets go.

        Raises:
            TransferError: ``superseded``: a newer holder has not waited.
        """

    def retire(self) -> None:
        """Learn that there is no partial file: it was committed, discarded or never made. The numbers may
        begin again at 1.
        """
