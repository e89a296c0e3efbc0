"""A host that runs in another process, as a backend: calls over its control socket.

A sync call crosses no thread: the caller writes, polls and reads the socket itself (leader and follower, channel.py). Closing
this ends the connection and nothing else; what was begun goes on in the host.

Rules: a call ends once. When the host goes, every call in flight ends with HostLost (it may have run), later ones at once
(they did not). A process forked from this one has no connection, and says so.
"""

from __future__ import annotations

import os
import threading
import time
import weakref
from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import msgspec

from procession.api.remote_call import DEADLINE_SLACK_S, RemoteCall, host_gone, no_answer
from procession.api.remote_hello import Greeted, connect
from procession.host.paths import default_data_dir
from procession.ipc.core.backend import Done, Outcome, Request, Response
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import (
    CallCancelled,
    HostLost,
    HostOverloaded,
    MessageTooLarge,
    ProcessionError,
    from_data,
)
from procession.ipc.core.frames import FrameTooLarge
from procession.ipc.core.messages import Answer, Ask, Push, Refused, Withdraw
from procession.ipc.core.operations import is_work
from procession.ipc.core.pushed import decode_item
from procession.ipc.transport.channel import After, Channel
from procession.ipc.transport.reactor import Reactor, ThreadReactor
from procession.ipc.transport.telling import Telling

#: Calls under way over one connection; the host refuses more.
CALLS_MAX: Final = 256
#: Looks and orders beyond those, so that a client that has flooded the host can still kill; the host takes as many.
ORDERS_MAX: Final = 32
#: Calls that wait (`wait=True`) for one of those places; a bound on what a runaway loop of submits may gather.
WAITING_MAX: Final = 100_000
#: How long an interrupted caller waits to be able to say what became of its work.
INTERRUPT_WAIT_S: Final = 2.0
#: How long `close` waits for its own loop.
CLOSE_TIMEOUT_S: Final = 5.0

_monotonic = time.monotonic
_encode = msgspec.msgpack.Encoder().encode
_backends: weakref.WeakSet[RemoteBackend] = weakref.WeakSet()


class RemoteBackend:
    """See the module's text. Connecting raises HostLost (`no_host`), PermissionDenied or ProtocolError (`version_skew`)."""

    def __init__(
        self,
        data_dir: Path | None = None,
        reactor: Reactor | None = None,
        *,
        program: str = "python",
        cancel_on_disconnect: bool = False,
        greeted: Greeted | None = None,
    ) -> None:
        """reactor: of its owner, who closes it. greeted: a connection that was made already."""
        self.data_dir = data_dir or default_data_dir()
        self._cancel_on_disconnect = cancel_on_disconnect
        fd, connection, hello = greeted or connect(self.data_dir, program)
        self.pid = hello.pid
        self.defaults = hello.defaults
        self._connection = connection
        self._calls: dict[int, RemoteCall] = {}
        self._waiting: deque[RemoteCall] = deque()
        self._next_seq = 1
        self._gone: HostLost | None = None
        self._closing = False
        self.is_restarting = False
        """The host said that it is about to be started again: there will be another one on this folder."""
        self._owns_reactor = reactor is None
        try:
            self._reactor: Reactor = reactor or ThreadReactor("procession-client")
        except BaseException:
            os.close(fd)
            raise
        self._channel = Channel(
            fd, fd, connection, self._reactor, self._dispatch, self._lost, pending=lambda: bool(self._calls)
        )
        self._lock = self._channel.lock
        self._channel.start()
        _backends.add(self)

    @property
    def closed(self) -> bool:
        """Whether no call can be made any more."""
        return self._gone is not None

    # --- Backend --------------------------------------------------------------------------------------------
    def call(self, request: Request) -> Response:
        """Make a call and wait for its outcome in this thread; raises the ProcessionError it ended with."""
        call = RemoteCall(self, request, None, _monotonic())
        try:
            self._accept(call)
            self._await(call, call.deadline)
        except KeyboardInterrupt as interrupt:
            self._interrupted(call, interrupt)
            raise
        except BaseException:  # of `on_item`: nobody waits for this call any more
            self.cancel(call)
            raise
        outcome = call.outcome
        if isinstance(outcome, ProcessionError):
            raise outcome
        assert outcome is not None
        return outcome

    def submit(self, request: Request, done: Done) -> RemoteCall:
        """Start a call; `done` gets its one outcome, from whatever thread reads it."""
        call = RemoteCall(self, request, done, _monotonic())
        try:
            self._accept(call)
        except ProcessionError as error:
            call.over = True
            done(error)
        return call

    def close(self) -> None:
        """End the connection; what was begun goes on in the host. Idempotent."""
        if self._closing:
            return
        self._closing = True
        self._end(
            HostLost("this connection was closed", code="closed", ran="maybe"),
            HostLost("this connection is closed", code="closed", ran="no"),
        )
        _backends.discard(self)
        if self._reactor.in_loop():
            self._channel.close()
        else:
            closed = threading.Event()

            def close() -> None:
                self._channel.close()
                closed.set()

            self._reactor.call_soon(close)
            closed.wait(CLOSE_TIMEOUT_S)
        if self._owns_reactor:
            self._reactor.close()

    # --- a call begins --------------------------------------------------------------------------------------
    def _accept(self, call: RemoteCall) -> None:
        request = call.request
        if request.payload is not None and len(request.payload) > PAYLOAD_BYTES_MAX:
            raise MessageTooLarge(
                f"a payload of {len(request.payload)} bytes is over the limit of {PAYLOAD_BYTES_MAX} bytes",
                code="payload_too_large",
            )
        with self._lock:
            if self._gone is not None:
                raise HostLost(self._gone.message, code=self._gone.code, ran="no")
            places = CALLS_MAX if is_work(request.op, request.body) else CALLS_MAX + ORDERS_MAX
            if len(self._calls) < places:
                self._send(call)
            elif request.wait and len(self._waiting) < WAITING_MAX:
                self._waiting.append(call)
            else:
                raise HostOverloaded(
                    f"{len(self._calls)} calls are under way over this connection already",
                    code="too_many_calls",
                    hint="wait for some of them to end, or cancel some"
                    + (", or pass wait=True to queue" if request.op.name == "run" and not request.wait else ""),
                )
            if call.done is not None:
                self._channel.unpark()
                if call.deadline < float("inf") and not call.over:
                    call.timer = self._reactor.call_at(call.deadline, lambda: self._expire(call))

    def _send(self, call: RemoteCall) -> None:
        """Give a call to the channel; raises MessageTooLarge, and then nothing was sent. The lock is held."""
        request = call.request
        call.seq = self._next_seq
        timeout_s = request.timeout_s
        if timeout_s is not None:
            timeout_s = max(0.001, min(timeout_s, call.deadline - DEADLINE_SLACK_S - _monotonic()))
        ask = Ask(
            call.seq,
            request.op.name,
            request.session,
            timeout_s,
            msgspec.Raw(_encode(request.body)),
            request.payload,
            request.on_item is not None,
            request.wait,
            request.call_id,
            request.fail_fast,
            self._cancel_on_disconnect,
            request.durability,
        )
        try:
            self._connection.send(ask)
        except FrameTooLarge as problem:
            raise MessageTooLarge(str(problem)) from None
        self._next_seq += 1
        self._calls[call.seq] = call
        call.sent = True
        self._channel.flush()

    # --- waiting --------------------------------------------------------------------------------------------
    def _await(self, call: RemoteCall, until: float) -> None:
        """Wait for the outcome, handing on what the call streams; at `until` the call is given up."""
        while call.outcome is None:
            if self._channel.closed:
                self._await_end(call)
            else:
                self._channel.wait(call, until)
            self._hand_out(call)
            if _monotonic() >= until:
                self._expire(call)
        self._hand_out(call)

    def _await_end(self, call: RemoteCall) -> None:
        """The connection is over: whoever noticed is about to give every call its outcome."""
        with self._lock:
            if call.outcome is not None:
                return
            gate = call.gate = threading.Lock()
            gate.acquire()
        gate.acquire(timeout=1.0)

    def _hand_out(self, call: RemoteCall) -> None:
        ring, on_item = call.ring, call.request.on_item
        if ring is None or on_item is None:
            return
        while len(ring):
            with self._lock:
                item = ring.take()
            if item is not None:
                on_item(item)

    def _interrupted(self, call: RemoteCall, interrupt: KeyboardInterrupt) -> None:
        """Ctrl-C: end the work, wait for its end (bounded), and say what became of it."""
        op = call.request.op.name
        self.cancel(call)
        until = _monotonic() + INTERRUPT_WAIT_S
        while call.outcome is None and not self._channel.closed and _monotonic() < until:
            self._channel.wait(call, until)
            with self._lock:
                call.items = call.ring = None
        outcome = call.outcome
        if isinstance(outcome, ProcessionError):
            report = outcome.report
            left = f", {report.processes_found} processes found, {report.processes_left} left" if report else ""
            interrupt.add_note(f"procession: {op} was cancelled ({outcome.code}{left})")
        elif outcome is not None:
            interrupt.add_note(f"procession: {op} had already finished")
        elif call.sent:
            interrupt.add_note(f"procession: {op} was told to stop; its end is not known yet")
        else:
            interrupt.add_note(f"procession: {op} was not sent")

    def cancel(self, call: RemoteCall) -> None:
        """Ask for a call to be stopped; its outcome still comes."""
        after: list[Callable[[], None]] = []
        with self._lock:
            if call.over:
                return
            if call.sent:
                self._connection.send(Withdraw(call.seq), control=True)
                self._channel.flush()
            elif call in self._waiting:
                self._waiting.remove(call)
                self._finish(call, CallCancelled("withdrawn before it was sent", code="not_sent", ran="no"), after)
        _run(after)

    def _expire(self, call: RemoteCall) -> None:
        after: list[Callable[[], None]] = []
        with self._lock:
            if call.over:
                return
            if call.sent:
                del self._calls[call.seq]
                self._connection.send(Withdraw(call.seq), control=True)
                self._channel.flush()
                error: ProcessionError = no_answer(call)
            else:
                self._waiting.remove(call)
                error = HostOverloaded("no place among the calls under way came free in time", code="too_many_calls")
            self._finish(call, error, after)
        _run(after)

    # --- what the host says ---------------------------------------------------------------------------------
    def _dispatch(self, messages: list[Any]) -> After | None:
        """Handle messages of the host; the lock is held."""
        after: list[Callable[[], None]] = []
        for message in messages:
            if message.seq == 0 and isinstance(message, Refused):
                self.is_restarting = True
                continue
            call = self._calls.get(message.seq)
            if call is None:
                if not 0 < message.seq < self._next_seq:
                    raise ProtocolBreach(f"an answer to call {message.seq}, which was never made")
                continue  # late: the call was given up
            if isinstance(message, Push):
                self._item(call, message, after)
                continue
            del self._calls[message.seq]
            if isinstance(message, Answer):
                self._finish(call, Response(message.body, message.payload, call.request.call_id), after)
            elif isinstance(message, Refused):
                self._finish(call, from_data(message.error), after)
        while self._waiting and len(self._calls) < CALLS_MAX:
            self._send_waiting(self._waiting.popleft(), after)
        return after

    def _send_waiting(self, call: RemoteCall, after: list[Callable[[], None]]) -> None:
        try:
            self._send(call)
        except ProcessionError as error:
            self._finish(call, error, after)

    def _item(self, call: RemoteCall, push: Push, after: list[Callable[[], None]]) -> None:
        item = decode_item(push.body)
        on_item = call.request.on_item
        if call.ring is not None:
            call.ring.put(item)
            self._channel.wake(call)
        elif call.done is not None and on_item is not None:
            if call.telling is None:
                call.telling = Telling(self._reactor)
            call.telling.add(lambda: on_item(item), after)

    def _finish(self, call: RemoteCall, outcome: Outcome, after: list[Callable[[], None]]) -> None:
        """Give a call its one outcome. The lock is held; `after` is run without it."""
        if call.over:
            return
        call.over = True
        if call.timer is not None:
            call.timer.cancel()
        done = call.done
        if done is None:
            self._channel.finish(call, outcome)
        else:
            call.outcome = outcome
            if call.telling is None:
                after.append(lambda: done(outcome))
            else:
                call.telling.add(lambda: done(outcome), after)

    # --- the end --------------------------------------------------------------------------------------------
    def _lost(self, reason: ProtocolBreach | str) -> None:
        """The host is gone, or is none of ours: every call ends."""
        if isinstance(reason, ProtocolBreach):
            self._end(
                HostLost(f"the host (pid {self.pid}) broke the protocol: {reason.reason}", code="protocol_error"),
                HostLost(f"the host (pid {self.pid}) broke the protocol", code="protocol_error", ran="no"),
            )
        else:
            code = "restarting" if self.is_restarting else ""
            self._end(host_gone(self.pid, code, sent=True), host_gone(self.pid, code, sent=False))

    def _end(self, sent: HostLost, unsent: HostLost) -> None:
        after: list[Callable[[], None]] = []
        with self._lock:
            if self._gone is None:
                self._gone = unsent
            calls = [*self._calls.values(), *self._waiting]
            self._calls.clear()
            self._waiting.clear()
            for call in calls:
                error = sent if call.sent else unsent
                own = HostLost(error.message, code=error.code, ran=error.ran, call_id=call.call_id)
                self._finish(call, own, after)
        self._channel.stop_reading()
        _run(after)

    def forget_after_fork(self) -> None:
        """In a forked child: every call raises HostLost; our copies of the descriptors are closed."""
        self._gone = HostLost("this process was forked from the one that has the connection", code="forked", ran="no")
        self._closing = True
        self._channel.forget_after_fork()
        self._channel.lock = self._lock = threading.Lock()  # whoever held it does not exist here
        self._calls.clear()
        self._waiting.clear()
        forget = getattr(self._reactor, "forget_after_fork", None)
        if forget is not None:
            forget()

    def __repr__(self) -> str:
        state = "closed" if self._gone is not None else f"calls={len(self._calls)}"
        return f"<RemoteBackend {self.data_dir} pid={self.pid} {state}>"


def _run(after: list[Callable[[], None]]) -> None:
    for callback in after:
        callback()


def _after_fork_in_child() -> None:
    for backend in list(_backends):
        backend.forget_after_fork()


os.register_at_fork(after_in_child=_after_fork_in_child)
