"""The host's journal: what is to be kept goes in from any thread, and comes back as "it is kept" when it is.

    submit() ──▶ queue ──▶ writer thread: a group, one transaction ──▶ done            memory, batch
                                                └──▶ sync thread: one fdatasync for many ──▶ done        sync

It is *not* what is written (core/journal_entries.py), how (storage/), nor who waits for it (session_journal.py). Rules:

- submit never blocks and never fails: errors come through `done`. All `done`s are called in the writer's thread: they are quick.
- What was submitted together is written together, in the order of submission. `done`s are called in that order too, but that
  nobody waits for another session's sync: those of one session are always in order.
- A sync does not stop writes: it runs beside them, and one serves all that was written before it began. Only a WAL of 4 MiB
  that could not be checkpointed beside them makes writes wait for the disk, once.
- What was written at the level batch is given to the disk 30 ms later: a power loss costs the last 50 ms while the disk syncs
  within 20 ms, and on a slower one what was written during its last two syncs.
- A full disk fails all that is submitted but last words, until a probe finds room; then on_recovered. Any other failure is the
  end of this journal: nothing is acknowledged after it.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

import msgspec

from procession.host import clock
from procession.host.core.group_commit import HEALTH, Done, Gaps, Health, HealthEvent, Submission, size_of, take_group
from procession.host.core.journal import Restored, restore
from procession.host.core.journal_entries import Item, Outcome, PutSnapshot
from procession.host.event_log import Scalar
from procession.host.read_pool import ReadPool
from procession.host.storage.port import Store
from procession.ipc import kill_points
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import (
    DiskFull,
    HostOverloaded,
    JournalCorrupt,
    ProcessionError,
    StorageError,
    from_data,
    to_data,
)
from procession.ipc.core.operations import Durability

SYNC_AFTER_S: Final = 0.03
"""After the first batch write that is not on disk: leaves a disk 20 of the 50 ms that are promised."""
PROBE_PERIOD_S: Final = 1.0
"""How often a full disk is looked at: well within the 5 s in which a host goes on when there is room again."""
LINGER_S: Final = 0.005
"""What nobody waits for is gathered for this long: fewer and larger writes, and who submits keeps its processor."""
LINGER_BYTES_MAX: Final = 1 * MiB
"""With so much gathered it is not waited for more."""
QUEUE_BYTES_MAX: Final = 64 * MiB
"""Waiting to be written; with more, whoever can wait should. Nothing is refused for it here."""

OnEvent = Callable[[str, dict[str, Scalar]], None]
OnRestored = Callable[[Restored | ProcessionError], None]
_decode_outcome: Final = msgspec.msgpack.Decoder(Outcome).decode


class Journal:
    """See the module's text. on_event, on_recovered: called in the writer's thread, quick, and do not raise.

    threaded: with False nothing runs by itself, and `step` does what is due.
    """

    def __init__(
        self,
        store: Store,
        *,
        on_event: OnEvent,
        on_recovered: Callable[[], None],
        monotonic: Callable[[], float] = clock.monotonic,
        threaded: bool = True,
    ) -> None:
        self.health: Health = "ok"
        self._store = store
        self._on_event = on_event
        self._on_recovered = on_recovered
        self._monotonic = monotonic
        self._threaded = threaded
        self._readers = ReadPool()
        # What the threads share, under one lock.
        lock = threading.Lock()
        self._wake = threading.Condition(lock)
        self._wake_sync = threading.Condition(lock)
        self._writer: threading.Thread | None = None
        self._syncer: threading.Thread | None = None
        self._queue: deque[Submission] = deque()
        self._queued_bytes = 0
        self._is_idle = False
        self._hurries = False
        self._lingers = False
        self._closing = False
        self._writer_ended = False
        self._written = 0  # groups, as are the next two
        self._wanted = 0
        self._synced = 0
        self._sync_error: ProcessionError | None = None
        # The writer's own.
        self._telling: deque[tuple[int, Submission, ProcessionError | None]] = deque()
        self._held: Counter[str] = Counter()
        self._gaps = Gaps()
        self._unsynced_since: float | None = None
        self._probe_at = 0.0
        self._failure: ProcessionError | None = None

    # --- what callers see -----------------------------------------------------------------------------------
    def submit(self, items: Sequence[Item], durability: Durability, done: Done | None = None) -> None:
        """Have items written, all or nothing; `done` hears None once they are as durable as asked for, or the error.

        After `close` it hears of that at once, in this thread.
        """
        submission = Submission(tuple(items), durability, done, size_of(items))
        with self._wake:
            if not self._closing:
                self._queue.append(submission)
                self._queued_bytes += submission.size
                hurries = durability != "memory" and not self._hurries
                self._hurries = self._hurries or hurries
                if self._is_idle or (hurries and self._lingers):
                    self._wake.notify()
                elif self._writer is None and self._threaded:
                    self._writer = _started(self._write_on, "procession-journal")
                return
        self._tell(submission, _closed())

    def barrier(self, done: Callable[[], None]) -> None:
        """Call `done` after everything submitted so far was written, or refused."""
        self.submit((), "batch", lambda _: done())  # nothing to write, and somebody waits

    @property
    def waiting_bytes(self) -> int:
        """What waits to be written, in memory, about."""
        return self._queued_bytes

    @property
    def has_room(self) -> bool:
        """Whether more should be submitted just now."""
        return self._queued_bytes < QUEUE_BYTES_MAX

    def refusal(self) -> ProcessionError | None:
        """Return why nothing can be kept just now, to be raised before anything runs; None as a rule."""
        if self.health == "ok":
            return None
        if self.health == "full":
            return DiskFull("there is no room for the journal", hint="it goes on by itself when there is some")
        assert self._failure is not None
        return _copy(self._failure)

    def outcome(self, session: str, call_id: str) -> bytes | None:
        """Return how a call ended, encoded. Reads: not for the host's loop. Raises StorageError."""
        return self._store.outcome(session, call_id)

    def outcome_of(self, session: str) -> Callable[[str], Outcome | None]:
        """Return what finds how a call of this session ended, by its id; as `outcome`, decoded."""

        def find(call_id: str) -> Outcome | None:
            data = self._store.outcome(session, call_id)
            try:
                return None if data is None else _decode_outcome(data)
            except msgspec.MsgspecError:
                raise JournalCorrupt(f"the outcome of call {call_id!r} cannot be read", session=session) from None

        return find

    def load(self, session: str, done: OnRestored) -> None:
        """Read a session's state, after all that was submitted before, and repair a torn end. `done` runs in another thread."""
        self.barrier(partial(self._read_soon, session, None, partial(self._mend, session, done)))

    def read(self, session: str, at: int | None, done: OnRestored) -> None:
        """Read a session's state as record `at` left it, or the last one; as `load`, but nothing is repaired."""
        self.barrier(partial(self._read_soon, session, at, done))

    def close(self, timeout_s: float = 10.0) -> bool:
        """Write what was submitted, have it on disk, and let go of the store; say whether all that ended in time."""
        with self._wake:
            self._closing = True
            self._wake.notify_all()
        if not self._threaded:
            while self.step():
                pass
        if self._writer is not None:
            self._writer.join(timeout_s)
        with self._wake:
            self._writer_ended = True
            self._wake_sync.notify_all()
        if self._syncer is not None:
            self._syncer.join(timeout_s)
        ended = self._readers.close(timeout_s)
        if not ended or any(thread is not None and thread.is_alive() for thread in (self._writer, self._syncer)):
            return False  # a store that somebody is in is not closed
        self._store.close()
        return True

    def forget_after_fork(self) -> None:
        """In a forked child: be closed, and touch nothing that is the parent's; its locks may be held for ever."""
        lock = threading.Lock()
        self._wake, self._wake_sync = threading.Condition(lock), threading.Condition(lock)
        self._closing = True
        self._writer = self._syncer = None
        self._readers = ReadPool()
        self._store.forget_after_fork()

    # --- the writer -----------------------------------------------------------------------------------------
    def step(self) -> bool:
        """Do one thing that is due, a sync or a group; say whether there was any. Only for a journal without threads."""
        if self._wanted > self._synced and self._failure is None:
            self._sync(self._written)
            self._hear_of_sync()
            return True
        return self._turn()

    def _write_on(self) -> None:
        while True:
            with self._wake:
                if not self._has_news():
                    if self._closing and not self._telling:
                        return
                    self._is_idle = True
                    self._wake.wait(self.due_in_s())
                    self._is_idle = False
                if self._queue and not self._hurries and not self._closing and self._queued_bytes < LINGER_BYTES_MAX:
                    self._lingers = True
                    self._wake.wait(LINGER_S)
                    self._lingers = False
            self._turn()

    def _has_news(self) -> bool:
        told = bool(self._telling) and self._telling[0][0] <= self._synced
        return bool(self._queue) or told or (self._sync_error is not None and self._failure is None)

    def due_in_s(self) -> float | None:
        """Return after how long there is something to do though nothing more is submitted; None for never."""
        if self._failure is not None:
            return None
        due = [] if self._unsynced_since is None else [self._unsynced_since + SYNC_AFTER_S]
        if self.health == "full":
            due.append(self._probe_at)
        return max(0.0, min(due) - self._monotonic()) if due else None

    def _turn(self) -> bool:
        with self._wake:
            group = take_group(self._queue)
            self._hurries = self._hurries and bool(self._queue)
            self._queued_bytes -= sum(submission.size for submission in group)
        did = self._hear_of_sync()
        if group:
            self._write(group)
        probed = self.health == "full" and self._monotonic() >= self._probe_at and self._probe()
        return did or bool(group) or probed or self._want_sync()

    def _write(self, group: list[Submission]) -> None:
        """Write a group, but for what has to be refused, and tell those who need not wait for a sync."""
        gaps = self._gaps.save()
        errors = [self._refused(submission) for submission in group]
        items = [
            item for submission, error in zip(group, errors, strict=True) if error is None for item in submission.items
        ]
        if items:
            try:
                kill_points.reach("before_append")
                self._store.write(items, sync=False)
                kill_points.reach("after_append")
            except Exception as bug:  # noqa: BLE001 - whoever waits is told, whatever it was
                problem = bug if isinstance(bug, ProcessionError) else _of_bug(bug)
                self._gaps.restore(gaps)
                errors = [error or _copy(problem) for error in errors]
                self._trouble(problem)
            else:
                if any(isinstance(item, PutSnapshot) for item in items):
                    kill_points.reach("after_snapshot")
        for submission, error in zip(group, errors, strict=True):
            if error is not None:
                self._gaps.refused(submission.items)
        self._written_is(group, errors)

    def _refused(self, submission: Submission) -> ProcessionError | None:
        """Return why a submission is not tried; None when it is."""
        if self._failure is not None or (self.health == "full" and not submission.is_last_words):
            return self.refusal()
        if not self._gaps.admits(submission.items):
            return DiskFull("an earlier change of this session could not be kept, so this one cannot")
        return None

    def _written_is(self, group: list[Submission], errors: list[ProcessionError | None]) -> None:
        number = self._written + 1
        told: list[tuple[Submission, ProcessionError | None]] = []
        wants_sync = False
        for submission, error in zip(group, errors, strict=True):
            is_written = error is None and bool(submission.items)
            if is_written and submission.durability == "batch" and self._unsynced_since is None:
                self._unsynced_since = self._monotonic()
            syncs = is_written and submission.durability == "sync"
            wants_sync = wants_sync or syncs
            if submission.done is None:
                continue
            if syncs or (self._held and not self._held.keys().isdisjoint(submission.sessions)):
                self._telling.append((number, submission, error))
                self._held.update(submission.sessions)
            else:
                told.append((submission, error))
        with self._wake:
            self._written = number  # after they are in line: so a sync that serves them finds them there
        if wants_sync:
            self._ask_for_sync()
        for submission, error in told:
            self._tell(submission, error)

    def _hear_of_sync(self) -> bool:
        """Tell those whose groups are on disk, or that they never will be; say whether there was anybody."""
        if self._sync_error is not None and self._failure is None:
            self._fail(self._sync_error)
        telling = self._telling
        if not telling or (telling[0][0] > self._synced and self._failure is None):
            return False
        if self._failure is None:
            kill_points.reach("after_sync")
        while telling and (self._failure is not None or telling[0][0] <= self._synced):
            _, submission, error = telling.popleft()
            self._held -= Counter(submission.sessions)
            self._tell(submission, error or (None if self._failure is None else _copy(self._failure)))
        return True

    def _tell(self, submission: Submission, error: ProcessionError | None) -> None:
        if submission.done is None:
            return
        try:
            submission.done(error)
        except Exception as problem:  # noqa: BLE001 - one caller's mistake is not everyone's
            self._on_event("journal.callback_failed", {"error": f"{type(problem).__name__}: {problem}"})

    # --- syncing --------------------------------------------------------------------------------------------
    def _want_sync(self) -> bool:
        """Ask for a sync when what was written at the level batch has waited long enough."""
        since = self._unsynced_since
        if since is None or self._failure is not None or self._monotonic() < since + SYNC_AFTER_S:
            return False
        self._ask_for_sync()
        return True

    def _ask_for_sync(self) -> None:
        self._unsynced_since = None
        with self._wake:
            self._wanted = self._written
            if self._syncer is None and self._threaded:
                self._syncer = _started(self._sync_on, "procession-sync")
            self._wake_sync.notify()

    def _sync_on(self) -> None:
        while True:
            with self._wake:
                while self._wanted <= self._synced:
                    if self._writer_ended:
                        return
                    self._wake_sync.wait()
                number = self._written
            if not self._sync(number):
                return

    def _sync(self, number: int) -> bool:
        """Have the groups up to `number` on disk; say whether they are."""
        try:
            self._store.sync()
            self._synced_is(number, None)
            self._store.tidy()
        except ProcessionError as problem:
            self._synced_is(self._synced, problem)
            return False
        return True

    def _synced_is(self, number: int, error: ProcessionError | None) -> None:
        with self._wake:
            self._synced = number
            self._sync_error = error
            if error is not None or self._telling:
                self._wake.notify()

    # --- trouble --------------------------------------------------------------------------------------------
    def _trouble(self, problem: ProcessionError) -> None:
        if isinstance(problem, DiskFull):
            was = self.health
            self._become("no_room")
            self._probe_at = self._monotonic() + PROBE_PERIOD_S
            if was != "full":
                self._on_event("storage.full", {"error": str(problem)})
        else:
            self._fail(problem)

    def _fail(self, problem: ProcessionError) -> None:
        if self._failure is None:
            self._failure = problem
            self._become("failure")
            self._on_event("storage.failed", {"error": str(problem)})

    def _probe(self) -> bool:
        """See whether there is room again: a write of nothing says it."""
        self._probe_at = self._monotonic() + PROBE_PERIOD_S
        try:
            self._store.write((), sync=False)
        except ProcessionError as problem:
            self._trouble(problem)
        else:
            self._become("room")
            self._on_event("storage.recovered", {})
            self._on_recovered()
        return True

    def _become(self, event: HealthEvent) -> None:
        self.health = HEALTH[self.health, event]

    # --- reading --------------------------------------------------------------------------------------------
    def _read_soon(self, session: str, at: int | None, done: OnRestored) -> None:
        job = partial(self._read, session, at, done)
        if not self._threaded:
            job()
        elif not self._readers.submit(job):
            done(_closed() if self._closing else HostOverloaded("too many sessions are being read"))

    def _read(self, session: str, at: int | None, done: OnRestored) -> None:
        try:
            found: Restored | ProcessionError = restore(self._store.rows(session), at=at)
        except ProcessionError as problem:
            problem.session = session
            found = problem
        except Exception as problem:  # noqa: BLE001 - whoever waits is told, whatever it was
            found = StorageError(f"{type(problem).__name__}: {problem}", session=session)
        done(found)

    def _mend(self, session: str, done: OnRestored, found: Restored | ProcessionError) -> None:
        if isinstance(found, ProcessionError) or found.repair is None:
            done(found)
        else:
            self.submit((), "batch", partial(self._repair, session, found, done))

    def _repair(self, session: str, restored: Restored, done: OnRestored, error: ProcessionError | None) -> None:
        """Cut a torn end off, in the writer's thread: before anything is written after it."""
        repair = restored.repair
        assert repair is not None
        if error is not None:
            done(error)
            return
        try:
            self._store.replace_journal(session, repair.journal, repair.aside, repair.why)
        except ProcessionError as problem:
            self._trouble(problem)
            done(_copy(problem))
            return
        self._on_event("journal.repaired", {"session": session, "bytes": len(repair.aside), "why": repair.why})
        done(restored)


def _of_bug(bug: Exception) -> StorageError:
    """Return what a write failed with that nobody expected: nothing is written after it."""
    return StorageError(f"{type(bug).__name__}: {bug}; nothing is written any more", code="storage_failed")


def _started(target: Callable[[], None], name: str) -> threading.Thread:
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread


def _closed() -> ProcessionError:
    return StorageError("the journal is closed", code="closed")


def _copy(error: ProcessionError) -> ProcessionError:
    """Return an error like it: each caller raises one of its own."""
    return from_data(to_data(error))
