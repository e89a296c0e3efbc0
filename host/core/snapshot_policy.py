"""When a session's state is written down whole again: so that a replay stays short, and the journal small.

Pure; counts only. Rules: a replay is bounded (4096 records, tens of milliseconds), whatever they say. A snapshot is written for
no less journal than a sixteenth of its own size, unless that bound is reached: so the disk is given at most seventeen bytes
for one. And no more journal is gathered than 1 MiB or that sixteenth, whichever is more: two snapshots are kept, with what came
after each, and another one passes through the WAL, so that a session's data stay below three snapshots and 8 MiB.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.bounds import MiB

RECORDS_MIN: Final = 256
"""Before these, writing a state again saves nobody anything: so many are read and folded in a few milliseconds."""
RECORDS_MAX: Final = 4096
"""A replay of more would be felt; about 40 ms of small records."""
JOURNAL_BYTES_MAX: Final = 1 * MiB
"""Of a small state's journal since its last snapshot. As much again is kept for the one before it, a page is never quite full,
and the WAL takes 4 MiB: together they stay below 8."""
SNAPSHOT_SHARE: Final = 16
"""A large state is written again after a sixteenth of its size in changes."""


class SnapshotPolicy:
    """See the module's text. snapshot_bytes: of the last one; records, journal_bytes: what came since."""

    __slots__ = ("journal_bytes", "records", "snapshot_bytes")

    def __init__(self, snapshot_bytes: int = 0, records: int = 0, journal_bytes: int = 0) -> None:
        self.snapshot_bytes = snapshot_bytes
        self.records = records
        self.journal_bytes = journal_bytes

    @property
    def is_due(self) -> bool:
        """Whether a snapshot should be written."""
        if self.records >= RECORDS_MAX:
            return True
        if self.journal_bytes * SNAPSHOT_SHARE < self.snapshot_bytes:
            return False
        return self.records >= RECORDS_MIN or self.journal_bytes >= JOURNAL_BYTES_MAX

    def add(self, size: int) -> bool:
        """Count one record of `size` bytes; say whether a snapshot is due."""
        self.records += 1
        self.journal_bytes += size
        return self.is_due

    def begin(self, snapshot_bytes: int) -> None:
        """Begin anew: a snapshot of that size has been made."""
        self.snapshot_bytes = snapshot_bytes
        self.records = self.journal_bytes = 0
