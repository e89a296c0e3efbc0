"""The mailbox of one session as one value under one lock: ledger, channel, status page, arena and the one timer of its calls.

    accepted -> sent -> over        each call is over exactly once (law 1); the ledger (core/call_ledger.py) says by whom

The ledger decides; this sends, keeps deadlines, and tells. It is *not* what the session says, nor how processes come and go
(session_calls.py), nor how a caller's thread waits (call_waiting.py). Nothing here decodes a body, and nothing runs a
caller's code under the lock.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import msgspec

from procession.host import call_errors, clock
from procession.host.core import outcome_book
from procession.host.core.call_ledger import CallLedger
from procession.host.core.journal_entries import Outcome
from procession.host.core.outcome_book import Lookup, OutcomeBook
from procession.host.host_call import RUN_SLACK_S, UNSTARTED_SLACK_S, HostCall
from procession.host.payload_arena import PayloadArena, read_region
from procession.ipc.core import status_page
from procession.ipc.core.backend import Done, Request, Response
from procession.ipc.core.bounds import (
    FRAME_BYTES_MAX,
    INLINE_BYTES_MAX,
    MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    SESSION_OVERRUN_GRACE_S,
)
from procession.ipc.core.call_chain import check_chain
from procession.ipc.core.errors import MailboxFull, MessageTooLarge, ProcessionError, SessionRestarting
from procession.ipc.core.messages import Arena, ArenaFree, Call, Cancel, Inline, Reply, encode
from procession.ipc.core.operations import Nothing
from procession.ipc.core.request_body import encoded_body
from procession.ipc.transport.channel import Channel
from procession.ipc.transport.reactor import Reactor, Timer

if TYPE_CHECKING:
    from procession.host.session_journal import SessionJournal

#: What a request may hold beside its frame's own fields.
_BODY_BYTES_MAX: Final = MESSAGE_BYTES_MAX - FRAME_BYTES_MAX
_CONTROL_BODY_BYTES_MAX: Final = FRAME_BYTES_MAX // 2
_NOTHING: Final = encode(Nothing())
_NEVER: Final = float("inf")
_monotonic = clock.monotonic
#: What is to be run once the lock is let go.
Afters = list[Callable[[], None]]


class CallMailbox:
    """See the module's text. `overdue(call)` asks for the session to be ended, `wake` for a process; neither holds the lock."""

    def __init__(
        self, reactor: Reactor, session: str, overdue: Callable[[HostCall], None], wake: Callable[[], None]
    ) -> None:
        self.lock = threading.Lock()
        self.session = session
        self.channel: Channel | None = None
        self.is_held = False
        """Whether calls that come wait, though there is a process."""
        self.served = 0
        self.failed = 0
        self._reactor = reactor
        self._overdue = overdue
        self._wake_session = wake
        self._ledger: CallLedger[HostCall] = CallLedger()
        self._arena: PayloadArena | None = None
        self._page = -1
        self._timer: Timer | None = None
        self._timer_at = _NEVER
        self._gone: ProcessionError | None = None
        self.journal: SessionJournal | None = None
        self.former: Lookup | None = None
        """Finds outcomes of calls that this mailbox has no record of itself."""
        self._outcomes: OutcomeBook | None = None  # made for the first call that its caller gave an id
        self._unread: dict[int, HostCall] = {}  # answered, by an answer that still lies in the arena

    # --- a call begins --------------------------------------------------------------------------------------
    def make(self, request: Request, done: Done | None) -> HostCall:
        """Encode a request into a call; raises MessageTooLarge, CallCycle."""
        if request.chain:
            check_chain(request.chain, self.session)
        payload = request.payload
        if payload is not None and len(payload) > PAYLOAD_BYTES_MAX:
            raise MessageTooLarge(
                f"a payload of {len(payload)} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes",
                session=self.session,
                code="payload_too_large",
            )
        if type(request.body) is Nothing:
            body = _NOTHING
        else:
            body = encoded_body(request)
            if len(body) > (_CONTROL_BODY_BYTES_MAX if request.op.lane == "control" else _BODY_BYTES_MAX):
                raise MessageTooLarge(f"a request of {len(body)} bytes does not fit a message", session=self.session)
        return HostCall(request, body, done, _monotonic())

    def accept(self, call: HostCall) -> Channel | None:
        """Take a call in and send it if that can be. Returns the channel when the call's caller leads it from now on.

        One that was made before, by its id, is answered as that one was, or when that one is.

        Raises MailboxFull, SessionRestarting, DiskFull, StorageError, and whatever the calls were closed with.
        """
        if call.given_id and self.former is not None:
            self._look_up(call.given_id, self.former)
        with self.lock:
            channel, ledger = None if self.is_held else self.channel, self._ledger
            if self._gone is not None:
                raise call_errors.own(self._gone, call, self.session)
            if call.given_id and self._is_known(call):
                return None
            if channel is None and call.request.fail_fast and not self.is_held:
                self._wake_session()
                raise SessionRestarting("the session has no process just now", session=self.session)
            if self.journal is not None and call.request.op.agent == "changes":
                self._check_can_be_kept(call, self.journal)
            elif self.journal is None and call.request.durability not in ("", "memory"):
                raise call_errors.not_durable(call.request.durability)
            if ledger.waiting:
                self._let_in()
            try:
                ledger.open(call, wait=call.request.wait and bool(ledger.waiting))
            except MailboxFull:
                self._open_crowded(call)
            if call.due < self._timer_at:
                self._arm(call.due)
            if channel is not None:
                if call.state == "queued":
                    self._send(channel, call, call.timeout_s)
                leads = call.done is None and call.request.op.lane != "run"
                return channel if leads and channel.take_lead(call) else None
        if call.request.wakes:
            self._wake_session()
        return None

    def _check_can_be_kept(self, call: HostCall, journal: SessionJournal) -> None:
        """Refuse what would change the state, before anything of it runs, while no change can be kept."""
        if journal.level(call.request.durability) != "memory":
            error = journal.refusal()
            if error is not None:
                error.session = self.session
                raise error

    def _look_up(self, given_id: str, former: Lookup) -> None:
        """Take the outcome of a call that a former host answered, if there is one, into the book of this one."""
        with self.lock:
            if self._ledger.open_by_id(given_id) is not None or self._book().find(given_id, clock.wall()) is not None:
                return
        outcome = former(given_id)
        if outcome is not None:
            with self.lock:
                self._remember(outcome)

    def _is_known(self, call: HostCall) -> bool:
        """Answer a call that was made before, or have it wait for the one that is under way. The lock is held.

        Raises InvalidRequest (call_id_reused).
        """
        first = self._ledger.open_by_id(call.given_id)
        if first is not None:
            if first.op != call.op:
                raise call_errors.reused(call, first.op, self.session)
            call.is_twin = True
            self._ledger.join(call)
            first.twins = [*(first.twins or ()), call]
            if call.due < self._timer_at:
                self._arm(call.due)
            return True
        outcome = self._book().find(call.given_id, clock.wall())
        if outcome is None:
            return False
        told = outcome_book.told(outcome, call.op, self.session)
        if isinstance(told, ProcessionError):
            told.session, told.call_id = self.session, call.given_id
        call.outcome = told
        return True

    def _book(self) -> OutcomeBook:
        if self._outcomes is None:
            self._outcomes = OutcomeBook()
        return self._outcomes

    def _op_of(self, given_id: str) -> str:
        """Return the operation of a call that is over, empty when it is not known. The lock is held."""
        found = self._book().find(given_id, clock.wall())
        return "" if found is None else found.op

    def _remember(self, outcome: Outcome) -> None:
        """Keep how a call ended whose caller may ask again. The lock is held."""
        self._book().keep(outcome)

    def _open_crowded(self, call: HostCall) -> None:
        """Take a call in when there seems to be no room; only then is the page asked how far the session is."""
        self._look_at_page()
        try:
            self._ledger.open(call, wait=call.request.wait)
        except MailboxFull as full:
            full.session = self.session
            if call.op == "run":  # the one verb that can be asked to wait
                full.hint += ", or pass wait=True to queue"
            raise

    def _look_at_page(self) -> None:
        """Learn how far the session is. A query that its loop is in right now has started; a run is only being queued."""
        if self._page >= 0:
            page = status_page.read(os.pread(self._page, status_page.USED_BYTES, 0))
            if page is not None:
                inside = self._ledger.get(page.running)
                running = page.running if inside is not None and inside.lane == "query" else 0
                self._ledger.started_up_to(max(page.last_started, running))

    def _send(self, channel: Channel, call: HostCall, timeout_s: float | None) -> None:
        """Give a queued call to the channel; one whose payload finds no place waits. The lock is held."""
        data = call.request.payload
        payload: Inline | Arena | None = None
        if data is not None:
            payload = Inline(data) if len(data) <= INLINE_BYTES_MAX else self._place(call, data)
            if payload is None:
                self._ledger.put_off(call)
                return
        ledger = self._ledger
        ledger.sent(call)
        message = Call(call.inc, call.seq, call.op, timeout_s, msgspec.Raw(call.body), payload, call.request.chain)
        if call.done is None and call.lane != "control":
            channel.post(message)
            return
        if call.done is not None:
            channel.unpark()  # nobody will read for it but the reactor
        channel.connection.send(message, control=call.lane == "control")
        if call.done is not None and len(ledger) > 1 and self._reactor.in_loop():
            channel.flush_soon()  # more of this turn's calls may follow: one write for all of them
        else:
            channel.flush()

    def _send_again(self, channel: Channel, call: HostCall) -> None:
        """Send a call that has waited: with what is left of its time."""
        self._send(channel, call, None if call.timeout_s is None else max(0.0, call.deadline - _monotonic()))

    def _place(self, call: HostCall, data: bytes) -> Arena | None:
        assert self._arena is not None
        place = self._arena.place(data)
        if isinstance(place, Arena):
            call.region = place.offset
            self._arena.fill(place, data)
            return place
        return None

    def _let_in(self) -> None:
        """Send calls that waited for room. The lock is held."""
        self._look_at_page()
        channel = None if self.is_held else self.channel
        while (call := self._ledger.let_in()) is not None:
            if channel is not None:
                self._send_again(channel, call)
                if call.state == "waiting":  # the arena has no room for it
                    return

    # --- a call ends ----------------------------------------------------------------------------------------
    def _finish(self, call: HostCall, outcome: Reply | ProcessionError, after: Afters) -> None:
        """Give a call that the ledger has closed its outcome. The lock is held."""
        self.served += 1
        if call.region is not None:
            if self._arena is not None and call.inc == self._ledger.inc:
                self._arena.free(call.region)
            call.region = None
        if type(outcome) is not Reply:
            self.failed += 1
            if outcome.elapsed_s is None:  # type: ignore[union-attr]
                outcome.elapsed_s = _monotonic() - call.opened_at  # type: ignore[union-attr]
        if call.given_id:
            outcome = self._finish_known(call, outcome, after)
        call.outcome = outcome
        if type(outcome) is Reply and type(outcome.payload) is Arena:
            self._unread[call.seq] = call
        if call.done is not None:
            told = partial(self._tell, call, call.done)
            if call.telling is None:
                after.append(told)
            else:
                call.telling.add(told, after)
        elif call.gate is not None:
            gate, call.gate = call.gate, None
            gate.release()
        elif self.channel is not None:
            self.channel.wake(call)

    def _finish_known(self, call: HostCall, outcome: Reply | ProcessionError, after: Afters) -> Reply | ProcessionError:
        """Remember how a call with an id ended, and end those that are the same call. The lock is held."""
        if call.is_twin:
            return outcome
        kept = call.kept
        if kept is None:
            kept = self._outcome(call.given_id, call.op, outcome)
            if kept is not None and self.journal is not None:
                self.journal.submit([self.journal.outcome(kept)], "memory", None)
        if kept is not None:
            self._remember(kept)
        twins, call.twins = call.twins, None
        if twins:
            outcome = self._rescued(outcome)
        for twin in twins or ():
            if self._ledger.close(twin.seq, call.how, _monotonic()) is twin:
                told = outcome if type(outcome) is Reply else call_errors.own(outcome, twin, self.session)  # type: ignore[arg-type]
                self._finish(twin, told, after)
        return outcome

    def _outcome(self, given_id: str, op: str, answer: Reply | ProcessionError, *, applied: int = 0) -> Outcome | None:
        """Return what is kept of an answer; None for one that says that nothing was run. The lock is held."""
        if isinstance(answer, ProcessionError):
            return outcome_book.of_error(given_id, op, clock.wall(), answer)
        payload: bytes | None = None
        if isinstance(answer.payload, Inline):
            payload = answer.payload.data
        elif isinstance(answer.payload, Arena):
            assert self._arena is not None
            kept = min(
                answer.payload.length, outcome_book.PAYLOAD_KEPT_BYTES_MAX + 1
            )  # one more says that it is too large
            payload = read_region(self._arena.open_results(), Arena(answer.payload.offset, kept))
        return outcome_book.of_reply(given_id, op, clock.wall(), answer, payload, applied=applied)

    def _rescued(self, answer: Any) -> Any:
        """Return an answer with all of it in it, and nothing in the arena. The lock is held."""
        if type(answer) is not Reply or type(answer.payload) is not Arena:
            return answer
        assert self._arena is not None
        data = read_region(self._arena.open_results(), answer.payload)
        self._free(answer.inc, answer.payload)
        return Reply(answer.inc, answer.seq, answer.body, Inline(data), answer.ops)

    def _tell(self, call: HostCall, done: Done) -> None:
        outcome = call.outcome
        if type(outcome) is Reply:
            try:
                outcome = self.respond(call, outcome)
            except ProcessionError as error:
                outcome = error
        done(outcome)

    def _end(self, call: HostCall, error: ProcessionError, after: Afters, inside_until: float = 0.0) -> None:
        """Close an open call from this side. The lock is held."""
        if self._ledger.close(call.seq, error.code, _monotonic(), inside_until=inside_until) is call:
            self._finish(call, error, after)

    def respond(self, call: HostCall, reply: Reply) -> Response:
        """Read a reply's payload, in the thread of the one who asked for it."""
        payload = reply.payload
        if payload is None:
            data = None
        elif type(payload) is Inline:
            data = payload.data
        else:
            data = self._read_arena(call)
        return Response(reply.body, data, call.given_id)

    def _read_arena(self, call: HostCall) -> bytes:
        """Read an answer that lies in the arena, or was taken from there when the process ended."""
        with self.lock:
            self._unread.pop(call.seq, None)
            place = call.outcome.payload
            if type(place) is Inline:
                return place.data
            assert isinstance(place, Arena)
            assert self._arena is not None, "what nobody had read was taken out"
            fd = self._arena.open_results()
        data = read_region(fd, place)
        with self.lock:
            self._free(call.inc, place)
        return data

    def _free(self, inc: int, place: Arena) -> None:
        """Give the session a region of its arena back. The lock is held."""
        if inc == self._ledger.inc and self.channel is not None:
            self.channel.connection.send(ArenaFree(inc, place.offset, place.length), control=True)
            self.channel.flush()

    # --- deadlines ------------------------------------------------------------------------------------------
    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._reactor.call_at(when, self._check_deadlines)

    def _arm_next(self) -> None:
        """Have the timer look when the next call is due. The lock is held."""
        due = self._ledger.next_due()
        if due is not None and due < self._timer_at and self._gone is None:
            self._arm(due)

    def put_back(self, by_s: float) -> None:
        """Give every call so much more time, as the reactor gave our timer: the host was gone."""
        with self.lock:
            self._ledger.put_back(by_s)
            self._timer_at += by_s

    def _check_deadlines(self) -> None:
        after: Afters = []
        with self.lock:
            now = _monotonic()
            self._timer_at = _NEVER
            due = self._ledger.expired(now)
            if due:
                self._look_at_page()
            overdue = [call for call in due if self._is_overdue(call, now, after)]
            if self._ledger.waiting:
                self._let_in()
            self._arm_next()
        run_all(after)
        for call in overdue:
            self._overdue(call)

    def _is_overdue(self, call: HostCall, now: float, after: Afters) -> bool:
        """Decide about a call that is due. The lock is held. True: the session is to be ended for it."""
        if call.state in ("answered", "joined"):
            self._end(call, call_errors.late_answer(call, self.session), after)
            return False
        with_process = call.state in ("sent", "started")
        started = call.state == "started" or (with_process and call.lane == "control")
        if call.lane == "run" and with_process:
            until = call.deadline + (RUN_SLACK_S if started else UNSTARTED_SLACK_S)  # the session's own time to end it
            if now < until:
                self._ledger.postpone(call, until)
                return False
            if started:
                call.overdue = True
                return True
        if not started:
            self._end(call, call_errors.expired(call, self.session), after)
        else:  # a query that the loop is in has its grace before the session is ended for it
            grace_s = SESSION_OVERRUN_GRACE_S if call.lane == "query" else 0.0
            inside_until = call.deadline + grace_s if grace_s else 0.0
            self._end(call, call_errors.timed_out(call, self.session), after, inside_until)
        if with_process:
            self._send_cancel(call)
        return False

    def _send_cancel(self, call: HostCall) -> None:
        if self.channel is not None:
            self.channel.connection.send(Cancel(call.inc, call.seq), control=True)
            self.channel.flush()


def run_all(after: Afters) -> None:
    """Run what was put off until the lock is let go."""
    for callback in after:
        callback()
