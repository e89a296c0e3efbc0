"""What is kept of one session: its state as it was acknowledged, in memory and in the journal, and the record of who it is.

    commit(ops) ──▶ fold ──▶ what the next incarnation begins with          memory, always
         │                                                                 without a journal that is all there is
         '──▶ SessionJournal ──▶ records, a snapshot when it is due         a host with a data folder
    at rest: forgotten in memory, read back when it wakes

It is *not* what decides when a change counts (kept_calls.py) nor what the fold does (core/state_fold.py). Rules: the fold is
guarded by the calls' lock; disk is read and written in the journal's threads only; what is told of it, in the reactor's.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from functools import partial
from typing import TYPE_CHECKING, Final, get_args

import msgspec

from procession.host.core.journal_entries import DeleteSession, Item, PutSession, PutSnapshot
from procession.host.core.state_fold import StateFold, named_in
from procession.ipc.core.agent_keys import FINISHED_KEY, JOBS_KEY, SERVER_KEYS
from procession.ipc.core.agent_records import FinishedStatus
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import InvalidRequest, JournalCorrupt, ProcessionError, ProtocolError
from procession.ipc.core.operations import DURABILITIES, Durability
from procession.ipc.core.values import encode_value

if TYPE_CHECKING:
    from procession.host.core.journal import Restored
    from procession.host.core.session_record import SessionRecord
    from procession.host.engine import Engine
    from procession.host.session import SessionActor
    from procession.host.session_journal import SessionJournal

#: Changes of an agent's state are folded this much after the first of them, unless there are many or somebody asks.
SETTLE_S: Final = 0.05
#: The record of a code session, as its key stands in ops that change it.
_RECORD: Final = b"\xa7session"
_JOBS: Final = JOBS_KEY.encode()

Then = Callable[[ProcessionError | None], None]
State = tuple[bytes, int]
"""A state, encoded, and the number of its last change."""


class SessionKeeping:
    """See the module's text. has_jobs: whether its agent has asked for cron jobs."""

    def __init__(self, engine: Engine, actor: SessionActor, record: SessionRecord | None) -> None:
        self.has_jobs = record is not None and record.has_jobs
        self._engine = engine
        self._actor = actor
        self._lock = actor.calls.lock
        self._settling = False
        self._is_deleted = False
        self._finished: tuple[FinishedStatus, bytes] | None = None if record is None else record.finished
        self.journal: SessionJournal | None = None
        self._fold: StateFold | None = None
        spec = actor.spec
        self._is_code_session = not spec.agent and not spec.agent_code
        if record is None:
            self._fold = StateFold(spec.state if self._is_code_session else b"")
        if engine.journal is not None:
            from procession.host.session_journal import SessionJournal

            level = spec.durability or engine.options.durability
            assert level in DURABILITIES
            self.journal = SessionJournal(engine.journal, actor.id, level, self._snapshot_due)
            actor.calls.journal = self.journal
            if record is not None:
                self.journal.number = record.number  # until it is read back, for people
                actor.calls.former = engine.journal.outcome_of(actor.id)

    # --- the state in memory --------------------------------------------------------------------------------
    @property
    def fold(self) -> StateFold | None:
        """The state; None while it is only in the journal."""
        return self._fold

    @property
    def number(self) -> int:
        """The number of the last change that was acknowledged."""
        fold = self._fold
        return fold.number if fold is not None else self.journal.number if self.journal is not None else 0

    def begin_with(self, state: bytes) -> None:
        """Have a state that was another session's, encoded: its agent goes on with it."""
        self._fold = StateFold(state)

    def commit(self, ops: bytes) -> None:
        """Take a change of the agent's state; the calls' lock is held. Raises ProtocolBreach."""
        fold = self._fold
        assert fold is not None, "a session that has a process has its state here"
        if fold.commit(ops) and not self._settling:
            self._settling = True
            reactor = self._engine.reactor
            reactor.call_at(reactor.now() + SETTLE_S, self.settle)
        if _RECORD in ops and self._is_code_session:
            self._renamed(fold)
        if self.journal is not None and not self.has_jobs and _JOBS in ops:
            self.has_jobs = True
            self._engine.reactor.call_soon(self.save)

    def _renamed(self, fold: StateFold) -> None:
        before = self._actor.name
        self._actor.name = named_in(fold.state, before)
        if self._actor.name != before:
            self._engine.reactor.call_soon(self.save)

    def settle(self) -> None:
        """Fold what waits, while nobody does; ops that are none are found out then, at the latest."""
        try:
            with self._lock:
                self._settling = False
                if self._fold is not None:
                    self._fold.settle()
        except ProtocolBreach as breach:
            self.broken(breach.reason)

    def broken(self, reason: str) -> None:
        """What the session said does not fold: it is ended for that, and what it said after the last good change is gone."""
        with self._lock:
            if self._fold is not None and self.journal is not None:
                self._fold.number = self.journal.number
                self.journal.is_behind = True
        self._engine.reactor.call_soon(partial(self._actor.broke, reason))
        self._snapshot_due()

    def state(self, without: Collection[str] = SERVER_KEYS) -> bytes | None:
        """Return the state as it was last committed, encoded, without what is the server's; None when it is not here.

        Raises ProtocolError when what the session said of it does not fold: it is ended for that.
        """
        try:
            with self._lock:
                fold = self._fold
                if fold is None or not fold.is_known:
                    return None
                state = fold.without(without)
                if not self._actor.running:
                    fold.forget_decoded()
                return state
        except ProtocolBreach as breach:
            self.broken(breach.reason)
            raise ProtocolError(
                f"the session's state cannot be read: {breach.reason}", session=self._actor.id, ran="no"
            ) from None

    @property
    def is_unknown(self) -> bool:
        """Whether there is no state, here or anywhere: its agent has not begun."""
        return self._fold is not None and not self._fold.is_known

    def finished(self) -> tuple[FinishedStatus, bytes] | None:
        """Return how its agent said that it finished, when it was stopped, and its answer, encoded; None when it did not."""
        try:
            with self._lock:
                if self._fold is None or not self._fold.is_known:
                    return self._finished
                found = self._fold.state.get(FINISHED_KEY)
        except ProtocolBreach:
            return None
        if type(found) is not dict or found.get("status") not in get_args(FinishedStatus):
            return None
        return found["status"], encode_value(found.get("value"), nodes_max=RESULT_NODES_MAX)

    def boot_state(self) -> bytes | None:
        """Return what the next process goes on with; None when its agent has yet to begin. Raises ProtocolBreach."""
        with self._lock:
            assert self._fold is not None
            return self._fold.encoded if self._fold.is_known else None

    # --- the state on disk ----------------------------------------------------------------------------------
    def read(
        self,
        at: int | None,
        done: Callable[[State | ProcessionError], None],
        without: Collection[str] = SERVER_KEYS,
    ) -> None:
        """Give the state, now or as change `at` left it; `done` is called here or in one of the journal's threads."""
        journal = self._engine.journal
        with self._lock:
            fold, number = self._fold, self.number
        if fold is not None and at in (None, number):
            try:
                state = self.state(without)
            except ProtocolError as error:
                done(error)
                return
            done((state or b"", number))
        elif journal is None:
            done(gone(at or 0, number, number, self._actor.id))
        else:
            journal.read(self._actor.id, at, partial(self._was_read, done, without))

    def _was_read(
        self,
        done: Callable[[State | ProcessionError], None],
        without: Collection[str],
        found: Restored | ProcessionError,
    ) -> None:
        if isinstance(found, ProcessionError):
            found.session = self._actor.id
            done(found)
            return
        try:
            done((found.fold.without(without) if found.fold.is_known else b"", found.number))
        except ProtocolBreach as breach:
            done(
                ProtocolError(f"the session's state cannot be read: {breach.reason}", session=self._actor.id, ran="no")
            )

    def load(self, then: Then) -> None:
        """Have the state in memory; `then` is called in the reactor's thread, with why it cannot be had. It may be at once."""
        journal = self._engine.journal
        if self._fold is not None:
            then(None)
            return
        assert journal is not None, "without a journal the state is never dropped"

        def loaded(found: Restored | ProcessionError) -> None:
            self._engine.reactor.call_soon(partial(self._loaded, then, found))

        journal.load(self._actor.id, loaded)

    def _loaded(self, then: Then, found: Restored | ProcessionError) -> None:
        if not isinstance(found, ProcessionError) and found.snapshot < 0 and self._is_code_session:
            found = JournalCorrupt("the state that it began with is missing", hint="the data is kept as it is")
        if isinstance(found, ProcessionError):
            found.session = self._actor.id
            then(found)
            return
        with self._lock:
            if self._fold is None:
                self._fold = found.fold
                assert self.journal is not None
                self.journal.begin(found)
                if self._is_code_session:
                    self._actor.name = named_in(found.fold.state, self._actor.name)
        for note in found.notes:
            self._engine.events.emit("session.repaired", self._actor.id, self._actor.incarnation, text=note)
        if self.journal is not None and self.journal.is_behind:
            self._snapshot_due()
        then(None)

    def drop(self) -> None:
        """Write down that it is at rest, and then forget the state in memory, if the journal has all of it.

        Till that is known (what was acknowledged at once may not be written yet) it is kept as bytes alone.
        """
        self._forget_decoded()
        self.save(self._drop_kept)  # told after all that was written of this session before

    def _drop_kept(self, _: ProcessionError | None) -> None:
        journal = self.journal
        if journal is None or journal.is_behind or not self._actor.is_at_rest:
            return
        self._finished = self.finished()
        with self._lock:
            if self._fold is not None and self._fold.is_known and not self._actor.calls.holds:
                self._fold = None

    def _forget_decoded(self) -> None:
        try:
            with self._lock:
                if self._fold is not None:
                    self._fold.forget_decoded()
        except ProtocolBreach as breach:
            self.broken(breach.reason)

    def go_back(self) -> None:
        """Changes were refused: number the next one as if they had not been. The calls' lock is held."""
        if self.journal is not None and self._fold is not None:
            self.journal.number = self._fold.number

    # --- snapshots ------------------------------------------------------------------------------------------
    def _snapshot_due(self) -> None:
        if self.journal is not None:
            self._engine.reactor.call_soon(self.snapshot)

    def snapshot(self) -> None:
        """Write the state as it is now; the reactor's thread."""
        from procession.host.core.journal import encode_snapshot

        journal = self.journal
        assert journal is not None
        try:
            with self._lock:
                fold = self._fold
                if fold is None or not fold.is_known or journal.refusal() is not None:
                    journal.ask_again()
                    return
                state, number = fold.state, fold.number
                journal.begin_snapshot()
        except ProtocolBreach as breach:
            self.broken(breach.reason)
            return
        encoded = encode_value(state, path="state", nodes_max=RESULT_NODES_MAX)
        journal.snapshot(number, len(encoded), encode_snapshot(number, encoded), self._snapshot_is)

    def _snapshot_is(self, error: ProcessionError | None) -> None:
        if error is not None and self.journal is not None:
            with self._lock:
                self.journal.is_behind = True

    def catch_up(self) -> None:
        """There is room on the disk again: write what could not be."""
        if self.journal is None or self._is_deleted:
            return
        self.save()
        if self.journal.is_behind:
            self.snapshot()

    # --- the record -----------------------------------------------------------------------------------------
    def create(self) -> None:
        """Write down that the session is there, with what it begins with; whoever started it is told once that is written."""
        if self.journal is None:
            return
        from procession.host.core.journal import encode_snapshot

        items: list[Item] = [PutSession(self._actor.id, self._record())]
        begins = self._actor.spec.state if self._is_code_session else self.boot_state()
        if begins:
            items.append(PutSnapshot(self._actor.id, 0, encode_snapshot(0, begins)))
        self.journal.submit(items, "memory", None)

    def save(self, then: Then | None = None) -> None:
        """Write down how the session is now; without `then`, in its own time. The calls' lock is not held."""
        if self.journal is None or self._is_deleted:
            if then is not None:
                then(None)
            return
        item = PutSession(self._actor.id, self._record())
        if then is None:
            self.journal.submit([item], "memory", None)
        else:
            self._write([item], then)

    def delete(self, then: Then) -> None:
        """Take everything of it out of the journal."""
        self._is_deleted = True
        if self.journal is None:
            then(None)
        else:
            self._write([DeleteSession(self._actor.id)], then)

    def _write(self, items: list[Item], then: Then) -> None:
        reactor = self._engine.reactor
        assert self.journal is not None
        level: Durability = "sync" if self.journal.durability == "sync" else "batch"
        self.journal.submit(items, level, lambda error: reactor.call_soon(partial(then, error)))

    def _record(self) -> bytes:
        from procession.host.core.session_record import SessionRecord, encode_session, tail_of

        actor = self._actor
        spec = msgspec.structs.replace(actor.spec, state=b"") if self._is_code_session else actor.spec
        grants = self._engine.tools.granted(actor.id)
        return encode_session(
            SessionRecord(
                id=actor.id,
                name=actor.name,
                created_at=actor.created_at,
                spec=spec,
                phase=actor.phase,
                was_up=actor.was_up,
                reason=actor.why_at_rest if not actor.running else "",
                incarnation=actor.incarnation,
                restarts=actor.restarts,
                number=self.number,
                last_report=actor.last_report,
                output=tail_of(actor.output.chunks()[0]),
                tier=grants.tier,
                consented=grants.consented,
                has_jobs=self.has_jobs,
                finished=self.finished(),
            )
        )


def gone(at: int, first: int, last: int, session: str) -> InvalidRequest:
    """Say that a state of long ago is not kept any more."""
    return InvalidRequest(
        f"the state after change {at} is not kept: {first} to {last} can be had",
        code="sequence_gone",
        session=session,
    )
