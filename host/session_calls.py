"""The calls of one session over all its incarnations: what its process says, how processes come and go, and what can be seen.

The mailbox itself is in call_mailbox.py. When a process dies, the calls it had started are answered with what is known; those it
had not (their number is above the status page's last started) wait for the next incarnation, in order.
"""

from __future__ import annotations

import dataclasses
import threading
from collections.abc import Callable
from typing import Any, Final, get_args

from procession.host import call_errors, clock
from procession.host.call_listing import call_info, past_info
from procession.host.call_mailbox import Afters, run_all
from procession.host.call_streams import CallStreams
from procession.host.call_waiting import call_and_wait
from procession.host.core.allowance import Allowance, Pace
from procession.host.core.call_ledger import CallLedger
from procession.host.host_call import HostCall
from procession.host.kept_calls import KeptCalls
from procession.host.payload_arena import PayloadArena
from procession.ipc.core.backend import Done, Outcome, Request, Response
from procession.ipc.core.bounds import EVENT_BURST, EVENT_RATE_S
from procession.ipc.core.errors import (
    CallCycle,
    HostLost,
    MailboxFull,
    MessageTooLarge,
    ProcessionError,
    SessionRestarting,
)
from procession.ipc.core.messages import (
    Arena,
    Commit,
    Effect,
    Failed,
    Reply,
    Spawn,
    StreamChunk,
    StreamEnd,
    StreamOpen,
    Subscribers,
)
from procession.ipc.core.records import CallInfo, OutputChunk
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor, tell_surprise

#: Effects of one agent a second and at once: as many at once as one command may ask for. What is more waits in its pipe.
EFFECT_RATE_S: Final = 2_000
EFFECT_BURST: Final = 1_000
#: A start is as much work for the host as so many signals: twenty at once, forty a second.
SPAWN_COST: Final = 50
#: Handled before the loop looks at anything else: some milliseconds of work, when all of them start or tell somebody.
HANDED_ON_MAX: Final = 32
#: A session that tells more than it may is not read for this long: a flooder then costs the host 20 reads a second.
SLOWED_S: Final = 0.05
_EFFECTS: Final = frozenset(get_args(Effect))
_monotonic = clock.monotonic


class SessionCalls(KeptCalls):
    """See the module's text. `overdue(call)` asks for the session to be ended, `other(message)` takes what is no call's,
    `commit(ops)` the changes of its agent's state, before the answer that follows them is let out (the lock is held).
    `followed()` says whether its signals are followed, and how its agent is doing.
    """

    def __init__(
        self,
        reactor: Reactor,
        *,
        session: str,
        overdue: Callable[[HostCall], None],
        other: Callable[[Any], None],
        output: Callable[[OutputChunk], None],
        wake: Callable[[], None],
        commit: Callable[[bytes], None],
        followed: Callable[[], tuple[bool, bool]],
    ) -> None:
        super().__init__(reactor, session, overdue, wake, commit)
        self._followed = followed
        self.notices = Allowance(EVENT_RATE_S, EVENT_BURST, _monotonic())
        self._effects = Pace(EFFECT_RATE_S, EFFECT_BURST, _monotonic())
        self._other = other
        self._others: list[Any] = []
        self._streams = CallStreams(reactor, output)
        self._slowed = False
        self._asked = 0  # of the calls that were made, by the host itself

    # --- a call begins --------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome in this thread; raises the error it ended with."""
        return call_and_wait(self, request)

    def submit(self, request: Request, done: Done) -> HostCall:
        """Start a call; `done` gets its one outcome in the reactor's thread or a caller's."""
        try:
            call = self.make(request, done)
        except (MessageTooLarge, CallCycle) as error:
            done(error)
            return HostCall(request, b"", done, _monotonic())
        try:
            self.accept(call)
        except ProcessionError as error:
            done(error)
        else:
            if not call.seq:  # it was answered before
                self._tell(call, done)
        return call

    def cast(
        self, request: Request, failed: Callable[[ProcessionError], None], handled: Callable[[], None] | None = None
    ) -> bool:
        """Send a signal that nobody waits for; False, and nothing of it is kept, when it cannot be sent at once.

        It is in the mailbox until it was handled, and there is no deadline on that: whoever cast it has gone on. failed: gets
        the error it ends with, in any thread; handled: is told when it ends well. Raises MessageTooLarge, DiskFull.
        """
        with self.lock:
            if self.channel is None or self.is_held or self._ledger.waiting:
                return False

        def done(outcome: Outcome) -> None:
            if isinstance(outcome, ProcessionError):
                failed(outcome)
            elif handled is not None:
                handled()

        try:
            self.accept(self.make(dataclasses.replace(request, timeout_s=None), done))
        except MailboxFull:
            return False
        return True

    # --- what the session says ------------------------------------------------------------------------------
    def dispatch(self, messages: list[Any]) -> After | None:
        """Handle messages of the session; the lock is held. Returns what to run without it."""
        after: Afters = []
        ledger = self._ledger
        pause_s = 0.0
        for message in messages:
            kind = type(message)
            if kind is Reply:
                if type(message.payload) is Arena:
                    assert self._arena is not None
                    self._arena.check(message.payload)
                self._replied(message, after)
            elif kind is Failed:
                self._replied(message, after)
            elif kind is Commit:
                self._committed(message, after)
            elif kind is StreamOpen:
                self._streams.open(message, ledger.get(message.seq))
            elif kind is StreamChunk or kind is StreamEnd:
                assert self.channel is not None
                self._streams.take(message, self.channel, after)
            elif kind in _EFFECTS:
                pause_s = max(pause_s, self._effects.take(_monotonic(), SPAWN_COST if kind is Spawn else 1))
                if self._held:
                    self._held.behind(message)
                elif not self._refusing:
                    self._pass_on(message)
            elif self.notices.take(_monotonic()):
                self._pass_on(message)
            else:
                pause_s = max(pause_s, SLOWED_S)
        if pause_s or self._holds_too_much:
            self._slow_down(pause_s or SLOWED_S)
        if ledger.waiting:
            self._let_in()
        return after

    def _pass_on(self, message: Any) -> None:
        """Have a message that is no call's handled in the reactor's thread, in its turn. The lock is held."""
        self._others.append(message)
        if len(self._others) == 1:
            self._reactor.call_soon(self._hand_on_some)

    def _hand_on_some(self) -> None:
        """Handle as much of it as a turn of the loop has time for."""
        self.hand_on(HANDED_ON_MAX)
        if self._others:
            self._reactor.call_soon(self._hand_on_some)

    def hand_on(self, count: int | None = None) -> None:
        """Handle what the session said that is no call's, now: `count` of it, or all; the reactor's thread."""
        with self.lock:
            messages, self._others = self._others[:count], [] if count is None else self._others[count:]
        for message in messages:
            try:
                self._other(message)
            except Exception as problem:  # noqa: BLE001 - a bug of ours: an event, and the next message all the same
                tell_surprise(self._reactor, problem, self.hand_on)

    def _slow_down(self, pause_s: float) -> None:
        """Read nothing more from a session that floods, for a while. The lock is held."""
        if not self._slowed and self.channel is not None:
            self._slowed = True
            self.channel.hold(True)
            self._reactor.call_at(_monotonic() + pause_s, self._go_on)

    def _go_on(self) -> None:
        with self.lock:
            self._slowed = False
            if self.channel is not None:
                self.channel.hold(False)

    # --- a lull (session_lull.py) ---------------------------------------------------------------------------
    def hold(self) -> None:
        """Give the process no more calls: those that come wait, for `release` or for the next process."""
        with self.lock:
            self.is_held = self.channel is not None

    def release(self) -> None:
        """Give the process what waited, in order."""
        with self.lock:
            if self.is_held and self.channel is not None:
                self.is_held = False
                for call in self._ledger.on_birth(self._ledger.inc):
                    self._send_again(self.channel, call)
                self._let_in()

    @property
    def is_clear(self) -> bool:
        """Whether nothing is with the process, or on its way from it to anybody."""
        with self.lock:
            with_process = len(self._ledger) - self._ledger.count("waiting", "queued")
            return with_process == 0 and not self._others and not self._held

    def ask(self, request: Request, done: Done) -> None:
        """Make a call of the host's own beside those that are held."""
        call = self.make(request, done)
        with self.lock:
            if self.channel is not None:
                self._asked += 1
                self._ledger.open(call)
                if call.due < self._timer_at:
                    self._arm(call.due)
                self._send(self.channel, call, call.timeout_s)
                return
        done(SessionRestarting("the session has no process just now", session=self.session))

    # --- who follows it -------------------------------------------------------------------------------------
    def tell_followed(self) -> None:
        """Tell the session whether anybody follows it; before any call that is sent later. Any thread."""
        with self.lock:
            self._tell_followed()

    def _tell_followed(self) -> None:
        channel = self.channel
        if channel is not None:
            signals, status = self._followed()
            channel.connection.send(Subscribers(channel.connection.incarnation, signals, status), control=True)
            channel.flush()

    # --- incarnations ---------------------------------------------------------------------------------------
    def attach(self, channel: Channel, incarnation: int, page: int, arena: PayloadArena) -> None:
        """A process is ready: send what waits, in order, and let callers that wait without one look again (one will lead)."""
        with self.lock:
            self.channel = channel
            self._page = page
            self._arena = arena
            if any(self._followed()):
                self._tell_followed()
            for call in self._ledger.on_birth(incarnation):
                self._send_again(channel, call)
            self._let_in()
            for call in self._ledger.open_calls():
                if call.gate is not None:
                    gate, call.gate = call.gate, None
                    gate.release()

    def detach(self, error: ProcessionError, refusal: Callable[[], ProcessionError], *, keep: bool) -> None:
        """The process is over: answer what it had started with `error`, the rest with a `refusal` (or keep it).

        keep: another incarnation will come and takes what was not started, in order, and casts that were, once.
        """
        after: Afters = []
        with self.lock:
            self._look_at_page()
            self.channel = None
            self.is_held = False
            self._rescue()
            self._refusing = False
            self._arena = None
            self._page = -1
            self._streams.clear()
            left = self._ledger.on_death()
            for call in left.begun:
                if keep and call.repeats and not call.cancelled and not call.overdue:
                    call.repeats -= 1
                    call.region = None
                    self._ledger.again(call)
                else:
                    self._end(call, call_errors.death(call, error, self.session), after)
            for call in left.withdrawn:
                self._end(call, call_errors.not_sent(call, self.session), after)
            for call in left.kept:
                call.region = None
                if not keep:
                    self._end(call, call_errors.own(refusal(), call, self.session), after)
            self._arm_next()
        run_all(after)

    def refuse_all(self, error: Callable[[], ProcessionError]) -> None:
        """Answer every call that waits for a process: none will come."""
        after: Afters = []
        with self.lock:
            for call in [c for c in self._ledger.open_calls() if c.state in ("queued", "waiting")]:
                self._end(call, call_errors.own(error(), call, self.session), after)
        run_all(after)

    def close(self, error: ProcessionError) -> None:
        """Refuse every call from now on."""
        with self.lock:
            self._gone = error
            if self._timer is not None:
                self._timer.cancel()

    # --- cancelling and looking -----------------------------------------------------------------------------
    def cancel(self, call: HostCall) -> str:
        """Ask for a call's end. Returns `not_sent`, `cancelling` (its outcome says the rest) or `too_late`."""
        after: Afters = []
        with self.lock:
            if call.state == "closed" or not call.seq:
                return "too_late"
            if call.state in ("sent", "started"):
                if not call.cancelled:
                    call.cancelled = True
                    self._send_cancel(call)
                return "cancelling"
            self._end(call, call_errors.not_sent(call, self.session), after)
            if self._ledger.waiting:
                self._let_in()
        run_all(after)
        return "not_sent"

    def shrink(self, count: int) -> None:
        """Forget the calls that are over, but for the last ones."""
        with self.lock:
            self._ledger.shrink(count)

    def patience_of(self, seq: int) -> float | None:
        """Return when the host's patience ends with a call it has given up on and the session is still in."""
        return self._ledger.patience_of(seq)

    def pending(self) -> bool:
        """Whether a call is open (the lock is held)."""
        return len(self._ledger) > 0

    @property
    def made(self) -> int:
        """Calls in all, but for the host's own."""
        return self._ledger.made - self._asked

    @property
    def used_at(self) -> float:
        """When the last call that is over was made, 0 when there was none; monotonic seconds."""
        with self.lock:
            return next((past[4] for past in reversed(self._ledger.recent) if past[2] != "quiet"), 0.0)

    @property
    def late(self) -> int:
        """Answers that came after their calls were over."""
        return self._ledger.late

    @property
    def waiting(self) -> int:
        """Calls that wait for a process, or for room."""
        with self.lock:
            return self._ledger.count("waiting", "queued")

    @property
    def open(self) -> int:
        """Calls a process has."""
        with self.lock:
            return self._ledger.count("sent", "started")

    @property
    def started_open(self) -> int:
        """Commands that the process has taken up and not answered: going away with these is no orderly end."""
        with self.lock:
            self._look_at_page()
            return self._ledger.count("started")

    def find(self, call_id: str) -> HostCall | None:
        """Return the open call with this id."""
        with self.lock:
            return self._ledger.find(call_id)

    def outcome_of(self, call_id: str) -> str | None:
        """Return how a call ended, while that is remembered."""
        with self.lock:
            return self._ledger.outcome_of(call_id, _monotonic())

    def infos(self) -> list[CallInfo]:
        """List the open calls, oldest first, then the last ones that are over."""
        now = _monotonic()
        with self.lock:
            self._look_at_page()
            found = [call_info(call, now) for call in self._ledger.open_calls()]
            return found + [past_info(past, now) for past in self._ledger.recent]

    def forget_after_fork(self, error: HostLost) -> None:
        """In a forked child: nothing is here any more."""
        self.lock = threading.Lock()
        self._gone = error
        if self.channel is not None:
            self.channel.lock = self.lock
            self.channel.forget_after_fork()
            self.channel = None
        self._ledger = CallLedger()
