"""Making a call in the caller's own thread: send it, wait for its outcome, hand out what it streams, mind Ctrl-C.

The thread that waits reads the session's channel itself when nobody else does (channel.py), so a call crosses no other
thread; but not for a run, which is long, and would keep the lead from the quick calls beside it. It does not watch the
clock: the deadline is the calls' own timer's, which gives the call its outcome.
"""

from __future__ import annotations

import threading
from collections import deque
from typing import TYPE_CHECKING, Final

from procession.host import clock
from procession.host.call_streams import credit_taken
from procession.ipc.core.backend import Request, Response
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.messages import Reply
from procession.ipc.core.records import OutputChunk

if TYPE_CHECKING:
    from procession.host.host_call import HostCall
    from procession.host.session_calls import SessionCalls

#: How long an interrupted caller waits to be able to say what became of its work.
INTERRUPT_WAIT_S: Final = 3.0
#: One wait without a process; then the caller looks by itself whether there is one again.
GATE_S_MAX: Final = 60.0
_FOR_EVER: Final = float("inf")


def call_and_wait(calls: SessionCalls, request: Request) -> Response:
    """Make a call and wait for its outcome in this thread; raises the error it ended with."""
    call = calls.make(request, None)
    if request.on_item is not None:
        call.items = deque()
    try:
        channel = calls.accept(call)
        if channel is not None:
            channel.lead(call, _FOR_EVER)
        if call.outcome is None or call.items:
            _wait(calls, call)
    except KeyboardInterrupt as interrupt:
        _interrupted(calls, call, interrupt)
        raise
    outcome = call.outcome
    if type(outcome) is Reply:
        return calls.respond(call, outcome)
    assert isinstance(outcome, ProcessionError)
    raise outcome


def _wait(calls: SessionCalls, call: HostCall) -> None:
    _hand_out(calls, call)
    while call.outcome is None:
        channel = calls.channel
        if channel is not None and not channel.closed:
            (channel.sleep if call.request.op.lane == "run" else channel.wait)(call, _FOR_EVER)
        else:
            _wait_at_gate(calls, call)
        _hand_out(calls, call)


def _wait_at_gate(calls: SessionCalls, call: HostCall) -> None:
    """Wait without a process: until the outcome comes, or there is one again."""
    with calls.lock:
        channel = calls.channel
        if call.outcome is not None or call.items or (channel is not None and not channel.closed):
            return
        gate = call.gate = threading.Lock()
        gate.acquire()
    gate.acquire(timeout=GATE_S_MAX)
    with calls.lock:
        call.gate = None


def _hand_out(calls: SessionCalls, call: HostCall) -> None:
    """Give what the call streamed to its caller, in the caller's thread, and the session credit for what was taken."""
    items = call.items
    while items:
        item = items.popleft()
        assert call.request.on_item is not None
        call.request.on_item(item)
        assert isinstance(item, OutputChunk)
        with calls.lock:
            channel = calls.channel
            if channel is not None and not channel.closed and call.inc == channel.connection.incarnation:
                credit_taken(channel, item)


def _interrupted(calls: SessionCalls, call: HostCall, interrupt: KeyboardInterrupt) -> None:
    """Ctrl-C: end the work, wait for its end (bounded), and say what became of it."""
    channel = calls.channel
    try:
        calls.cancel(call)
        until = clock.monotonic() + INTERRUPT_WAIT_S
        while call.seq and call.outcome is None and clock.monotonic() < until:
            if channel is None or channel.closed:
                break
            channel.wait(call, until)
            call.items = None
    finally:
        if channel is not None:
            channel.leave(call)  # between two instructions the interrupt may have left it with the lead
    interrupt.add_note(f"procession: {call.op} {_became(call)}")


def _became(call: HostCall) -> str:
    outcome = call.outcome
    if isinstance(outcome, ProcessionError):
        report = outcome.report
        left = f", {report.processes_found} processes found, {report.processes_left} left" if report else ""
        return f"was cancelled ({outcome.code}{left})"
    if outcome is not None:
        return "had already finished"
    return "was told to stop; its end is not known yet" if call.seq else "was not sent"
