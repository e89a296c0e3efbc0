"""The calls of one session over all its incarnations: what its process says, how processes come and go, and what can be seen.

The mailbox itself is in call_mailbox.py. When a process dies, the calls it had started are answered with what is known; those it
had not (their number is above the status page's last started) wait for the next incarnation, in order.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from functools import partial
from typing import Any, Final

from procession.host import call_errors, clock
from procession.host.call_listing import call_info, past_info
from procession.host.call_mailbox import Afters, CallMailbox, run_all
from procession.host.call_streams import CallStreams
from procession.host.call_waiting import call_and_wait
from procession.host.core.allowance import Allowance
from procession.host.core.call_ledger import CallLedger, Missed
from procession.host.host_call import HostCall
from procession.host.payload_arena import PayloadArena
from procession.ipc.core.backend import Done, Request, Response
from procession.ipc.core.bounds import EVENT_BURST, EVENT_RATE_S
from procession.ipc.core.errors import HostLost, MessageTooLarge, ProcessionError, from_data
from procession.ipc.core.messages import Arena, Failed, Reply, StreamChunk, StreamEnd, StreamOpen
from procession.ipc.core.records import CallInfo, OutputChunk
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor

#: A session that tells more than it may is not read for this long: a flooder then costs the host 20 reads a second.
SLOWED_S: Final = 0.05
_monotonic = clock.monotonic


class SessionCalls(CallMailbox):
    """See the module's text. `overdue(call)` asks for the session to be ended, `other(message)` takes what is no call's."""

    def __init__(
        self,
        reactor: Reactor,
        *,
        session: str,
        overdue: Callable[[HostCall], None],
        other: Callable[[Any], None],
        output: Callable[[OutputChunk], None],
        wake: Callable[[], None],
    ) -> None:
        super().__init__(reactor, session, overdue, wake)
        self.notices = Allowance(EVENT_RATE_S, EVENT_BURST, _monotonic())
        self._other = other
        self._streams = CallStreams(output)
        self._slowed = False

    # --- a call begins --------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome in this thread; raises the error it ended with."""
        return call_and_wait(self, request)

    def submit(self, request: Request, done: Done) -> HostCall:
        """Start a call; `done` gets its one outcome in the reactor's thread or a caller's."""
        try:
            call = self.make(request, done)
        except MessageTooLarge as error:
            done(error)
            return HostCall(request, b"", done, _monotonic())
        try:
            self.accept(call)
        except ProcessionError as error:
            done(error)
        return call

    # --- what the session says ------------------------------------------------------------------------------
    def dispatch(self, messages: list[Any]) -> After | None:
        """Handle messages of the session; the lock is held. Returns what to run without it."""
        after: Afters = []
        ledger = self._ledger
        for message in messages:
            kind = type(message)
            if kind is Reply:
                payload = message.payload
                if type(payload) is Arena:
                    assert self._arena is not None
                    self._arena.check(payload)
                call = ledger.reply(message.seq, message.inc, "ok", _monotonic())
                if type(call) is HostCall:
                    self._finish(call, message, after)
                elif type(payload) is Arena:
                    self._free(message.inc, payload)
            elif kind is Failed:
                error = from_data(message.error)
                answered = ledger.reply(message.seq, message.inc, error.code, _monotonic())
                if not isinstance(answered, Missed):
                    error.session, error.call_id = self.session, answered.call_id
                    self._finish(answered, error, after)
            elif kind is StreamOpen:
                self._streams.open(message, ledger.get(message.seq))
            elif kind is StreamChunk or kind is StreamEnd:
                assert self.channel is not None
                self._streams.take(message, self.channel, after)
            elif self.notices.take(_monotonic()):
                self._reactor.call_soon(partial(self._other, message))
            else:
                self._slow_down()
        if ledger.waiting:
            self._let_in()
        return after

    def _slow_down(self) -> None:
        """Read nothing more from a session that floods, for a moment. The lock is held."""
        if not self._slowed and self.channel is not None:
            self._slowed = True
            self.channel.hold(True)
            self._reactor.call_at(_monotonic() + SLOWED_S, self._go_on)

    def _go_on(self) -> None:
        with self.lock:
            self._slowed = False
            if self.channel is not None:
                self.channel.hold(False)

    # --- incarnations ---------------------------------------------------------------------------------------
    def attach(self, channel: Channel, incarnation: int, page: int, arena: PayloadArena) -> None:
        """A process is ready: send what waits, in order, and let callers that wait without one look again (one will lead)."""
        with self.lock:
            self.channel = channel
            self._page = page
            self._arena = arena
            for call in self._ledger.on_birth(incarnation):
                self._send_again(channel, call)
            self._let_in()
            for call in self._ledger.open_calls():
                if call.gate is not None:
                    gate, call.gate = call.gate, None
                    gate.release()

    def detach(self, error: ProcessionError, refusal: Callable[[], ProcessionError], *, keep: bool) -> None:
        """The process is over: answer what it had started with `error`, the rest with a `refusal` (or keep it).

        keep: another incarnation will come and takes what was not started, in order.
        """
        after: Afters = []
        with self.lock:
            self._look_at_page()
            self.channel = None
            self._arena = None
            self._page = -1
            self._streams.clear()
            left = self._ledger.on_death()
            for call in left.begun:
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

    def patience_of(self, seq: int) -> float | None:
        """Return when the host's patience ends with a call it has given up on and the session is still in."""
        return self._ledger.patience_of(seq)

    def pending(self) -> bool:
        """Whether a call is open (the lock is held)."""
        return len(self._ledger) > 0

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
