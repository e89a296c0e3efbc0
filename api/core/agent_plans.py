"""Plans of the agent's verbs: an action or a query of the session's agent, and how what it answers is read.

It is *not* where anything is checked that the agent checks: it refuses what is wrong, by name, and changes nothing. Rule:
one builder a verb; both faces are one typed line over it.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, TypeVar

import msgspec

from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.ipc.core.agent_records import (
    AccessStats,
    ConnectionStatus,
    ContextItem,
    DebugEvent,
    Memory,
    Message,
    MessagePage,
    PendingMemory,
    PromotionStats,
    ReasoningStep,
    SessionRecord,
    Todo,
    ToolCallRecord,
)
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import InvalidRequest, ToolResultInvalid
from procession.ipc.core.value_hints import hint_to_send
from procession.ipc.core.values import UnsupportedValue, encode_value

T = TypeVar("T")

SOURCE: Final = "/procession/client"
"""Who says what a program says through a handle, unless it says otherwise."""
MISSING: Final = object()
_TYPE_CHARS_SHOWN: Final = 255
"""Of a signal's type, in texts about its call: more is no type, which the agent says."""


def _converted(value: Any, kind: Any) -> Any:
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise ToolResultInvalid(
            f"the agent's answer is not as it should be: {error}", code="result_unreadable"
        ) from None


def _as(kind: Any) -> Callable[[Any], Any]:
    return partial(_converted, kind=kind)


_message, _messages = _as(Message), _as(list[Message])
_step, _steps = _as(ReasoningStep), _as(list[ReasoningStep])
_tool_call, _tool_calls = _as(ToolCallRecord), _as(list[ToolCallRecord])
_todo, _todos = _as(Todo), _as(list[Todo])
_record, _connection = _as(SessionRecord), _as(ConnectionStatus)
_texts, _number, _flag, _text = _as(list[str]), _as(int), _as(bool), _as(str)
_time, _maybe_time = _as(datetime), _as(datetime | None)
_map = _as(dict[str, Any])
_item = _as(ContextItem)
_pending, _maybe_pending, _all_pending = _as(PendingMemory), _as(PendingMemory | None), _as(list[PendingMemory])
_memory, _memories = _as(Memory), _as(list[Memory])
_access, _promotion = _as(AccessStats), _as(PromotionStats)
_events = _as(list[DebugEvent])


def _none(_: Any) -> None:
    return None


def _same(value: Any) -> Any:
    return value


def _read(plan: Plan[Any], read: Callable[[Any], T]) -> Plan[T]:
    finish = plan.finish
    return Plan(plan.request, lambda response: read(finish(response)))


def _act(
    session: str, action: str, parameters: Mapping[str, object], timeout_s: float | None, read: Callable[[Any], T]
) -> Plan[T]:
    try:
        return _read(plans.act(session, action, parameters, timeout_s), read)
    except UnsupportedValue as error:
        raise _no_data(error) from None


def _ask(
    session: str, query: str, parameters: Mapping[str, object], timeout_s: float | None, read: Callable[[Any], T]
) -> Plan[T]:
    try:
        return _read(plans.ask(session, query, parameters, timeout_s), read)
    except UnsupportedValue as error:
        raise _no_data(error) from None


def _no_data(error: UnsupportedValue) -> InvalidRequest:
    return not_plain(error, "not_plain_data")


def not_plain(error: UnsupportedValue, code: str) -> InvalidRequest:
    """Say that an argument does not cross, where it is and what to send instead."""
    return InvalidRequest(f"{error.path} is {error.what}", code=code, hint=hint_to_send(error.what, error.hint))


def _given(**fields: object) -> dict[str, object]:
    return {name: value for name, value in fields.items() if value is not None}


# --- the state as a whole -------------------------------------------------------------------------------------------


def get_state(session: str, timeout_s: float | None) -> Plan[dict[str, Any]]:
    return _ask(session, "get_state", {}, timeout_s, _map)


def get_session(session: str, timeout_s: float | None) -> Plan[SessionRecord]:
    return _ask(session, "get_session", {}, timeout_s, _record)


def query_state(session: str, path: str | Sequence[str], default: object, timeout_s: float | None) -> Plan[Any]:
    """Read one place of the state; `default` where there is none, an InvalidRequest (path_not_found) without one."""
    parts = path.split(".") if isinstance(path, str) else _listed(path)
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise InvalidRequest("a path is names, or a text with dots between them", code="invalid_path")

    def read(state: dict[str, Any]) -> Any:
        here: Any = state
        for at, part in enumerate(parts):
            if not isinstance(here, dict) or part not in here:
                if default is not MISSING:
                    return default
                where = ".".join(parts[: at + 1])
                raise InvalidRequest(f"the state has no {where}", code="path_not_found", hint="default= says what then")
            here = here[part]
        return here

    return _ask(session, "get_state", {}, timeout_s, read)


# --- messages -------------------------------------------------------------------------------------------------------


def message(
    session: str,
    action: str,
    role: str,
    content: object,
    tool_calls: object,
    id: str | None,
    metadata: Mapping[str, object],
    timeout_s: float | None,
) -> Plan[Message]:
    given = {
        **metadata, "role": role, "content": _listed(content), **_given(tool_calls=_listed(tool_calls), id=id),
    }  # fmt: skip
    return _act(session, action, {"message": given}, timeout_s, _message)


def set_messages(session: str, messages: Iterable[object], timeout_s: float | None) -> Plan[list[Message]]:
    return _act(session, "set_messages", {"messages": _plain(messages)}, timeout_s, _messages)


def get_message_page(session: str, offset: int, limit: int | None, timeout_s: float | None) -> Plan[MessagePage]:
    return _ask(session, "get_messages", {"offset": offset, "limit": limit}, timeout_s, _page)


def get_messages(session: str, offset: int, limit: int | None, timeout_s: float | None) -> Plan[list[Message]]:
    return _ask(
        session, "get_messages", {"offset": offset, "limit": limit}, timeout_s, lambda page: list(_page(page).messages)
    )


def _page(page: Any) -> MessagePage:
    found = _map(page)
    made: MessagePage = _converted({"messages": found.get("messages"), **_map(found.get("meta"))}, MessagePage)
    return made


def clear_messages(session: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_messages", {}, timeout_s, _none)


def _listed(given: object) -> object:
    """Return any iterable as the list that the agent takes; what is none, or a text, is its to refuse."""
    return list(given) if isinstance(given, Iterable) and not isinstance(given, str | bytes | Mapping) else given


def _mapped(given: object) -> object:
    """Return any mapping as the dict that the agent takes; what is none is its to refuse."""
    return dict(given) if isinstance(given, Mapping) else given


def _plain(elements: object) -> object:
    """Take records of ours for what they hold, so that what was read can be given back."""
    listed = _listed(elements)
    return [_fields(one) for one in listed] if isinstance(listed, list) else listed


def _fields(element: object) -> object:
    if not isinstance(element, msgspec.Struct):
        return element
    found = {name: getattr(element, name) for name in element.__struct_fields__}
    return {name: value for name, value in found.items() if value is not None or name == "content"}


# --- reasoning, tool calls, todos -----------------------------------------------------------------------------------


def get_reasoning_steps(session: str, timeout_s: float | None) -> Plan[list[ReasoningStep]]:
    return _ask(session, "get_reasoning_steps", {}, timeout_s, _steps)


def add_reasoning_step(
    session: str, content: str, id: str | None, metadata: Mapping[str, object], timeout_s: float | None
) -> Plan[ReasoningStep]:
    step = {**metadata, "content": content, **_given(id=id)}
    return _act(session, "add_reasoning_step", {"step": step}, timeout_s, _step)


def clear_reasoning_steps(session: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_reasoning_steps", {}, timeout_s, _none)


def get_tool_calls(session: str, timeout_s: float | None) -> Plan[list[ToolCallRecord]]:
    return _ask(session, "get_tool_calls", {}, timeout_s, _tool_calls)


def add_tool_call(
    session: str,
    name: str,
    arguments: Mapping[str, object] | None,
    id: str | None,
    status: str | None,
    metadata: Mapping[str, object],
    timeout_s: float | None,
) -> Plan[ToolCallRecord]:
    call = {**metadata, "name": name, **_given(arguments=_mapped(arguments), id=id, status=status)}
    return _act(session, "add_tool_call", {"tool_call": call}, timeout_s, _tool_call)


def update_tool_call(
    session: str,
    id: str,
    status: str,
    result: object,
    error: object,
    duration_ms: float | None,
    timeout_s: float | None,
) -> Plan[ToolCallRecord]:
    given = {"id": id, "status": status, **_given(result=result, error=error, duration_ms=duration_ms)}
    return _act(session, "update_tool_call", given, timeout_s, _tool_call)


def clear_tool_calls(session: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_tool_calls", {}, timeout_s, _none)


def get_todos(session: str, timeout_s: float | None) -> Plan[list[Todo]]:
    return _ask(session, "get_todos", {}, timeout_s, _todos)


def update_todos(session: str, todos: Iterable[object], timeout_s: float | None) -> Plan[list[Todo]]:
    return _act(session, "update_todos", {"todos": _plain(todos)}, timeout_s, _todos)


def add_todo(
    session: str,
    content: str,
    id: str | None,
    status: str | None,
    metadata: Mapping[str, object],
    timeout_s: float | None,
) -> Plan[Todo]:
    todo = {**metadata, "content": content, **_given(id=id, status=status)}
    return _act(session, "add_todo", {"todo": todo}, timeout_s, _todo)


def update_todo(
    session: str, id: Todo | str, content: str | None, status: str | None, timeout_s: float | None
) -> Plan[Todo]:
    return _act(session, "update_todo", {"id": _id_of(id), **_given(content=content, status=status)}, timeout_s, _todo)


def complete_todo(session: str, id: Todo | str, timeout_s: float | None) -> Plan[Todo]:
    return _act(session, "complete_todo", {"id": _id_of(id)}, timeout_s, _todo)


def remove_todo(session: str, id: Todo | str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "remove_todo", {"id": _id_of(id)}, timeout_s, _none)


def _id_of(todo: Todo | str) -> str:
    found: object = todo.id if isinstance(todo, Todo) else todo
    if not isinstance(found, str):
        raise InvalidRequest(
            f"id: a todo's id is needed, or a Todo as it was read, not a {type(found).__name__}", code="invalid_todo"
        )
    return found


# --- the record -----------------------------------------------------------------------------------------------------


def rename(session: str, name: str, timeout_s: float | None) -> Plan[SessionRecord]:
    return _act(session, "rename_session", {"name": name}, timeout_s, _record)


def set_config(session: str, config: Mapping[str, object], timeout_s: float | None) -> Plan[SessionRecord]:
    return _act(session, "update_session_config", {"config": _mapped(config)}, timeout_s, _record)


def set_language(session: str, language: str, timeout_s: float | None) -> Plan[SessionRecord]:
    return _act(session, "update_language", {"language": language}, timeout_s, _record)


def set_connection_status(session: str, status: str, timeout_s: float | None) -> Plan[SessionRecord]:
    return _act(session, "set_connection_status", {"status": status}, timeout_s, _record)


def connect(session: str, timeout_s: float | None) -> Plan[SessionRecord]:
    return _read(plans.connect(session, timeout_s), _record)


def connection_status(session: str, timeout_s: float | None) -> Plan[ConnectionStatus]:
    return _ask(session, "get_connection_status", {}, timeout_s, _connection)


def set_scroll_offset(session: str, offset: int, timeout_s: float | None) -> Plan[None]:
    return _act(session, "set_scroll_offset", {"offset": offset}, timeout_s, _none)


# --- signals --------------------------------------------------------------------------------------------------------


def signal(session: str, type: str, data: object, timeout_s: float | None) -> Plan[Any]:
    """Give the agent a signal; the result is what came of it."""
    return _signalling(session, made_signal(type, data), wait=True, timeout_s=timeout_s)


def cast(session: str, made: Mapping[str, Any], timeout_s: float | None) -> Plan[str]:
    """Give the agent a signal that nobody waits for, which has been checked; the result is its id."""
    return Plan(_signalling(session, made, wait=False, timeout_s=timeout_s).request, lambda _: str(made["id"]))


def made_signal(type: str, data: object) -> dict[str, Any]:
    """Return a signal of the program's as it travels."""
    return {"id": str(uuid.uuid4()), "source": SOURCE, "type": type, "time": datetime.now(UTC), "data": data}


def _signalling(session: str, made: Mapping[str, Any], *, wait: bool, timeout_s: float | None) -> Plan[Any]:
    try:
        encoded = encode_value(dict(made), path="signal", nodes_max=RESULT_NODES_MAX)
    except UnsupportedValue as error:
        raise _no_data(error) from None
    return plans.signal(session, encoded, made["type"][:_TYPE_CHARS_SHOWN], wait=wait, timeout_s=timeout_s)


def send_message(session: str, text: str, timeout_s: float | None) -> Plan[str]:
    """Have the responder answer; its pieces come as output."""
    return _read(plans.send_message(session, text, timeout_s), _text)


def debug_events(session: str, keep: int | None, limit: int | None, timeout_s: float | None) -> Plan[list[DebugEvent]]:
    return _read(plans.debug_events(session, keep, limit, timeout_s), _events)


# --- context --------------------------------------------------------------------------------------------------------


def get_context(session: str, key: str, timeout_s: float | None) -> Plan[Any]:
    return _act(session, "get_context", {"key": key}, timeout_s, _same)


def update_context(
    session: str,
    key: str,
    value: object,
    source: str,
    confidence: float,
    memory_type: str | None,
    timeout_s: float | None,
) -> Plan[ContextItem]:
    given = {"key": key, "value": value, "source": source, "confidence": confidence, "memory_type": memory_type}
    return _act(session, "update_context", given, timeout_s, _item)


def set_context(session: str, values: Mapping[str, object], timeout_s: float | None) -> Plan[None]:
    return _act(session, "set_context", {"values": _mapped(values)}, timeout_s, _none)


def get_all_context(session: str, timeout_s: float | None) -> Plan[dict[str, Any]]:
    return _ask(session, "get_all_context", {}, timeout_s, _map)


def get_context_item(session: str, key: str, timeout_s: float | None) -> Plan[ContextItem]:
    return _ask(session, "get_context_item", {"key": key}, timeout_s, _item)


def clear_context(session: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_context", {}, timeout_s, _none)


# --- memories -------------------------------------------------------------------------------------------------------


def add_memory(session: str, item: Mapping[str, object], timeout_s: float | None) -> Plan[PendingMemory | None]:
    return _act(session, "add_pending_memory", {"item": item}, timeout_s, _maybe_pending)


def add_decision(session: str, item: Mapping[str, object], timeout_s: float | None) -> Plan[PendingMemory]:
    return _act(session, "add_agent_memory_decision", {"item": item}, timeout_s, _pending)


def memory_item(
    content: str,
    memory_type: str,
    confidence: float | str,
    source_type: str,
    importance_score: float | None,
    id: str | None,
    metadata: Mapping[str, object],
) -> dict[str, object]:
    return {
        **metadata, "content": content, "memory_type": memory_type, "confidence": confidence, "source_type": source_type,
        **_given(importance_score=importance_score, id=id),
    }  # fmt: skip


def pending_memories(session: str, timeout_s: float | None) -> Plan[list[PendingMemory]]:
    return _ask(session, "get_pending_memories", {}, timeout_s, _all_pending)


def clear_promoted_memories(session: str, ids: Iterable[str], timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_promoted_memories", {"ids": _listed(ids)}, timeout_s, _none)


def record_access(session: str, key: object, access_type: str, timeout_s: float | None) -> Plan[None]:
    plain = list(key) if isinstance(key, tuple) else key
    return _act(session, "record_access", {"key": plain, "access_type": access_type}, timeout_s, _none)


def access_stats(session: str, key: object, timeout_s: float | None) -> Plan[AccessStats]:
    return _ask(session, "get_access_stats", {"key": list(key) if isinstance(key, tuple) else key}, timeout_s, _access)


def promotion(session: str, action: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, action, {}, timeout_s, _none)


def promotion_stats(session: str, timeout_s: float | None) -> Plan[PromotionStats]:
    return _ask(session, "get_promotion_stats", {}, timeout_s, _promotion)


def promotion_candidates(
    session: str, threshold: float | None, count_max: int | None, timeout_s: float | None
) -> Plan[list[PendingMemory]]:
    given = {"at": datetime.now(UTC), **_given(threshold=threshold, count_max=count_max)}
    return _ask(session, "promotion_candidates", given, timeout_s, _all_pending)


def run_promotion(session: str, threshold: float | None, count_max: int | None, timeout_s: float | None) -> Plan[int]:
    return _act(session, "promote", _given(threshold=threshold, count_max=count_max), timeout_s, _number)


def set_promotion_interval(session: str, interval_ms: int, timeout_s: float | None) -> Plan[None]:
    if type(interval_ms) is not int or interval_ms < 1:  # told before it is asked whether there is such a session
        raise InvalidRequest("interval_ms must be a whole number of at least 1", code="invalid_interval")
    return _act(session, "set_promotion_interval", {"interval_ms": interval_ms}, timeout_s, _none)


def remember(
    session: str,
    content: str,
    given: Mapping[str, object],
    metadata: Mapping[str, object],
    timeout_s: float | None,
) -> Plan[Memory]:
    parameters = {"content": content, **_given(**given), "metadata": dict(metadata)}
    return _act(session, "remember", parameters, timeout_s, _memory)


def recall(session: str, given: Mapping[str, object], timeout_s: float | None) -> Plan[list[Memory]]:
    return _act(session, "recall", given, timeout_s, _memories)


def forget(
    session: str, memory_id: str, reason: str | None, replacement_id: str | None, timeout_s: float | None
) -> Plan[Memory]:
    given = {"memory_id": memory_id, **_given(reason=reason, replacement_id=replacement_id)}
    return _act(session, "forget", given, timeout_s, _memory)


def get_memory(session: str, memory_id: str, timeout_s: float | None) -> Plan[Memory]:
    return _ask(session, "get_memory", {"memory_id": memory_id}, timeout_s, _memory)


def get_memories(session: str, include_forgotten: bool, timeout_s: float | None) -> Plan[list[Memory]]:
    return _ask(session, "get_memories", {"include_forgotten": include_forgotten}, timeout_s, _memories)


# --- files, streaming, prompts --------------------------------------------------------------------------------------


def track_file(session: str, action: str, path: str, timeout_s: float | None) -> Plan[datetime]:
    return _act(session, action, {"path": path}, timeout_s, _time)


def file_was_read(session: str, path: str, timeout_s: float | None) -> Plan[bool]:
    return _ask(session, "file_was_read", {"path": path}, timeout_s, _flag)


def file_read_time(session: str, path: str, timeout_s: float | None) -> Plan[datetime | None]:
    return _ask(session, "get_file_read_time", {"path": path}, timeout_s, _maybe_time)


def clear_file_tracking(session: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "clear_file_tracking", {}, timeout_s, _none)


def start_streaming(session: str, message_id: str | None, timeout_s: float | None) -> Plan[str]:
    return _act(
        session,
        "start_streaming",
        {"message_id": str(uuid.uuid4()) if message_id is None else message_id},
        timeout_s,
        _text,
    )


def update_streaming(session: str, chunk: str, timeout_s: float | None) -> Plan[None]:
    return _act(session, "update_streaming", {"chunk": chunk}, timeout_s, _none)


def end_streaming(session: str, timeout_s: float | None) -> Plan[Message]:
    return _act(session, "end_streaming", {}, timeout_s, _message)


def cancel_streaming(session: str, timeout_s: float | None) -> Plan[str]:
    return _act(session, "cancel_streaming", {}, timeout_s, _text)


def get_prompts(session: str, timeout_s: float | None) -> Plan[list[str]]:
    return _ask(session, "get_prompt_history", {}, timeout_s, _texts)


def add_prompt(session: str, prompt: str, timeout_s: float | None) -> Plan[list[str]]:
    return _act(session, "add_to_prompt_history", {"prompt": prompt}, timeout_s, _texts)


def set_prompts(session: str, prompts: Iterable[str], timeout_s: float | None) -> Plan[list[str]]:
    return _act(session, "set_prompt_history", {"prompts": _listed(prompts)}, timeout_s, _texts)
