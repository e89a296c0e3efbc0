"""Tool calls and their life: what a model asked for, and what became of it.

    pending --> running --> completed | error | timeout          (pending may end at once)

    {id, name, arguments, status, result, error, timestamp, started_at, ended_at, duration_ms, metadata}

It is *not* what runs them. Rules: a status is left only along `TRANSITIONS`; a result belongs to what completed, an error to
what failed; ids come from models, which use them again: a call is found by its id while it is open, and the last one with
an id is the one that is meant.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import DURATION_MS_MAX, TOOL_CALLS_MAX, TOOL_NAME_CHARS_MAX
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_text,
    a_whole_number,
    an_element,
    an_id,
    id_of,
    metadata_of,
    time_of,
)
from procession.agent_proc.agent.texts import check_text, shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import State, Value

CODE: Final = "invalid_tool_call"
TOOL_CALLS: Final = BoundedList("tool_calls", ("tool_calls",), TOOL_CALLS_MAX, CODE)

#: From each status to those that may follow. One that nothing follows is the end.
TRANSITIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "pending": ("running", "completed", "error", "timeout"),
    "running": ("completed", "error", "timeout"),
    "completed": (),
    "error": (),
    "timeout": (),
}
STATUSES: Final = tuple(TRANSITIONS)
OPEN: Final = frozenset(status for status, following in TRANSITIONS.items() if following)

_FAILED: Final = frozenset({"error", "timeout"})
_KEYS: Final = frozenset(
    "id name arguments status result error timestamp started_at ended_at duration_ms metadata".split()
)


def add_tool_call(state: State, moment: Moment, tool_call: Value) -> Change:
    """Add a call, pending unless a status is given, and answer with it as it is kept; the oldest goes when there are too many.

    Raises InvalidRequest: invalid_tool_call, duplicate_tool_call while one with its id is open.
    """
    what = "tool_call"
    given = an_element(tool_call, what, code=CODE)
    call: dict[str, Value] = {
        "id": id_of(given, what, moment, code=CODE),
        "name": given.get("name"),
        "arguments": {} if given.get("arguments") is None else given["arguments"],
        "status": "pending",
        "result": None,
        "error": None,
        "timestamp": time_of(given, what, moment, code=CODE),
        "started_at": _time_or_none(given, what, moment, "started_at"),
        "ended_at": _time_or_none(given, what, moment, "ended_at"),
        "duration_ms": None,
        "metadata": metadata_of(given, what, _KEYS, code=CODE),
    }
    check_text(call["name"], f"{what}: name", code=CODE, chars_max=TOOL_NAME_CHARS_MAX)
    an_element(call["arguments"], f"{what}: arguments", code=CODE)
    if given.get("status") is not None:
        call["status"] = a_choice(given["status"], f"{what}: status", STATUSES, code=CODE)
    _check_times(call)
    call |= _entering(
        call, call["status"], moment.at, given.get("result"), given.get("error"), given.get("duration_ms")
    )
    open_one = TOOL_CALLS.find(state, call["id"])
    if open_one is not None and open_one["status"] in OPEN:
        raise InvalidRequest(
            f"the tool call {shown(call['id'])} is {open_one['status']} already",
            code="duplicate_tool_call",
            hint="update_tool_call() says what became of it",
        )
    return Change(TOOL_CALLS.append(state, call, what), call)


def update_tool_call(
    state: State,
    moment: Moment,
    id: Value,
    status: Value,
    result: Value = None,
    error: Value = None,
    duration_ms: Value = None,
) -> Change:
    """Move a call on to `status`, and answer with it.

    result: of one that completed, any data. error: the text of one that failed. duration_ms: as measured by who ran it, else
    the time since it began. Raises InvalidRequest: tool_call_not_found, invalid_transition, invalid_tool_call.
    """
    call = TOOL_CALLS.find(state, an_id(id, "id", code=CODE))
    if call is None:
        raise InvalidRequest(
            f"there is no tool call {shown(id)}",
            code="tool_call_not_found",
            hint=f"the last {TOOL_CALLS_MAX} are kept; add_tool_call() adds one",
        )
    following = TRANSITIONS[call["status"]]
    if a_choice(status, "status", STATUSES, code=CODE) not in following:
        raise InvalidRequest(
            f"the tool call {shown(id)} is {call['status']} and cannot become {status}",
            code="invalid_transition",
            hint=f"it may become {', '.join(following)}" if following else "it has ended: add a new call",
        )
    attrs = _entering(call, status, moment.at, result, error, duration_ms)
    return Change(TOOL_CALLS.update(state, call, attrs, "tool_call"), {**call, **attrs})


def clear_tool_calls(state: State, _moment: Moment) -> Change:
    """Drop all calls, open ones too, and answer with the empty list."""
    return Change(TOOL_CALLS.clear(state), [])


def get_tool_calls(state: State) -> list[Value]:
    """Return all calls, oldest first."""
    return TOOL_CALLS.items(state)


def _entering(
    call: Mapping[str, Value], status: str, at: dt.datetime, result: Value, error: Value, duration_ms: Value
) -> dict[str, Value]:
    """Return what changes in a call that comes to `status`; times that it has are kept."""
    _check_outcome(status, result, error, duration_ms)
    if status == "pending":
        return {}
    if status == "running":
        return {"status": status, "started_at": call["started_at"] or at}
    ended_at = call["ended_at"] or at
    if duration_ms is None:
        began_at: dt.datetime = call["started_at"] or call["timestamp"]
        # Clocks of the wall go back sometimes, and times may be given: neither makes less than nothing, or an age.
        duration_ms = min(max(0, (ended_at - began_at) // dt.timedelta(milliseconds=1)), DURATION_MS_MAX)
    attrs = {"status": status, "ended_at": ended_at, "duration_ms": duration_ms}
    if result is not None:
        attrs["result"] = result
    if error is not None:
        attrs["error"] = error
    return attrs


def _check_outcome(status: str, result: Value, error: Value, duration_ms: Value) -> None:
    if result is not None and status != "completed":
        raise InvalidRequest(f"tool_call: one that is {status} has no result", code=CODE)
    if error is not None:
        if status not in _FAILED:
            raise InvalidRequest(f"tool_call: one that is {status} has no error", code=CODE)
        a_text(error, "tool_call: error", code=CODE)
    if duration_ms is not None:
        if status in OPEN:
            raise InvalidRequest(f"tool_call: one that is {status} has no duration_ms yet", code=CODE)
        a_whole_number(duration_ms, "tool_call: duration_ms", 0, DURATION_MS_MAX, code=CODE)


def _check_times(call: Mapping[str, Value]) -> None:
    """Refuse a call that was given the time of what has not happened to it."""
    status = call["status"]
    if status == "pending" and call["started_at"] is not None:
        raise InvalidRequest("tool_call: one that is pending has no started_at yet", code=CODE)
    if status in OPEN and call["ended_at"] is not None:
        raise InvalidRequest(f"tool_call: one that is {status} has no ended_at yet", code=CODE)


def _time_or_none(given: Mapping[str, Value], what: str, moment: Moment, key: str) -> dt.datetime | None:
    return None if given.get(key) is None else time_of(given, what, moment, key=key, code=CODE)
