"""Answers that wait for the journal: what a session says is let out, in order, once the changes before it are kept.

    Reply, Commit with ops ──▶ journal ──▶ kept ──▶ folded, answered           without a journal: folded, answered, at once
    what could have seen them ───────────▶ behind them, in order
    not kept (disk full, failed) ────────▶ their calls get the error, the fold is as before, the session process is ended

The middle of a session's calls, between the mailbox (call_mailbox.py) and what the session says (session_calls.py). It is
*not* where the order is decided (core/commit_queue.py). Rules: nothing is folded that was not kept at the level asked for; a
call that is answered and waits here ends at its deadline all the same; a death takes no answer back that is already here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from procession.host import call_errors, clock
from procession.host.call_mailbox import Afters, CallMailbox, run_all
from procession.host.core.call_ledger import Missed
from procession.host.core.commit_queue import BYTES_MAX, CommitQueue, Held
from procession.host.core.journal_entries import Item, Outcome
from procession.host.host_call import HostCall
from procession.ipc import kill_points
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import DiskFull, ProcessionError, from_data
from procession.ipc.core.messages import EMPTY, Arena, Commit, Failed, Reply
from procession.ipc.transport.reactor import Reactor

_monotonic = clock.monotonic
_NOTHING: Final = b""


class KeptCalls(CallMailbox):
    """See the module's text. `commit(ops)` folds a change and `go_back()` takes back the numbers of those that were refused (the
    lock is held); `breach(reason)` and `refused(error)` ask for the end of the process, without it.
    """

    def __init__(
        self,
        reactor: Reactor,
        session: str,
        overdue: Callable[[HostCall], None],
        wake: Callable[[], None],
        commit: Callable[[bytes], None],
    ) -> None:
        super().__init__(reactor, session, overdue, wake)
        self._commit = commit
        self.breach: Callable[[str], None] = _ignore
        self.refused: Callable[[ProcessionError], None] = _ignore
        self.go_back: Callable[[], None] = _nothing
        self._held: CommitQueue[Any] = CommitQueue()
        self._refusing = False
        self._settled: list[Callable[[], None]] = []
        self._to_tell: Afters = []

    def _pass_on(self, message: Any) -> None:
        """Have a message that is no call's handled in the reactor's thread, in its turn. The lock is held."""
        raise NotImplementedError

    # --- what the session says ------------------------------------------------------------------------------
    def _replied(self, message: Reply | Failed, after: Afters) -> None:
        """Take an answer. The lock is held. Raises ProtocolBreach."""
        ops = bytes(message.ops) if type(message) is Reply and message.ops != EMPTY else _NOTHING
        if self.journal is None:
            if ops:
                self._commit(ops)
            self._answer(message, after)
            return
        if self._refusing:  # its process is being ended, for what it said before
            return
        call = self._ledger.get(message.seq)
        given_id = call.given_id if call is not None else self._ledger.late_id(message.seq)
        if ops or (given_id and _ran(message)):
            self._keep(message, ops, call, given_id, after)
        elif self._held and (call is None or call.request.op.agent):
            self._hold(message)
        else:
            self._answer(message, after)

    def _committed(self, message: Commit, after: Afters) -> None:
        """Take a change that no answer brings. The lock is held. Raises ProtocolBreach."""
        ops = bytes(message.ops)
        call = self._ledger.get(message.seq) if message.seq else None
        if self.journal is None:
            self._commit(ops)
            self._note_change(message, True)
        elif not self._refusing:
            self._note_change(message, None)
            self._keep(message, ops, call, "", after)

    def _note_change(self, message: Commit, is_kept: bool | None) -> None:
        """Take note of what became of a change that a call led to before its answer. The lock is held."""
        call = self._ledger.get(message.seq) if message.seq else None
        if call is not None:
            call.changed = is_kept

    def _keep(
        self, message: Reply | Failed | Commit, ops: bytes, call: HostCall | None, given_id: str, after: Afters
    ) -> None:
        """Have the journal keep a change, an outcome or both, before anybody hears of it. The lock is held."""
        journal = self.journal
        assert journal is not None
        level = journal.level(call.request.durability if call is not None else "")
        if ops and journal.is_behind and level != "memory":
            self._held.change(ops, self._marked(message))
            self._refuse(journal.refusal() or DiskFull("its journal has not caught up yet"), after)
            return
        items: list[Item] = journal.change(message.inc, message.seq, given_id, ops) if ops else []
        outcome: Outcome | None = None
        if given_id and not isinstance(message, Commit):
            answer = message if isinstance(message, Reply) else from_data(message.error)
            op = call.op if call is not None else self._op_of(given_id)
            outcome = self._outcome(given_id, op, answer, applied=journal.number if ops else 0)
            if outcome is not None:
                items.append(journal.outcome(outcome))
                if call is not None:
                    call.kept = outcome
        if level == "memory" and not self._held:
            if ops:
                self._commit(ops)
            if isinstance(message, Commit):
                self._note_change(message, True)
            else:
                self._answer(message, after)
            journal.submit(items, level, self._fell_behind)
            return
        ticket = self._held.change(ops, self._marked(message) or outcome)
        journal.submit(items, level, partial(self._written, ticket))

    def _hold(self, message: Any) -> None:
        """Let something out only after the changes before it. The lock is held."""
        marked = self._marked(message)
        if marked is not None:
            self._held.behind(marked)

    def _marked(self, message: Any) -> Any:
        """Take note that a call is answered; None for an answer that nobody waits for. The lock is held."""
        is_answer = isinstance(message, Reply | Failed)
        return None if is_answer and isinstance(self._ledger.answered(message.seq, message.inc), Missed) else message

    @property
    def holds(self) -> bool:
        """Whether anything waits for the journal. The lock is held."""
        return len(self._held) > 0

    @property
    def _holds_too_much(self) -> bool:
        return self._held.bytes > BYTES_MAX or (self.journal is not None and not self.journal.has_room)

    # --- what the journal says (its thread) -----------------------------------------------------------------
    def _written(self, ticket: int, error: ProcessionError | None) -> None:
        """Let out what waited for a change, or refuse it with all that came after."""
        after: Afters = []
        broke = ""
        with self.lock:
            if error is not None:
                self._refuse(error, after, ticket)
            else:
                try:
                    self._let_out(self._held.kept(ticket), after)
                except ProtocolBreach as breach:
                    broke = breach.reason
            if not self._held and self._settled:
                settled, self._settled = self._settled, []
                after += settled
            is_first = bool(after) and not self._to_tell
            self._to_tell += after
        if broke:
            self.breach(broke)
        if is_first:  # what a group of changes leads to is told in one turn of the loop
            self._reactor.call_soon(self._tell_all)

    def _tell_all(self) -> None:
        with self.lock:
            after, self._to_tell = self._to_tell, []
        run_all(after)

    def _let_out(self, leaves: list[Held[Any]], after: Afters) -> None:
        """Fold what is kept and tell who waits. The lock is held. Raises ProtocolBreach."""
        kill_points.reach("before_reply")
        for held in leaves:
            if held.ops:
                self._commit(held.ops)
            message = held.what
            if isinstance(message, Commit):
                self._note_change(message, True)
            elif isinstance(message, Reply | Failed):
                self._release(message, after)
            elif isinstance(message, Outcome):  # of a call that had been given up
                self._remember(message)
            elif message is not None:
                self._pass_on(message)

    def _release(self, message: Reply | Failed, after: Afters) -> None:
        """Give a call its answer that waited; one that was ended meanwhile has another. The lock is held."""
        call = self._ledger.get(message.seq)
        if call is None or call.state != "answered":
            return
        outcome = _outcome_of(message, call, self.session)
        self._ledger.close(call.seq, "ok" if isinstance(outcome, Reply) else outcome.code, _monotonic())
        self._finish(call, outcome, after)

    def _refuse(self, error: ProcessionError, after: Afters, ticket: int = 0) -> None:
        """A change cannot be kept: it did not happen, and all that came after it was never said. The lock is held."""
        lost = self._held.refused(ticket) if ticket else self._held.clear()
        if not lost:
            return
        self._refusing = self.channel is not None  # else what said it is over, and the next process knows nothing of it
        self.go_back()
        for held in lost:
            message = held.what
            if isinstance(message, Commit):
                self._note_change(message, False)
            elif isinstance(message, Reply | Failed):
                call = self._ledger.get(message.seq)
                if call is not None and call.state == "answered":
                    call.kept = None
                    self._end(call, call_errors.not_kept(call, error, self.session), after)
        after.append(partial(self.refused, error))

    def _fell_behind(self, error: ProcessionError | None) -> None:
        """Something that was acknowledged at once could not be written."""
        if error is not None:
            with self.lock:
                assert self.journal is not None
                self.journal.is_behind = True

    def when_settled(self, then: Callable[[], None]) -> None:
        """Call `then` once nothing waits for the journal: now, or in the reactor's thread."""
        with self.lock:
            if self._held:
                self._settled.append(then)
                return
        then()

    # --- answers --------------------------------------------------------------------------------------------
    def _answer(self, message: Reply | Failed, after: Afters) -> None:
        """Give a call its answer. The lock is held. Raises ProtocolBreach."""
        if type(message) is Reply:
            call = self._ledger.reply(message.seq, message.inc, "ok", _monotonic())
            if type(call) is HostCall:
                self._finish(call, message, after)
            elif type(message.payload) is Arena:
                self._free(message.inc, message.payload)
            return
        assert isinstance(message, Failed)
        error = from_data(message.error)
        answered = self._ledger.reply(message.seq, message.inc, error.code, _monotonic())
        if not isinstance(answered, Missed):
            error.session, error.call_id = self.session, answered.call_id
            self._finish(answered, error, after)

    def _rescue(self) -> None:
        """Read what answers that nobody has taken yet say in the arena of a process that is over. The lock is held."""
        self._held.map(self._rescued)
        for call in self._unread.values():
            call.outcome = self._rescued(call.outcome)
        self._unread.clear()


def _outcome_of(message: Reply | Failed, call: HostCall, session: str) -> Reply | ProcessionError:
    if isinstance(message, Reply):
        return message
    error = from_data(message.error)
    error.session, error.call_id = session, call.call_id
    return error


def _ran(message: Reply | Failed) -> bool:
    return isinstance(message, Reply) or message.error.ran != "no"


def _nothing() -> None:
    """Nobody has asked to be told yet."""


def _ignore(_: Any) -> None:
    """Nobody has asked to be told yet."""
