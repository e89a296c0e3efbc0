"""The calls of one session: its mailbox, ledger and channel as one value under one lock, over all its incarnations.

    accepted -> queued (no process yet) -> sent -> over        each call is over exactly once (law 1)

A call goes out as soon as there is a channel. When the process dies, those it had started are answered with what is known;
those it had not (their number is above the status page's last started) wait for the next incarnation, in order. Deadlines
are kept by one timer per session. Nothing here decodes a body, and nothing runs a caller's code under the lock.
"""

from __future__ import annotations

import os
import threading
from collections import deque
from collections.abc import Callable
from typing import Any, Final

import msgspec

from procession.host import clock
from procession.host.core.allowance import Allowance
from procession.host.host_call import RUN_SLACK_S, UNSTARTED_SLACK_S, HostCall
from procession.host.payload_arena import PayloadArena, read_region
from procession.ipc.core import status_page
from procession.ipc.core.backend import Done, Item, Request, Response
from procession.ipc.core.bounds import (
    EVENT_BURST,
    EVENT_RATE_S,
    FRAME_BYTES_MAX,
    INLINE_BYTES_MAX,
    MAILBOX_BYTES_MAX,
    MAILBOX_COMMANDS_MAX,
    MESSAGE_BYTES_MAX,
    PAYLOAD_BYTES_MAX,
    SESSION_OVERRUN_GRACE_S,
)
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    ExpiredInQueue,
    HostLost,
    MailboxFull,
    MessageTooLarge,
    ProcessionError,
    SessionDied,
    SessionRestarting,
    ToolTimedOut,
    from_data,
)
from procession.ipc.core.messages import (
    Arena,
    ArenaFree,
    Call,
    Cancel,
    Failed,
    Inline,
    Reply,
    StreamChunk,
    StreamCredit,
    StreamEnd,
    StreamOpen,
    encode,
)
from procession.ipc.core.operations import Nothing
from procession.ipc.core.records import CallInfo, OutputChunk
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor, Timer

#: Outcomes of a session that `calls()` still lists.
RECENT_CALLS: Final = 256
#: Calls whose callers are gone but whose session still owes an answer.
LATE_MAX: Final = 10_000
#: How long an interrupted caller waits to be able to say what became of its work.
INTERRUPT_WAIT_S: Final = 3.0
#: A session that tells more than it may is not read for this long: a flooder then costs the host 20 reads a second.
SLOWED_S: Final = 0.05
_STREAMS: Final = {1: "stdout", 2: "stderr"}
_RAW_NOTHING: Final = b"\x80"
_monotonic = clock.monotonic
#: A call that is over, as little of it as `calls()` shows: number, id, op, incarnation, begin, timeout, outcome.
_Past = tuple[int, str, str, int, float, "float | None", str]


class SessionCalls:
    """See the module's text. `overdue(call)` asks for the session to be ended, `other(message)` takes what is no call's."""

    def __init__(
        self, reactor: Reactor, *, session: str, overdue: Callable[[HostCall], None], other: Callable[[Any], None],
        output: Callable[[OutputChunk], None], wake: Callable[[], None],
    ) -> None:
        self.lock = threading.Lock()
        self.session = session
        self.channel: Channel | None = None
        self.incarnation = 0
        self.served = 0
        self.failed = 0
        self.late = 0
        self._reactor = reactor
        self._overdue = overdue
        self._other = other
        self._output = output
        self._wake_session = wake
        self._calls: dict[int, HostCall] = {}  # sent, by number
        self._queue: deque[HostCall] = deque()  # accepted, no channel to send them by
        self._waiting: deque[HostCall] = deque()  # accepted with wait=, no room in the mailbox yet
        self._late: set[int] = set()
        self._patience: dict[int, float] = {}
        self._streams: dict[tuple[int, int], HostCall | None] = {}
        self.notices = Allowance(EVENT_RATE_S, EVENT_BURST, _monotonic())
        self._slowed = False
        self._recent: deque[_Past] = deque(maxlen=RECENT_CALLS)
        self._next_seq = 1
        self._bytes = 0  # of the calls not known to have started
        self._last_started = 0
        self._arena: PayloadArena | None = None
        self._page = -1
        self._timer: Timer | None = None
        self._timer_at = float("inf")
        self._gone: ProcessionError | None = None

    # --- a call begins --------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome in this thread; raises the error it ended with."""
        call = HostCall(request, None, _monotonic())
        if request.on_item is not None:
            call.items = deque()
        self._accept(call)
        try:
            self._await(call)
        except KeyboardInterrupt as interrupt:
            self._interrupted(call, interrupt)
            raise
        return self._result(call)

    def submit(self, request: Request, done: Done) -> HostCall:
        """Start a call; `done` gets its one outcome in the reactor's thread or a caller's."""
        call = HostCall(request, done, _monotonic())
        try:
            self._accept(call)
        except ProcessionError as error:
            call.state = "over"
            done(error)
        return call

    def _accept(self, call: HostCall) -> None:
        request = call.request
        if call.size > PAYLOAD_BYTES_MAX:
            raise MessageTooLarge(f"a payload of {call.size} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes",
                                  session=self.session, code="payload_too_large")
        body = _RAW_NOTHING if type(request.body) is Nothing else encode(request.body)
        if len(body) > (FRAME_BYTES_MAX // 2 if request.op.lane == "control" else MESSAGE_BYTES_MAX - FRAME_BYTES_MAX):
            raise MessageTooLarge(f"a request of {len(body)} bytes does not fit a message", session=self.session)
        with self.lock:
            if self._gone is not None:
                raise self._gone
            call.seq = self._next_seq
            self._next_seq += 1
            full = None
            if len(self._calls) + len(self._queue) >= MAILBOX_COMMANDS_MAX or self._bytes + call.size > MAILBOX_BYTES_MAX:
                full = self._full(call)
            if full is not None:
                if not request.wait:
                    raise full
                self._waiting.append(call)
            elif self.channel is None:
                if request.fail_fast:
                    raise SessionRestarting("the session has no process just now", session=self.session)
                self._queue.append(call)
            else:
                self._send(call, body)
            self._bytes += call.size + len(body)
            call.size += len(body)
            if call.due < self._timer_at:
                self._arm(call.due)
            wake = self.channel is None
        if wake:
            self._wake_session()

    def _full(self, call: HostCall) -> MailboxFull | None:
        """Say whether the mailbox is at its bound; only then is the status page asked how far the session is."""
        if call.request.op.lane == "control":
            return None
        self._look_at_page()
        unstarted = [c for c in (*self._calls.values(), *self._queue) if c.seq > self._last_started]
        self._bytes = sum(c.size for c in unstarted if c.region is None)
        inline = call.size if call.size <= INLINE_BYTES_MAX else 0
        if len(unstarted) < MAILBOX_COMMANDS_MAX and self._bytes + inline <= MAILBOX_BYTES_MAX:
            return None
        return MailboxFull(f"{len(unstarted)} calls ({self._bytes} bytes) wait in this session's mailbox already",
                           session=self.session, hint="wait for some of them, or pass wait=True to queue")

    def _look_at_page(self) -> None:
        """Learn how far the session is. A call that its loop is in right now has started, whatever else the page says."""
        if self._page >= 0:
            page = status_page.read(os.pread(self._page, status_page.USED_BYTES, 0))
            if page is not None:
                inside = self._calls.get(page.running)
                running = page.running if inside is not None and inside.request.op.lane != "control" else 0
                self._last_started = max(self._last_started, min(page.last_started, self._next_seq - 1), running)

    def _send(self, call: HostCall, body: bytes) -> None:
        """Give a call to the channel. The lock is held."""
        channel = self.channel
        assert channel is not None
        request = call.request
        payload: Inline | Arena | None = None
        data = request.payload
        if data is not None:
            assert self._arena is not None
            payload = self._arena.place(data)
            if payload is None:
                self._waiting.append(call)  # the arena is full: it waits for room like any other
                return
            if isinstance(payload, Arena):
                call.region = payload.offset
                self._arena.fill(payload, data)
        timeout_s = None if request.timeout_s is None else max(0.0, call.deadline - _monotonic())
        control = request.op.lane == "control"
        call.state = "sent"
        call.incarnation = self.incarnation
        self._calls[call.seq] = call
        busy = len(self._calls) > 1
        channel.connection.send(
            Call(self.incarnation, call.seq, request.op.name, timeout_s, msgspec.Raw(body), payload), control=control
        )
        if call.done is not None:
            channel.unpark()  # nobody will read for it but the reactor
        if busy and call.done is not None and self._reactor.in_loop():
            channel.flush_soon()  # more of this turn's calls may follow: one write for all of them
        else:
            channel.flush()

    # --- waiting --------------------------------------------------------------------------------------------
    def _await(self, call: HostCall) -> None:
        while call.outcome is None:
            channel = self.channel
            if channel is not None and not channel.closed:
                channel.wait(call, _monotonic() + 60.0)  # its end is told by outcome: the timer keeps the deadline
            else:
                self._await_gate(call)
            self._hand_out(call)
        self._hand_out(call)

    def _await_gate(self, call: HostCall) -> None:
        """Wait without a process: until the outcome comes, or there is one again."""
        with self.lock:
            if call.outcome is not None or call.items:
                return
            gate = call.gate = threading.Lock()
            gate.acquire()
        gate.acquire(timeout=60.0)
        with self.lock:
            call.gate = None

    def _hand_out(self, call: HostCall) -> None:
        """Give what the call streamed to its caller, in the caller's thread."""
        items = call.items
        while items:
            item = items.popleft()
            assert call.request.on_item is not None
            call.request.on_item(item)

    def _interrupted(self, call: HostCall, interrupt: KeyboardInterrupt) -> None:
        """Ctrl-C: end the work, wait for its end (bounded), and say what became of it."""
        self.cancel(call)
        until = _monotonic() + INTERRUPT_WAIT_S
        while call.outcome is None and _monotonic() < until:
            channel = self.channel
            if channel is None or channel.closed:
                break
            channel.wait(call, until)
            call.items = None
        outcome = call.outcome
        if isinstance(outcome, ProcessionError):
            report = outcome.report
            left = f", {report.processes_found} processes found, {report.processes_left} left" if report else ""
            interrupt.add_note(f"procession: {call.request.op.name} was cancelled ({outcome.code}{left})")
        elif outcome is not None:
            interrupt.add_note(f"procession: {call.request.op.name} had already finished")
        else:
            interrupt.add_note(f"procession: {call.request.op.name} was told to stop; its end is not known yet")

    def _result(self, call: HostCall) -> Response:
        outcome = call.outcome
        if isinstance(outcome, ProcessionError):
            raise outcome
        return self._respond(call, outcome)

    def _respond(self, call: HostCall, outcome: Any) -> Response:
        """Read a reply's payload, in the thread of the one who asked for it."""
        if isinstance(outcome, Response):
            return outcome
        payload = outcome.payload
        data: bytes | None = None
        if isinstance(payload, Inline):
            data = payload.data
        elif payload is not None:
            data = self._read_arena(call, payload)
        return Response(outcome.body, data, call.request.call_id)

    def _read_arena(self, call: HostCall, place: Arena) -> bytes:
        with self.lock:
            if call.incarnation != self.incarnation or self._arena is None:
                raise SessionDied("the session ended before its result could be read", session=self.session, ran="yes")
            fd = self._arena.open_results()
        data = read_region(fd, place)
        self._free(call.incarnation, place)
        return data

    def _free(self, incarnation: int, place: Arena) -> None:
        with self.lock:
            if incarnation == self.incarnation and self.channel is not None:
                self.channel.connection.send(ArenaFree(incarnation, place.offset, place.length), control=True)
                self.channel.flush()

    # --- what the session says ------------------------------------------------------------------------------
    def dispatch(self, messages: list[Any]) -> After | None:
        """Handle messages of the session; the lock is held. Returns what to run without it."""
        after: list[Callable[[], None]] = []
        for message in messages:
            kind = type(message)
            if kind is Reply:
                call = self._answered(message.seq)
                if call is None:
                    if isinstance(message.payload, Arena):
                        self._free_unread(message.payload)
                    continue
                if isinstance(message.payload, Arena):
                    assert self._arena is not None
                    self._arena.check(message.payload)
                self._finish(call, message, after)
            elif kind is Failed:
                error = from_data(message.error)
                call = self._answered(message.seq, ran=error.ran != "no")
                if call is not None:
                    error.session, error.call_id = self.session, call.call_id
                    self._finish(call, error, after)
            elif kind is StreamChunk:
                self._chunk(message, after)
            elif kind is StreamOpen:
                self._streams[message.seq, message.stream] = self._calls.get(message.seq)
            elif kind is StreamEnd:
                owner = self._streams.pop((message.seq, message.stream), None)
                if message.dropped:
                    self._item(owner, message.seq, message.stream, b"", message.dropped, after)
            elif self.notices.take(_monotonic()):
                self._reactor.call_soon(lambda message=message: self._other(message))  # type: ignore[misc]
            else:
                self._slow_down()
        if self._waiting:
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

    def _answered(self, seq: int, *, ran: bool = True) -> HostCall | None:
        """Take the call that was answered off the list. ran: not when it was refused, which says nothing of those before it."""
        call = self._calls.pop(seq, None)
        if call is not None:
            if ran and call.request.op.lane != "control":
                self._last_started = max(self._last_started, seq)
            self._bytes = max(0, self._bytes - call.size)
            if call.region is not None:
                assert self._arena is not None
                self._arena.free(call.region)
            return call
        if seq in self._late:
            self._late.discard(seq)
            self._patience.pop(seq, None)
            self.late += 1
            return None
        raise ProtocolBreach(f"an answer to call {seq}, which is not open")

    def _free_unread(self, place: Arena) -> None:
        assert self.channel is not None
        self.channel.connection.send(ArenaFree(self.incarnation, place.offset, place.length), control=True)

    def _chunk(self, message: StreamChunk, after: list[Callable[[], None]]) -> None:
        owner = self._streams.get((message.seq, message.stream))
        channel = self.channel
        assert channel is not None
        grant = channel.connection.consumed(message.seq, message.stream, len(message.data))
        if grant:
            channel.connection.send(StreamCredit(self.incarnation, message.seq, message.stream, grant), control=True)
        self._item(owner, message.seq, message.stream, message.data, message.dropped, after)

    def _item(
        self, owner: HostCall | None, seq: int, stream: int, data: bytes, dropped: int, after: list[Callable[[], None]]
    ) -> None:
        name = _STREAMS.get(stream)
        if name is None:
            raise ProtocolBreach(f"a stream number {stream} that no operation has")
        chunk = OutputChunk(stream=name, data=data, call=seq, dropped=max(0, dropped))  # type: ignore[arg-type]
        after.append(lambda: self._output(chunk))
        if owner is None or owner.request.on_item is None:
            return
        if owner.items is not None:
            owner.items.append(chunk)
            assert self.channel is not None
            self.channel.wake(owner)
        elif owner.done is not None:
            on_item: Callable[[Item], None] = owner.request.on_item
            after.append(lambda: on_item(chunk))

    def _finish(self, call: HostCall, outcome: Any, after: list[Callable[[], None]] | None) -> None:
        """Give a call its outcome. The lock is held; `after` is None when the caller is told at once (and holds no lock)."""
        call.state = "over"
        self.served += 1
        error = outcome if isinstance(outcome, ProcessionError) else None
        if error is not None:
            self.failed += 1
            if error.elapsed_s is None:
                error.elapsed_s = _monotonic() - call.opened_at
        request = call.request
        self._recent.append((call.seq, request.call_id, request.op.name, call.incarnation, call.opened_at, request.timeout_s,
                             error.code if error else "ok"))
        done = call.done
        if done is None:
            call.outcome = outcome
            if call.gate is not None:
                gate, call.gate = call.gate, None
                gate.release()
            elif self.channel is not None:
                self.channel.wake(call)
            return
        call.outcome = outcome
        assert after is not None
        if error is not None:
            after.append(lambda: done(error))
        else:
            after.append(lambda: self._tell(call, done, outcome))

    def _tell(self, call: HostCall, done: Done, outcome: Any) -> None:
        try:
            response = self._respond(call, outcome)
        except ProcessionError as error:
            done(error)
        else:
            done(response)

    def _let_in(self) -> None:
        """Send calls that waited for room. The lock is held."""
        waiting, self._waiting = self._waiting, deque()
        while waiting:
            call = waiting.popleft()
            if call.state != "queued":
                continue
            if self._waiting or (self._full(call) is not None):
                self._waiting.append(call)
            elif self.channel is None:
                self._queue.append(call)
            else:
                self._send(call, encode(call.request.body))

    # --- incarnations ---------------------------------------------------------------------------------------
    def attach(self, channel: Channel, incarnation: int, page: int, arena: PayloadArena) -> None:
        """A process is ready: send what waits, in order."""
        with self.lock:
            self.incarnation = incarnation
            self.channel = channel
            self._page = page
            self._arena = arena
            queue, self._queue = self._queue, deque()
            for call in queue:
                if call.state == "queued":
                    self._send(call, encode(call.request.body))
            if self._waiting:
                self._let_in()
        self._rouse_waiters()

    def _rouse_waiters(self) -> None:
        """Let callers that wait without a process look again (one of them will lead)."""
        with self.lock:
            for call in [*self._calls.values()]:
                if call.done is None and call.gate is not None:
                    gate, call.gate = call.gate, None
                    gate.release()

    def detach(self, error: ProcessionError, refusal: Callable[[], ProcessionError], *, keep: bool) -> None:
        """The process is over: answer what it had started with `error`, the rest with a `refusal` (or keep it).

        keep: another incarnation will come and takes what was not started, in order.
        """
        after: list[Callable[[], None]] = []
        with self.lock:
            self._look_at_page()
            last = self._last_started
            calls = sorted(self._calls.values(), key=lambda c: c.seq)
            self._calls.clear()
            self._late.clear()
            self._patience.clear()
            self._streams.clear()
            self.channel_closed()
            kept: list[HostCall] = []
            for call in calls:
                call.region = None
                started = call.seq <= last and call.request.op.lane != "control"
                if keep and not started and not call.cancelled and call.request.op.lane != "control":
                    call.state = "queued"
                    kept.append(call)
                    continue
                self._finish(call, self._death_of(call, error, refusal, started), after)
            if keep:
                self._queue.extendleft(reversed(kept))
            self._bytes = sum(c.size for c in self._queue)
        for callback in after:
            callback()

    def channel_closed(self) -> None:
        """Forget the channel and what came with it. The lock is held."""
        self.channel = None
        self._arena = None
        self._page = -1

    def _death_of(
        self, call: HostCall, error: ProcessionError, refusal: Callable[[], ProcessionError], started: bool
    ) -> ProcessionError:
        now = _monotonic()
        told: ProcessionError
        if call.overdue and call.request.op.lane == "run":
            report = error.report
            told = ToolTimedOut(f"{call.request.op.name} was still running {call.request.timeout_s:g} s after it began and did "
                                "not end when told to; the whole session was ended", report=report)
        elif call.overdue:
            told = CallTimedOut(f"{call.request.op.name} had no answer after {call.request.timeout_s:g} s; the session was ended",
                                report=error.report)
        elif started or call.request.op.lane == "control":
            told = type(error)(error.message, code=error.code, ran="maybe", report=error.report, hint=error.hint)
        else:
            told = refusal()
        told.session, told.call_id, told.elapsed_s = self.session, call.call_id, now - call.opened_at
        return told

    def refuse_all(self, error: Callable[[], ProcessionError]) -> None:
        """Answer every call that waits for a process: none will come."""
        after: list[Callable[[], None]] = []
        with self.lock:
            waiting = [*self._queue, *self._waiting]
            self._queue.clear()
            self._waiting.clear()
            self._bytes = 0
            for call in waiting:
                if call.state == "queued":
                    told = error()
                    told.session, told.call_id = self.session, call.call_id
                    self._finish(call, told, after)
        for callback in after:
            callback()

    def close(self, error: ProcessionError) -> None:
        """Refuse every call from now on."""
        with self.lock:
            self._gone = error
            if self._timer is not None:
                self._timer.cancel()

    def pending(self) -> bool:
        """Whether a call is with the process (the lock is held)."""
        return bool(self._calls)

    @property
    def waiting(self) -> int:
        """Calls that wait for a process."""
        return len(self._queue) + len(self._waiting)

    @property
    def open(self) -> int:
        """Calls a process has."""
        return len(self._calls)

    # --- deadlines ------------------------------------------------------------------------------------------
    def _arm(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = when
        self._timer = self._reactor.call_at(when, self._check_deadlines)

    def _check_deadlines(self) -> None:
        after: list[Callable[[], None]] = []
        overdue: list[HostCall] = []
        with self.lock:
            now = _monotonic()
            self._timer_at = float("inf")
            for call in [*self._queue, *self._waiting]:
                if call.deadline <= now and call.state == "queued":
                    self._finish(call, self._expired(call), after)
            self._queue = deque(c for c in self._queue if c.state == "queued")
            self._waiting = deque(c for c in self._waiting if c.state == "queued")
            due = [c for c in self._calls.values() if c.due <= now]
            if due:
                self._look_at_page()
            for call in due:
                if self._deadline_of(call, now, after):
                    overdue.append(call)
            nearest = min((c.due for c in (*self._calls.values(), *self._queue, *self._waiting)), default=float("inf"))
            if nearest < float("inf"):
                self._arm(nearest)
        for callback in after:
            callback()
        for call in overdue:
            self._overdue(call)

    def _deadline_of(self, call: HostCall, now: float, after: list[Callable[[], None]]) -> bool:
        """Decide about a sent call that is due. The lock is held. True: the session is to be ended for it."""
        run = call.request.op.lane == "run"
        started = call.seq <= self._last_started or call.request.op.lane == "control"
        if run and call.due <= call.deadline:
            call.due = call.deadline + (RUN_SLACK_S if started else UNSTARTED_SLACK_S)  # the session's own time to end it
            return False
        if not started:
            self._give_up(call)
            self._finish(call, self._expired(call), after)
            return False
        if run:
            call.overdue = True
            call.due = float("inf")
            return True
        if call.request.op.lane == "query":  # started: the loop is in it, and has its grace before the session is ended
            self._patience[call.seq] = call.deadline + SESSION_OVERRUN_GRACE_S
        self._give_up(call)
        self._finish(call, CallTimedOut(f"{call.request.op.name} had no answer in {call.request.timeout_s:g} s",
                                        session=self.session, call_id=call.call_id), after)
        return False

    def patience_of(self, seq: int) -> float | None:
        """Return when the host's patience ends with a call it has given up on and the session is still in."""
        return self._patience.get(seq)

    def _give_up(self, call: HostCall) -> None:
        """Stop waiting for a sent call: what still comes for it is late. The lock is held."""
        del self._calls[call.seq]
        self._bytes = max(0, self._bytes - call.size)
        if len(self._late) < LATE_MAX:
            self._late.add(call.seq)
        if self.channel is not None:
            self.channel.connection.send(Cancel(self.incarnation, call.seq), control=True)
            self.channel.flush()

    def _expired(self, call: HostCall) -> ExpiredInQueue:
        return ExpiredInQueue(f"{call.request.op.name} was not started within its {call.request.timeout_s:g} s and was withdrawn",
                              session=self.session, call_id=call.call_id)

    # --- cancelling -----------------------------------------------------------------------------------------
    def cancel(self, call: HostCall) -> str:
        """Ask for a call's end. Returns `not_sent`, `cancelling` (its outcome says the rest) or `too_late`."""
        after: list[Callable[[], None]] = []
        with self.lock:
            if call.state == "over":
                return "too_late"
            if call.state == "queued":
                for queue in (self._queue, self._waiting):
                    if call in queue:
                        queue.remove(call)
                self._finish(call, CallCancelled("cancelled before it was sent", code="not_sent", ran="no",
                                                 session=self.session, call_id=call.call_id), after)
                verdict = "not_sent"
            else:
                if not call.cancelled and self.channel is not None:
                    call.cancelled = True
                    self.channel.connection.send(Cancel(call.incarnation, call.seq), control=True)
                    self.channel.flush()
                verdict = "cancelling"
        for callback in after:
            callback()
        return verdict

    def find(self, call_id: str) -> HostCall | None:
        """Return the open call with this id."""
        with self.lock:
            return next((c for c in (*self._calls.values(), *self._queue, *self._waiting) if c.call_id == call_id), None)

    def outcome_of(self, call_id: str) -> CallInfo | None:
        """Return what is remembered of a call that is over."""
        with self.lock:
            return next((past_info(p) for p in reversed(self._recent) if (p[1] or f"c{p[0]}") == call_id), None)

    def infos(self) -> list[CallInfo]:
        """List the open calls, oldest first, then the last ones that are over."""
        now = _monotonic()
        with self.lock:
            self._look_at_page()
            found = []
            for call in sorted((*self._calls.values(), *self._queue, *self._waiting), key=lambda c: c.seq):
                started = call.state == "sent" and (call.seq <= self._last_started)
                found.append(call_info(call, now, "running" if started else call.state, ""))
            return found + [past_info(past) for past in self._recent]

    def forget_after_fork(self, error: HostLost) -> None:
        """In a forked child: nothing is here any more."""
        self.lock = threading.Lock()
        self._gone = error
        if self.channel is not None:
            self.channel.lock = self.lock
            self.channel.forget_after_fork()
            self.channel = None
        self._calls.clear()


def call_info(call: HostCall, now: float, state: str, outcome: str) -> CallInfo:
    """Describe a call."""
    request = call.request
    return CallInfo(id=call.call_id, seq=call.seq, op=request.op.name, state=state, incarnation=call.incarnation,
                    age_s=round(now - call.opened_at, 6), timeout_s=request.timeout_s, outcome=outcome)


def past_info(past: _Past) -> CallInfo:
    """Describe a call that is over."""
    seq, call_id, op, incarnation, opened_at, timeout_s, outcome = past
    return CallInfo(id=call_id or f"c{seq}", seq=seq, op=op, state="over", incarnation=incarnation,
                    age_s=round(_monotonic() - opened_at, 6), timeout_s=timeout_s, outcome=outcome)
