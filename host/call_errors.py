"""What a call of a session is told when the host, and not the session, ends it. Values only.

Rule: each call gets an error of its own, with its session and its id on it; one exception object is never raised twice.
"""

from __future__ import annotations

import msgspec

from procession.host import clock
from procession.host.host_call import HostCall
from procession.ipc.core.errors import (
    CallCancelled,
    CallTimedOut,
    DiskFull,
    ExpiredInQueue,
    InvalidRequest,
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


def not_durable(durability: str) -> InvalidRequest:
    """Say that nothing of this host outlives it."""
    return InvalidRequest(
        f"durability {durability}: this host keeps nothing on disk",
        code="not_durable",
        hint="open it with a folder: Host(data_dir=...)",
    )


def late_answer(call: HostCall, session: str) -> CallTimedOut:
    """Say that a call's time is over while its answer waits: for the journal, or for the call that it is the same as."""
    if call.state == "joined":
        text = f"{_name(call)} was asked for before, as {call.given_id!r}, and that was not answered in {call.timeout_s:g} s"
        return CallTimedOut(text, session=session, call_id=call.call_id)
    text = f"{_name(call)} was done, and its change was not written within {call.timeout_s:g} s: the disk is slow"
    return CallTimedOut(text, session=session, call_id=call.call_id, ran="yes", code="not_written_in_time")


def not_kept(call: HostCall, error: ProcessionError, session: str) -> ProcessionError:
    """Say that a call was done and its change could not be kept, so that it is as if it had not been: `error` says why.

    After an error of the disk nobody knows what is on it.
    """
    told = own(error, call, session)
    if isinstance(error, DiskFull):
        told.message = f"{_name(call)} was done and could not be kept, so nothing changed: {error.message}"
        told.ran, told.applied = "yes", False
    else:
        told.message = f"{_name(call)} was done, and whether its change is kept cannot be known: {error.message}"
        told.ran, told.applied = "yes", None
    return told


def reused(call: HostCall, before: str, session: str) -> InvalidRequest:
    """Say that the id of a call was another call's."""
    return InvalidRequest(
        f"the call id {call.given_id!r} is that of {before}, which is under way, and this is {call.op}",
        code="call_id_reused",
        session=session,
        call_id=call.given_id,
        hint="give each call an id of its own; the same id means the same call, made again",
    )


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
    if call.request.op.agent == "changes":
        told.applied = call.changed
        if told.report is not None:
            told.report = msgspec.structs.replace(told.report, applied=call.changed)
    return told
