"""What a call of a session is told when the host, and not the session, ends it. Values only.

Rule: each call gets an error of its own, with its session and its id on it; one exception object is never raised twice.
"""

from __future__ import annotations

from procession.host import clock
from procession.host.host_call import HostCall
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    ExpiredInQueue,
    ProcessionError,
    ToolTimedOut,
    from_data,
    to_data,
)
from procession.ipc.core.operations import ActBody, AskBody, SignalBody


def own(error: ProcessionError, call: HostCall, session: str) -> ProcessionError:
    """Return an error that many calls share as this call's own."""
    told = from_data(to_data(error))
    told.session = told.session or session
    if call.seq:
        told.call_id = call.call_id
    return told


def _name(call: HostCall) -> str:
    """Return how a text names a call: by the action, the query or the type of signal that it is about, if there is one."""
    match call.request.body:
        case ActBody(action=name) | AskBody(query=name):
            return name
        case SignalBody(type=name) if name:
            return f"signal {name}"
    return call.op


def expired(call: HostCall, session: str) -> ExpiredInQueue:
    """Say that a call was not begun in its time."""
    return ExpiredInQueue(
        f"{_name(call)} was not started within its {call.timeout_s:g} s and was withdrawn",
        session=session,
        call_id=call.call_id,
    )


def timed_out(call: HostCall, session: str) -> CallTimedOut:
    """Say that a call was begun, and not answered in its time."""
    return CallTimedOut(f"{_name(call)} had no answer in {call.timeout_s:g} s", session=session, call_id=call.call_id)


def not_sent(call: HostCall, session: str) -> CallCancelled:
    """Say that a call was cancelled before any process began with it."""
    return CallCancelled(
        "cancelled before it was sent", code="not_sent", ran="no", session=session, call_id=call.call_id
    )


def death(call: HostCall, error: ProcessionError, session: str) -> ProcessionError:
    """Say that the process ended with a call that it had begun; `error` says how."""
    told: ProcessionError
    if call.overdue and call.lane == "run":
        told = ToolTimedOut(
            f"{call.op} was still running {call.timeout_s:g} s after it began and did not end when told to; the "
            "whole session was ended",
            report=error.report,
        )
    elif call.overdue:
        told = CallTimedOut(
            f"{_name(call)} had no answer after {call.timeout_s:g} s; the session was ended", report=error.report
        )
    else:
        told = type(error)(error.message, code=error.code, ran="maybe", report=error.report, hint=error.hint)
    told.session, told.call_id, told.elapsed_s = session, call.call_id, clock.monotonic() - call.opened_at
    return told
