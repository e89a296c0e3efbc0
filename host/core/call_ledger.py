"""Every call of one session, from its number to its one outcome: who won, what is late, what is a breach.

    open -> queued -> sent -> (started) -> closed          closed exactly once, by a reply, a deadline, a cancel or a death

Pure: the time is an argument. It is *not* the mailbox (it holds no bytes and no descriptor) and decides nothing about a
deadline but that it has passed. On the path of every call, so it is plain dicts and slots, about a microsecond a call.

Rules: numbers go up over all incarnations and are never used again. The first to close a call wins, the other is late:
counted, nothing more (R-51). A reply to a number never sent, or a second reply, is a breach. A reply of an earlier
incarnation is stale: dropped and counted (R-53).
"""

from __future__ import annotations

from collections.abc import Iterable
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final, Literal

from procession.ipc.core.bounds import MAILBOX_BYTES_MAX, MAILBOX_COMMANDS_MAX, OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import MailboxFull

State = Literal["queued", "sent", "started", "closed"]
#: Calls given up whose reply may still come. Older ones are still taken for late, only not told from doubles.
LATE_MAX: Final = 10_000
#: The heap of deadlines is rebuilt when it has this many more than twice the open calls.
_HEAP_SLACK: Final = 64
_INFINITY: Final = float("inf")


class Missed(Enum):
    """A reply that found its call closed, or its incarnation over."""

    LATE = "late"
    STALE = "stale"


LATE: Final = Missed.LATE
STALE: Final = Missed.STALE


class Entry:
    """One call. due: monotonic seconds when it is to be looked at; deadline: when its caller stops waiting."""

    __slots__ = ("call_id", "deadline", "due", "hard_deadline", "inc", "lane", "op", "outcome", "payload", "seq", "size", "state")

    def __init__(
        self, seq: int, call_id: str, op: str, lane: str, deadline: float, hard_deadline: float, size: int, payload: object
    ) -> None:
        self.seq = seq
        self.call_id = call_id
        self.op = op
        self.lane = lane
        self.deadline = deadline
        self.hard_deadline = hard_deadline
        self.size = size
        self.payload = payload
        self.due = deadline
        self.inc = 0
        self.state: State = "queued"
        self.outcome = ""

    def __repr__(self) -> str:
        return f"<call {self.seq} {self.op} {self.state}{' ' + self.outcome if self.outcome else ''}>"


class CallLedger:
    """See the module's text. Not locked: it lies with the connection under the session's one lock."""

    __slots__ = (
        "_entries", "_floor", "_heap", "_late", "_next", "_outcomes", "_unstarted", "_unstarted_bytes", "bytes_max",
        "commands_max", "inc", "late", "stale",
    )

    def __init__(self, commands_max: int = MAILBOX_COMMANDS_MAX, bytes_max: int = MAILBOX_BYTES_MAX) -> None:
        self.commands_max = commands_max
        self.bytes_max = bytes_max
        self.inc = 0
        self.late = 0
        self.stale = 0
        self._next = 1
        self._entries: dict[int, Entry] = {}
        self._unstarted: dict[int, Entry] = {}
        self._unstarted_bytes = 0
        self._heap: list[tuple[float, int]] = []
        self._late: dict[int, None] = {}
        self._floor = 0  # given up at or below this number: no longer told apart
        self._outcomes: dict[str, tuple[str, float]] = {}

    # --- a call begins --------------------------------------------------------------------------------------
    def open(
        self, call_id: str, op: str, lane: str, deadline: float = _INFINITY, hard_deadline: float = _INFINITY, size: int = 0,
        payload: object = None,
    ) -> Entry:
        """Give a call its number; raises MailboxFull when too much waits unstarted (control calls always fit)."""
        if lane != "control":
            if len(self._unstarted) >= self.commands_max or self._unstarted_bytes + size > self.bytes_max:
                raise MailboxFull(
                    f"{len(self._unstarted)} calls ({self._unstarted_bytes} bytes) wait in this session's mailbox already",
                    hint="wait for some of them, or pass wait= to queue")
            self._unstarted_bytes += size
        seq = self._next
        self._next = seq + 1
        entry = Entry(seq, call_id, op, lane, deadline, hard_deadline, size, payload)
        self._entries[seq] = entry
        if lane != "control":
            self._unstarted[seq] = entry
        if deadline != _INFINITY:
            heappush(self._heap, (deadline, seq))
        return entry

    def sent(self, entry: Entry) -> None:
        """It has been given to the process of this incarnation."""
        entry.state = "sent"
        entry.inc = self.inc

    def started_up_to(self, seq: int) -> None:
        """The process has begun with every call up to `seq` (its status page says so; a lie only hurts itself)."""
        unstarted = self._unstarted
        while unstarted:
            first = next(iter(unstarted))
            if first > seq or unstarted[first].state == "queued":
                return
            entry = unstarted.pop(first)
            entry.state = "started"
            self._unstarted_bytes -= entry.size

    # --- a call ends ----------------------------------------------------------------------------------------
    def reply(self, seq: int, inc: int, outcome: str, now: float) -> Entry | Missed:
        """Close a call by what the process answered, or say that the answer missed it. Raises ProtocolBreach."""
        if inc != self.inc:
            self.stale += 1
            return STALE
        entry = self._entries.get(seq)
        if entry is None:
            return self._missed(seq)
        if entry.state == "queued":
            raise ProtocolBreach("a reply to a call that was not sent")
        self._close(entry, outcome, now)
        return entry

    def _missed(self, seq: int) -> Missed:
        if seq in self._late:
            del self._late[seq]
        elif not 0 < seq <= self._floor:
            raise ProtocolBreach("a second reply" if 0 < seq < self._next else "a reply to a call never made")
        self.late += 1
        return LATE

    def close(self, seq: int, outcome: str, now: float) -> Entry | None:
        """Close a call from this side (deadline, cancel, refusal); None when it is closed already: the other side won."""
        entry = self._entries.get(seq)
        if entry is None:
            return None
        if entry.state != "queued" and entry.inc == self.inc:
            self._late[seq] = None
            if len(self._late) > LATE_MAX:
                oldest = next(iter(self._late))
                del self._late[oldest]
                self._floor = max(self._floor, oldest)
        self._close(entry, outcome, now)
        return entry

    def _close(self, entry: Entry, outcome: str, now: float) -> None:
        seq = entry.seq
        assert entry.state != "closed"
        del self._entries[seq]
        if self._unstarted.pop(seq, None) is not None:
            self._unstarted_bytes -= entry.size
        entry.state = "closed"
        entry.outcome = outcome
        entry.payload = None
        if entry.call_id:
            self._remember(entry.call_id, outcome, now)

    def _remember(self, call_id: str, outcome: str, now: float) -> None:
        outcomes = self._outcomes
        outcomes.pop(call_id, None)
        outcomes[call_id] = (outcome, now)
        oldest = next(iter(outcomes))
        if len(outcomes) > OUTCOMES_KEPT or now - outcomes[oldest][1] > OUTCOME_KEPT_S:
            del outcomes[oldest]

    def outcome_of(self, call_id: str, now: float) -> str | None:
        """Return how a call ended, while that is kept."""
        found = self._outcomes.get(call_id)
        return found[0] if found is not None and now - found[1] <= OUTCOME_KEPT_S else None

    # --- deadlines ------------------------------------------------------------------------------------------
    def expired(self, now: float) -> list[Entry]:
        """Return the open calls that are due, each once; they stay open until somebody closes them."""
        heap = self._heap
        due: list[Entry] = []
        while heap and heap[0][0] <= now:
            when, seq = heappop(heap)
            entry = self._entries.get(seq)
            if entry is not None and entry.due == when:
                entry.due = _INFINITY
                due.append(entry)
        if len(heap) > 2 * len(self._entries) + _HEAP_SLACK:
            self._heap = [(entry.due, seq) for seq, entry in self._entries.items() if entry.due != _INFINITY]
            heapify(self._heap)
        return due

    def postpone(self, entry: Entry, due: float) -> None:
        """Have an open call be due again."""
        assert entry.state != "closed"
        entry.due = due
        heappush(self._heap, (due, entry.seq))

    def next_due(self) -> float | None:
        """Return when `expired` may have something, never too late; None for never."""
        heap = self._heap
        while heap:
            when, seq = heap[0]
            entry = self._entries.get(seq)
            if entry is not None and entry.due == when:
                return when
            heappop(heap)
        return None

    # --- incarnations ---------------------------------------------------------------------------------------
    def on_death(self, last_started: int, now: float) -> tuple[list[Entry], list[Entry]]:
        """The process is over. Return the calls it had begun, closed as `died`, and the others, queued again in order."""
        self.started_up_to(last_started)
        started = [e for e in self._entries.values() if e.state == "started" or (e.state == "sent" and e.lane == "control")]
        for entry in started:
            self._close(entry, "died", now)
        for entry in self._unstarted.values():
            entry.state = "queued"
            entry.inc = 0
        self._late.clear()
        self.inc += 1
        return started, list(self._unstarted.values())

    # --- looking --------------------------------------------------------------------------------------------
    def __len__(self) -> int:
        return len(self._entries)

    def open_calls(self) -> Iterable[Entry]:
        """Give the open calls, oldest first."""
        return self._entries.values()

    def get(self, seq: int) -> Entry | None:
        """Return an open call."""
        return self._entries.get(seq)

    @property
    def unstarted(self) -> int:
        return len(self._unstarted)

    @property
    def unstarted_bytes(self) -> int:
        return self._unstarted_bytes

    def __repr__(self) -> str:
        return f"<CallLedger open={len(self._entries)} unstarted={len(self._unstarted)} inc={self.inc} late={self.late}>"
