"""What a code session does with signals: a type, an action, and how the signal's data become its parameters.

    procession.session.message {message_id, role, content, ...} ──▶ append_message        the older names: signal_types.py

It is *not* where anything is checked that the action checks. Rules: data are those of the contract, by its names; a signal that
names a session names this one, or is refused; told that something happened, the session does it, as with the older names,
which had one word for both; a signal that tells of what only the session itself can do changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session import (
    files,
    long_term,
    messages,
    promotion,
    prompts,
    todos,
    tool_calls,
    view,
    working_context,
)
from procession.agent_proc.agent.record import session_record
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.signal_types import (
    ASKED_BY,
    CONFIG_UPDATE,
    FILE_LIST,
    FILE_READ,
    FILE_WRITE,
    LANGUAGE_UPDATE,
    MEMORY_FORGET,
    MEMORY_PROMOTED,
    MEMORY_RECALLED,
    MEMORY_STORE,
    MESSAGE,
    RENAME,
    STATE_UPDATE,
    TODOS_UPDATE,
    TOOL_CALL,
    TOOL_ERROR,
    TOOL_RESULT,
)
from procession.agent_proc.agent.texts import near, shown
from procession.ipc.core.errors import InvalidRequest, ToolTimedOut
from procession.ipc.core.state_ops import State, Value


def _check_session(state: State, session_id: Value) -> None:
    """Refuse what is about another session."""
    if session_id is not None and session_id != state["session"]["id"]:
        raise InvalidRequest(
            f"the signal is about the session {shown(session_id)}, and this is another one", code="wrong_session"
        )


# -- the session -----------------------------------------------------------------------------------------------------


def on_message(
    state: State, moment: Moment, message_id: Value = None, session_id: Value = None, **message: Value
) -> Change:
    """Add a message to the end; data without a meaning here are kept in its metadata."""
    _check_session(state, session_id)
    named = message if message_id is None else {**message, "id": message_id}
    return messages.append_message(state, moment, named)


def on_todos_update(state: State, moment: Moment, todos: Value, session_id: Value = None) -> Change:
    """Replace the plan."""
    return on_state_update(state, moment, "todos", todos, session_id=session_id)


def on_config_update(state: State, moment: Moment, config: Value, session_id: Value = None) -> Change:
    """Merge into the config."""
    return on_state_update(state, moment, "config", config, session_id=session_id)


def on_language_update(state: State, moment: Moment, language: Value, session_id: Value = None) -> Change:
    """Set the language."""
    return on_state_update(state, moment, "language", language, session_id=session_id)


def on_rename(state: State, moment: Moment, name: Value, session_id: Value = None) -> Change:
    """Give the session another name."""
    return on_state_update(state, moment, "name", name, session_id=session_id)


_SETTERS: Final[Mapping[str, Callable[[State, Moment, Value], Change]]] = {
    "messages": messages.set_messages,
    "todos": todos.update_todos,
    "prompt_history": prompts.set_prompt_history,
    "working_context": working_context.set_context,
    "scroll_offset": view.set_scroll_offset,
    "promotion_interval_ms": promotion.set_promotion_interval,
    "name": lambda state, moment, value: session_record.rename_session(state, moment, name=value),
    "config": lambda state, moment, value: session_record.update_session_config(state, moment, config=value),
    "language": lambda state, moment, value: session_record.update_language(state, moment, language=value),
    "connection_status": lambda state, moment, value: session_record.set_connection_status(state, moment, status=value),
}
"""The fields that can be given another value as a whole, each by the action that checks it."""


def on_state_update(
    state: State, moment: Moment, field: Value, new_value: Value, old_value: Value = None, session_id: Value = None
) -> Change:
    """Give a field of the state, or of the record, another value. What it was before is not looked at.

    Raises InvalidRequest, code invalid_field, for one that is only changed piece by piece.
    """
    del old_value
    _check_session(state, session_id)
    setter = _SETTERS.get(field) if type(field) is str else None
    if setter is None:
        raise InvalidRequest(
            f"the field {shown(field)} cannot be set by a signal",
            code="invalid_field",
            hint=near(field, _SETTERS) if type(field) is str else f"one of {', '.join(_SETTERS)}",
        )
    return setter(state, moment, new_value)


# -- tool calls ------------------------------------------------------------------------------------------------------


def on_tool_call(
    state: State,
    moment: Moment,
    tool_name: Value,
    params: Value = None,
    call_id: Value = None,
    session_id: Value = None,
) -> Change:
    """Record a call that somebody makes."""
    _check_session(state, session_id)
    return tool_calls.add_tool_call(state, moment, {"id": call_id, "name": tool_name, "arguments": params})


def on_tool_result(
    state: State,
    moment: Moment,
    call_id: Value,
    result: Value = None,
    duration_ms: Value = None,
    tool_name: Value = None,
    session_id: Value = None,
) -> Change:
    """Record that a call completed; its name is that of the call."""
    del tool_name
    _check_session(state, session_id)
    return tool_calls.update_tool_call(state, moment, call_id, "completed", result=result, duration_ms=duration_ms)


def on_tool_error(
    state: State,
    moment: Moment,
    call_id: Value,
    reason: Value = None,
    duration_ms: Value = None,
    tool_name: Value = None,
    session_id: Value = None,
) -> Change:
    """Record that a call failed. reason: a text, or a mapping with code and message, as our own signals have it."""
    del tool_name
    _check_session(state, session_id)
    status = "error"
    if type(reason) is dict and type(code := reason.get("code")) is str and type(text := reason.get("message")) is str:
        status = "timeout" if code == ToolTimedOut.default_code else "error"
        reason = f"{code}: {text}"
    return tool_calls.update_tool_call(state, moment, call_id, status, error=reason, duration_ms=duration_ms)


# -- files and memories ----------------------------------------------------------------------------------------------


def on_file_read(
    state: State, moment: Moment, path: Value, size: Value = None, lines: Value = None, session_id: Value = None
) -> Change:
    """Note that a file was read."""
    del size, lines
    _check_session(state, session_id)
    return files.track_file_read(state, moment, path)


def on_file_write(
    state: State, moment: Moment, path: Value, size: Value = None, lines: Value = None, session_id: Value = None
) -> Change:
    """Note that a file was written."""
    del size, lines
    _check_session(state, session_id)
    return files.track_file_write(state, moment, path)


def on_memory_store(
    state: State,
    moment: Moment,
    content: Value,
    memory_type: Value = "fact",
    confidence: Value = 0.5,
    memory_id: Value = None,
    source_type: Value = "agent",
    metadata: Value = None,
    session_id: Value = None,
) -> Change:
    """Keep a memory. Who tells one by a signal and not how sure it is, is half sure."""
    _check_session(state, session_id)
    return long_term.remember(state, moment, content, memory_type, confidence, source_type, memory_id, metadata)


def on_memory_forget(
    state: State,
    moment: Moment,
    memory_id: Value,
    reason: Value = None,
    replacement_id: Value = None,
    session_id: Value = None,
) -> Change:
    """Mark a memory as no longer valid."""
    _check_session(state, session_id)
    return long_term.forget(state, moment, memory_id, reason, replacement_id)


def acknowledge(state: State, _moment: Moment, session_id: Value = None, **data: Value) -> Change:
    """Take note of what is only told: a listing, a recall, a promotion."""
    del data
    _check_session(state, session_id)
    return Change()


# -- the tables ------------------------------------------------------------------------------------------------------

_BY_TYPE: Final[Mapping[str, Callable[..., Change]]] = {
    MESSAGE: on_message,
    TODOS_UPDATE: on_todos_update,
    CONFIG_UPDATE: on_config_update,
    LANGUAGE_UPDATE: on_language_update,
    RENAME: on_rename,
    STATE_UPDATE: on_state_update,
    TOOL_CALL: on_tool_call,
    TOOL_RESULT: on_tool_result,
    TOOL_ERROR: on_tool_error,
    FILE_READ: on_file_read,
    FILE_WRITE: on_file_write,
    FILE_LIST: acknowledge,
    MEMORY_STORE: on_memory_store,
    MEMORY_FORGET: on_memory_forget,
    MEMORY_RECALLED: acknowledge,
    MEMORY_PROMOTED: acknowledge,
}

ACTIONS: Final[Mapping[str, Callable[..., Change]]] = MappingProxyType(
    {action.__name__: action for action in _BY_TYPE.values()}
)
ROUTES: Final = (
    *(Route(type_, action.__name__) for type_, action in _BY_TYPE.items()),
    *(Route(happened, _BY_TYPE[asked].__name__) for happened, asked in ASKED_BY.items()),
)
