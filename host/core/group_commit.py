"""What is written together: changes of many sessions gathered into groups, each group one transaction of the store.

    submissions ──▶ take_group() ──▶ [ what fits together ] ──▶ with_rows() ──▶ one row a session

Pure; it is *not* the journal's thread (host/journal.py). Rules: what was submitted together is written together; groups keep the
order of submission; a group is bounded, and what is large goes alone. No record is written after one of its session that was
refused: the gap is remembered until the record comes again, or a snapshot that says what it did.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple

from procession.host.core.journal_entries import (
    Append,
    DeleteCast,
    DeleteSession,
    Item,
    PutNote,
    PutOutcome,
    PutSession,
    PutSnapshot,
)
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.operations import Durability

GROUP_ITEMS_MAX: Final = 1024
"""Of one transaction: about 10 ms of work, which is how long whoever comes just after may have to wait."""
GROUP_BYTES_MAX: Final = 4 * MiB
"""As above; one submission that is larger goes alone."""
_ITEM_BYTES: Final = 256
"""What an item costs in memory beside its data."""
LAST_WORDS: Final = (PutSession, DeleteSession, DeleteCast, PutNote)
"""What says how things stand, or makes room: it may use what the disk keeps in reserve."""

Health = Literal["ok", "full", "failed"]
HealthEvent = Literal["no_room", "room", "failure"]
HEALTH: Final[Mapping[tuple[Health, HealthEvent], Health]] = {
    ("ok", "no_room"): "full",
    ("ok", "room"): "ok",
    ("ok", "failure"): "failed",
    ("full", "no_room"): "full",
    ("full", "room"): "ok",
    ("full", "failure"): "failed",
    ("failed", "no_room"): "failed",
    ("failed", "room"): "failed",
    ("failed", "failure"): "failed",
}
"""What becomes of a journal. failed is the end: what is on disk is not known any more."""

Done = Callable[[ProcessionError | None], None]


class Submission(NamedTuple):
    """What somebody wants written: all of it or nothing. size: in memory, about."""

    items: tuple[Item, ...]
    durability: Durability
    done: Done | None
    size: int

    @property
    def sessions(self) -> frozenset[str]:
        """Whose it is."""
        return frozenset(item.session for item in self.items if not isinstance(item, PutNote))

    @property
    def is_last_words(self) -> bool:
        """Whether it is tried while the disk is full."""
        return all(isinstance(item, LAST_WORDS) for item in self.items)


def size_of(items: Sequence[Item]) -> int:
    """Return what items take in memory, about."""
    return sum(_ITEM_BYTES + len(getattr(item, "data", b"")) for item in items)


def take_group(queue: deque[Submission]) -> list[Submission]:
    """Take from the head of the queue what is to be written next; empty when there is nothing."""
    group: list[Submission] = []
    items = size = 0
    while queue:
        items += len(queue[0].items)
        size += queue[0].size
        if group and (items > GROUP_ITEMS_MAX or size > GROUP_BYTES_MAX):
            break
        group.append(queue.popleft())
    return group


class JournalRow(NamedTuple):
    """Records of one session that follow each other, framed, as one row."""

    session: str
    first: int
    last: int
    data: bytes


def with_rows(items: Sequence[Item]) -> list[Item | JournalRow]:
    """Put the records of each session that follow each other into one row, where the first of them stood.

    A snapshot or the end of the session between them keeps them apart; whatever else is of another table.
    """
    found: list[Item | list[Append]] = []
    open_rows: dict[str, list[Append]] = {}
    for item in items:
        if isinstance(item, Append):
            row = open_rows.get(item.session)
            if row is not None and item.number == row[-1].number + 1:
                row.append(item)
            else:
                open_rows[item.session] = row = [item]
                found.append(row)
            continue
        if isinstance(item, PutSnapshot | DeleteSession):
            open_rows.pop(item.session, None)
        found.append(item)
    return [_row(item) if isinstance(item, list) else item for item in found]


def _row(records: list[Append]) -> JournalRow:
    data = records[0].data if len(records) == 1 else b"".join(record.data for record in records)
    return JournalRow(records[0].session, records[0].number, records[-1].number, data)


class Gaps:
    """Sessions of which a record was refused, with its number: what would leave a hole in a journal is refused too."""

    def __init__(self) -> None:
        self._missing: dict[str, int] = {}

    def save(self) -> dict[str, int]:
        """Return what `restore` goes back to."""
        return self._missing.copy()

    def restore(self, saved: dict[str, int]) -> None:
        """Forget what was admitted since: it was not written."""
        self._missing = saved

    def refused(self, items: Sequence[Item]) -> None:
        """These were not written."""
        for item in items:
            if isinstance(item, Append):
                self._missing[item.session] = min(item.number, self._missing.get(item.session, item.number))

    def admits(self, items: Sequence[Item]) -> bool:
        """Say whether these may be written; then they are."""
        if not self._missing:
            return True
        closed: set[str] = set()
        for item in items:
            if isinstance(item, PutNote | PutOutcome) or item.session not in self._missing or item.session in closed:
                continue
            missing = self._missing[item.session]
            if isinstance(item, Append) and item.number > missing:
                return False
            is_it = isinstance(item, Append | PutSnapshot) and item.number >= missing
            if is_it or isinstance(item, DeleteSession):
                closed.add(item.session)
        for session in closed:
            del self._missing[session]
        return True
