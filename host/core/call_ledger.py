"""Every call of one session, from its number to its one outcome: who won, what is late, what is a breach.

    (waiting ->) queued -> sent -> started (-> answered) -> closed     closed exactly once: a reply, a deadline, a cancel, a death
                   ^        |
                   +--------+  a death: what it had not started waits for the next incarnation, in order; a cast that it
                               had started does too, once
    answered   its answer is here and may not leave before the change that it brought is kept: no death takes it away any more
    joined     it has the id of an open call, and ends with that one

Pure: the time is an argument. It is *not* the mailbox (it holds no bytes and no descriptor) and decides nothing about a
deadline but that it has passed. On the path of every call, so it is plain dicts and slots, about a microsecond a call.

Rules: numbers go up over all incarnations and are never used again. The first to close a call wins, the other is late:
counted, nothing more (R-51). A reply to a number never sent, or a second reply, is a breach. A reply of an earlier
incarnation is stale: dropped and counted (R-53). Control calls are no commands: they take no room, are never kept over a
death, and no status page tells whether they have started.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from enum import Enum
from heapq import heapify, heappop, heappush
from typing import Final, Generic, Literal, NamedTuple, TypeVar

from procession.ipc.core.bounds import MAILBOX_BYTES_MAX, MAILBOX_COMMANDS_MAX, OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import MailboxFull

State = Literal["waiting", "queued", "sent", "started", "answered", "joined", "closed"]
#: Calls given up whose reply may still come. Older ones are still taken for late, only not told from doubles.
LATE_MAX: Final = 10_000
#: Calls that are over and still listed.
RECENT_CALLS: Final = 256
#: The heap of deadlines is rebuilt when it has this many more than twice the open calls.
_HEAP_SLACK: Final = 64
_INFINITY: Final = float("inf")
#: The incarnation of a ledger without a process; no entry and no message has it.
_NO_PROCESS: Final = -1


class Missed(Enum):
    """A reply that found its call closed, or its incarnation over."""

    LATE = "late"
    STALE = "stale"


LATE: Final = Missed.LATE
STALE: Final = Missed.STALE

#: A call that is over, as little of it as a listing shows: number, given id, op, incarnation, begin, timeout, how it ended.
Past = tuple[int, str, str, int, float, "float | None", str]


class Entry:
    """One call. due: monotonic seconds when it is to be looked at; deadline: when its caller stops waiting."""

    __slots__ = (
        "cancelled",
        "deadline",
        "due",
        "given_id",
        "how",
        "inc",
        "lane",
        "op",
        "opened_at",
        "seq",
        "size",
        "state",
        "timeout_s",
    )

    def __init__(
        self,
        op: str,
        lane: str,
        opened_at: float = 0.0,
        timeout_s: float | None = None,
        size: int = 0,
        given_id: str = "",
    ) -> None:
        self.op = op
        self.lane = lane
        self.opened_at = opened_at
        self.timeout_s = timeout_s
        self.size = size
        self.given_id = given_id
        self.due = self.deadline = _INFINITY if timeout_s is None else opened_at + timeout_s
        self.seq = 0
        self.inc = 0  # the incarnation that has it, 0 for none
        self.state: State = "queued"
        self.cancelled = False  # its end was asked for
        self.how = ""

    @property
    def call_id(self) -> str:
        """Its id for people: the one its caller gave it, else one made of its number."""
        return self.given_id or f"c{self.seq}"

    def __repr__(self) -> str:
        return f"<call {self.seq} {self.op} {self.state}{' ' + self.how if self.how else ''}>"


E = TypeVar("E", bound=Entry)


class Left(NamedTuple, Generic[E]):
    """What a dead process leaves, all of it still open: calls it had begun, cancelled ones it had not, and the kept ones."""

    begun: list[E]
    withdrawn: list[E]
    kept: list[E]


class CallLedger(Generic[E]):
    """See the module's text. Not locked: it lies with the connection under the session's one lock."""

    __slots__ = (
        "_by_id",
        "_entries",
        "_floor",
        "_heap",
        "_late",
        "_late_ids",
        "_next",
        "_outcomes",
        "_unstarted",
        "_unstarted_bytes",
        "bytes_max",
        "commands_max",
        "inc",
        "late",
        "recent",
        "stale",
        "waiting",
    )

    def __init__(self, commands_max: int = MAILBOX_COMMANDS_MAX, bytes_max: int = MAILBOX_BYTES_MAX) -> None:
        self.commands_max = commands_max
        self.bytes_max = bytes_max
        self.inc = _NO_PROCESS
        self.late = 0
        self.stale = 0
        self.recent: deque[Past] = deque(maxlen=RECENT_CALLS)
        self.waiting: list[int] = []
        """A heap of the numbers that wait for room; those of closed calls fall out when they come up."""
        self._next = 1
        self._entries: dict[int, E] = {}
        self._unstarted: dict[int, E] = {}  # commands that take room, in the order they go out
        self._unstarted_bytes = 0
        self._heap: list[tuple[float, int]] = []
        self._late: dict[int, float] = {}  # given up, and until when the process may still be in it
        self._late_ids: dict[int, str] = {}  # of those, what their callers called them
        self._by_id: dict[str, E] = {}  # open, by the id that the caller gave
        self._floor = 0  # given up at or below this number: no longer told apart
        self._outcomes: dict[str, tuple[str, float]] = {}

    # --- a call begins --------------------------------------------------------------------------------------
    def open(self, entry: E, *, wait: bool = False) -> None:
        """Give a call its number; it is `queued`, and may be sent.

        Raises MailboxFull when too much waits unstarted; with `wait` it is `waiting` then, behind those that wait already.
        What is larger than the whole mailbox goes alone. Control calls always fit.
        """
        seq = self._next
        if entry.lane != "control":
            if (self._unstarted and not self._fits(entry.size)) or (wait and self.waiting and self._first_waiting()):
                if not wait:
                    raise MailboxFull(
                        f"{len(self._unstarted)} calls ({self._unstarted_bytes} bytes) wait in this session's mailbox already",
                        hint="wait for some of them to end, or cancel some",
                    )
                entry.state = "waiting"
                heappush(self.waiting, seq)
            else:
                self._unstarted[seq] = entry
                self._unstarted_bytes += entry.size
        self._add(entry, seq)
        if entry.given_id:
            self._by_id[entry.given_id] = entry

    def _add(self, entry: E, seq: int) -> None:
        entry.seq = seq
        self._next = seq + 1
        self._entries[seq] = entry
        if entry.due != _INFINITY:
            heap = self._heap
            heappush(heap, (entry.due, seq))
            if len(heap) > 2 * len(self._entries) + _HEAP_SLACK:
                self._rebuild()

    def open_by_id(self, given_id: str) -> E | None:
        """Return the open call that its caller called this."""
        return self._by_id.get(given_id)

    def join(self, entry: E) -> None:
        """Open a call that ends when the open one of its id does; it is never sent, and has a deadline of its own."""
        entry.state = "joined"
        self._add(entry, self._next)

    def _fits(self, size: int) -> bool:
        count = len(self._unstarted)
        return not count or (count < self.commands_max and self._unstarted_bytes + size <= self.bytes_max)

    def _first_waiting(self) -> int:
        """Return the lowest number that waits for room, 0 for none."""
        waiting = self.waiting
        while waiting:
            entry = self._entries.get(waiting[0])
            if entry is not None and entry.state == "waiting":
                return waiting[0]
            heappop(waiting)
        return 0

    def let_in(self) -> E | None:
        """Give the first call that waits for room its place, if there is one now: it is `queued` then."""
        seq = self._first_waiting()
        if not seq or not self._fits(self._entries[seq].size):
            return None
        heappop(self.waiting)
        entry = self._entries[seq]
        entry.state = "queued"
        self._unstarted[seq] = entry
        self._unstarted_bytes += entry.size
        return entry

    def put_off(self, entry: E) -> None:
        """A queued call cannot go out for want of room of another kind: it waits, in its turn by number."""
        assert entry.state == "queued"
        if self._unstarted.pop(entry.seq, None) is not None:
            self._unstarted_bytes -= entry.size
        entry.state = "waiting"
        heappush(self.waiting, entry.seq)

    def sent(self, entry: E) -> None:
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
    def reply(self, seq: int, inc: int, how: str, now: float) -> E | Missed:
        """Close a call by what the process answered, or say that the answer missed it. Raises ProtocolBreach."""
        if inc != self.inc:
            self.stale += 1
            return STALE
        entry = self._entries.get(seq)
        if entry is None:
            return self._missed(seq)
        if entry.inc != inc:
            raise ProtocolBreach(f"an answer to call {seq}, which was not sent")
        if entry.state == "answered":
            raise ProtocolBreach(f"a second answer to call {seq}")
        self._close(entry, how, now)
        return entry

    def answered(self, seq: int, inc: int) -> E | Missed:
        """Take note that a call is answered, though nobody may be told yet; as `reply`, but it stays open."""
        entry = self._entries.get(seq)
        if inc != self.inc or entry is None or entry.inc != inc or entry.state == "answered":
            found = self.reply(seq, inc, "", 0.0)  # it is none of the kind, and says so
            assert isinstance(found, Missed)
            return found
        if self._unstarted.pop(seq, None) is not None:
            self._unstarted_bytes -= entry.size
        entry.state = "answered"
        return entry

    def late_id(self, seq: int) -> str:
        """Return what the caller of a call that was given up called it, empty for nothing."""
        return self._late_ids.get(seq, "")

    def _missed(self, seq: int) -> Missed:
        if seq in self._late:
            del self._late[seq]
            self._late_ids.pop(seq, None)
        elif not 0 < seq <= self._floor:
            raise ProtocolBreach(
                f"a second answer to call {seq}" if 0 < seq < self._next else "an answer to a call never made"
            )
        self.late += 1
        return LATE

    def close(self, seq: int, how: str, now: float, *, inside_until: float = 0.0) -> E | None:
        """Close a call from this side (deadline, cancel, refusal, death); None when it is closed already: the other side won.

        inside_until: how long the process, which is in it, is left alone about that (`patience_of`).
        """
        entry = self._entries.get(seq)
        if entry is None:
            return None
        if entry.inc == self.inc and entry.state != "answered":
            self._late[seq] = inside_until
            if entry.given_id:
                self._late_ids[seq] = entry.given_id
            if len(self._late) > LATE_MAX:
                oldest = next(iter(self._late))
                del self._late[oldest]
                self._late_ids.pop(oldest, None)
                self._floor = max(self._floor, oldest)
        self._close(entry, how, now)
        return entry

    def patience_of(self, seq: int) -> float | None:
        """Return until when the process may be in a call that was given up; None for a call that was not."""
        return self._late.get(seq, 0.0) or None

    def _close(self, entry: E, how: str, now: float) -> None:
        seq = entry.seq
        assert entry.state != "closed"
        del self._entries[seq]
        if self._unstarted.pop(seq, None) is not None:
            self._unstarted_bytes -= entry.size
        entry.state = "closed"
        entry.how = how
        given_id = entry.given_id
        if given_id and self._by_id.get(given_id) is entry:
            del self._by_id[given_id]
        self.recent.append((seq, given_id, entry.op, entry.inc, entry.opened_at, entry.timeout_s, how))
        if given_id:
            self._remember(given_id, how, now)

    def _remember(self, given_id: str, how: str, now: float) -> None:
        outcomes = self._outcomes
        outcomes.pop(given_id, None)
        outcomes[given_id] = (how, now)
        oldest = next(iter(outcomes))
        if len(outcomes) > OUTCOMES_KEPT or now - outcomes[oldest][1] > OUTCOME_KEPT_S:
            del outcomes[oldest]

    def outcome_of(self, call_id: str, now: float) -> str | None:
        """Return how a call ended, while that is kept: longer for an id that its caller gave."""
        found = self._outcomes.get(call_id)
        if found is not None:
            return found[0] if now - found[1] <= OUTCOME_KEPT_S else None
        return next((past[-1] for past in reversed(self.recent) if not past[1] and f"c{past[0]}" == call_id), None)

    # --- deadlines ------------------------------------------------------------------------------------------
    def expired(self, now: float) -> list[E]:
        """Return the open calls that are due, each once; they stay open until somebody closes them."""
        heap = self._heap
        due: list[E] = []
        while heap and heap[0][0] <= now:
            when, seq = heappop(heap)
            entry = self._entries.get(seq)
            if entry is not None and entry.due == when:
                entry.due = _INFINITY
                due.append(entry)
        return due

    def _rebuild(self) -> None:
        self._heap = [(entry.due, seq) for seq, entry in self._entries.items() if entry.due != _INFINITY]
        heapify(self._heap)

    def postpone(self, entry: E, due: float) -> None:
        """Have an open call be due again."""
        assert entry.state != "closed"
        entry.due = due
        heappush(self._heap, (due, entry.seq))

    def put_back(self, by_s: float) -> None:
        """Give every open call so much more time, and those that were given up: the host was gone."""
        for entry in self._entries.values():
            entry.deadline += by_s
            entry.due += by_s
        self._rebuild()
        self._late = {seq: until + by_s if until else until for seq, until in self._late.items()}

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
    def on_birth(self, inc: int) -> list[E]:
        """A process is there. Return what is queued for it, in order."""
        self.inc = inc
        return [entry for entry in self._entries.values() if entry.state == "queued"]

    def on_death(self, last_started: int = 0) -> Left[E]:
        """The process is over; nothing can answer now. Whoever asks closes what it had begun and what was withdrawn.

        The rest is queued again, in order and due at its own deadline.
        """
        self.started_up_to(last_started)
        left: Left[E] = Left([], [], [])
        for entry in self._entries.values():
            if entry.state == "started" or (entry.state == "sent" and entry.lane == "control"):
                left.begun.append(entry)
            elif entry.state == "sent":
                (left.withdrawn if entry.cancelled else left.kept).append(entry)
        for entry in (*left.withdrawn, *left.kept):
            entry.state = "queued"
            entry.inc = 0
            if entry.due != entry.deadline:
                self.postpone(entry, entry.deadline)
        self._late.clear()
        self._late_ids.clear()
        self.inc = _NO_PROCESS
        return left

    def again(self, entry: E) -> None:
        """Have the next process begin once more, in its old place, with a call that the one which died had begun."""
        assert entry.state == "started"
        assert self.inc == _NO_PROCESS
        entry.state = "queued"
        entry.inc = 0
        self._unstarted = dict(sorted([*self._unstarted.items(), (entry.seq, entry)]))
        self._unstarted_bytes += entry.size
        if entry.due != entry.deadline:
            self.postpone(entry, entry.deadline)

    def shrink(self, count: int) -> None:
        """Forget the calls that are over, but for the last ones."""
        while len(self.recent) > count:
            self.recent.popleft()

    # --- looking --------------------------------------------------------------------------------------------
    @property
    def made(self) -> int:
        """How many calls there were in all."""
        return self._next - 1

    def __len__(self) -> int:
        return len(self._entries)

    def open_calls(self) -> Iterable[E]:
        """Give the open calls, oldest first."""
        return self._entries.values()

    def get(self, seq: int) -> E | None:
        """Return an open call."""
        return self._entries.get(seq)

    def find(self, call_id: str) -> E | None:
        """Return the open call with this id."""
        return next((entry for entry in self._entries.values() if entry.call_id == call_id), None)

    def count(self, *states: State) -> int:
        """Count the open calls in these states."""
        return sum(1 for entry in self._entries.values() if entry.state in states)

    @property
    def unstarted(self) -> int:
        return len(self._unstarted)

    @property
    def unstarted_bytes(self) -> int:
        return self._unstarted_bytes

    def __repr__(self) -> str:
        return (
            f"<CallLedger open={len(self._entries)} unstarted={len(self._unstarted)} inc={self.inc} late={self.late}>"
        )
