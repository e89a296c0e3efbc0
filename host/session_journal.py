"""One session's place in the host's journal: the numbers of its changes, its snapshots, and whether the journal has all of it.

It is *not* the journal (journal.py) and decides nothing about what may leave (core/commit_queue.py). Its owner's lock guards it.
Rules: records are numbered without a gap; a number that was refused is used again; a session whose journal is behind what was
acknowledged (at the level `memory`, while the disk was full) writes no record until a snapshot has caught up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from procession.host import clock
from procession.host.core.journal import encode_record
from procession.host.core.journal_entries import Append, Item, Outcome, PutOutcome, PutSnapshot, Record
from procession.host.core.snapshot_policy import SnapshotPolicy
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.messages import encode
from procession.ipc.core.operations import Durability

if TYPE_CHECKING:
    from procession.host.core.journal import Restored
    from procession.host.journal import Journal

Told = Callable[[ProcessionError | None], None]


class SessionJournal:
    """See the module's text. number: of the last record. snapshot_due: asks for one to be made, without the lock."""

    def __init__(
        self, journal: Journal, session: str, durability: Durability, snapshot_due: Callable[[], None]
    ) -> None:
        self.durability = durability
        self.number = 0
        self.is_behind = False
        self._journal = journal
        self._session = session
        self._snapshot_due = snapshot_due
        self._policy = SnapshotPolicy()
        self._asked = False

    def level(self, wanted: str) -> Durability:
        """Return how durable a call's change is to be that asks for `wanted`."""
        return wanted or self.durability  # type: ignore[return-value]

    def refusal(self) -> ProcessionError | None:
        """Return why nothing can be kept just now, None as a rule."""
        return self._journal.refusal()

    @property
    def has_room(self) -> bool:
        """Whether the journal can take more just now."""
        return self._journal.has_room

    def change(self, inc: int, seq: int, call_id: str, ops: bytes) -> list[Item]:
        """Return what is to be written for a change, which has its number now; nothing while the journal is behind."""
        self.number += 1
        if self.is_behind:
            return []
        data = encode_record(Record(self.number, inc, seq, clock.wall(), ops, call_id))
        if self._policy.add(len(data)) and not self._asked:
            self._asked = True
            self._snapshot_due()
        return [Append(self._session, self.number, data)]

    def outcome(self, outcome: Outcome) -> Item:
        """Return what is to be written of how a call ended."""
        return PutOutcome(self._session, outcome.call_id, outcome.at, encode(outcome))

    def submit(self, items: Sequence[Item], level: Durability, told: Told | None) -> None:
        """Write; `told` hears of it, in the journal's thread."""
        self._journal.submit(items, level, told)

    def begin(self, restored: Restored) -> None:
        """Go on after what was read back."""
        self.number = restored.number
        self.is_behind = False
        self._policy = SnapshotPolicy(0, restored.replayed, restored.replayed_bytes)

    def ask_again(self) -> None:
        """A snapshot that was due cannot be made just now: the next change asks for it again."""
        self._asked = False

    def begin_snapshot(self) -> None:
        """A snapshot is being made: what comes from now on is written behind it."""
        self._asked = False
        self.is_behind = False

    def snapshot(self, number: int, state_bytes: int, data: bytes, told: Told) -> None:
        """Write a snapshot of the state as record `number` left it, framed."""
        self._policy.begin(state_bytes)
        self._journal.submit([PutSnapshot(self._session, number, data)], "memory", told)
