"""The conversation: messages, oldest first, and pages of them.

    {id, role, content, tool_calls (only when it has some), timestamp, metadata}

It is *not* a conversation that a model API would accept: that an answer follows its question is the caller's business.
Rules: content is a text, a list of parts (mappings), or None beside tool calls; keys without a meaning here are kept in
`metadata`; ids are not compared, since nothing is found by them.
"""

from __future__ import annotations

from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import MESSAGES_MAX
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_list,
    a_whole_number,
    an_element,
    id_of,
    metadata_of,
    time_of,
)
from procession.agent_proc.agent.code_session.sizes import accounted, checked_size
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import PrependItems, State, Value

ROLES: Final = ("system", "developer", "user", "assistant", "tool")
CODE: Final = "invalid_message"
MESSAGES: Final = BoundedList("messages", ("messages",), MESSAGES_MAX, CODE)

_KEYS: Final = frozenset({"id", "role", "content", "tool_calls", "timestamp", "metadata"})


def new_message(given: object, moment: Moment, what: str = "message") -> dict[str, Value]:
    """Return `given` as a message of the state. Raises InvalidRequest, code invalid_message."""
    fields = an_element(given, what, code=CODE)
    message = {
        "id": id_of(fields, what, moment, code=CODE),
        "role": a_choice(fields.get("role"), f"{what}: role", ROLES, code=CODE),
        "content": fields.get("content"),
    }
    calls = fields.get("tool_calls")
    if calls is not None:
        message["tool_calls"] = _mappings(calls, f"{what}: tool_calls")
    _check_content(message["content"], what, has_calls=bool(calls))
    message["timestamp"] = time_of(fields, what, moment, code=CODE)
    message["metadata"] = metadata_of(fields, what, _KEYS, code=CODE)
    return message


def _check_content(content: Value, what: str, *, has_calls: bool) -> None:
    if type(content) is str:
        return
    if type(content) is list:
        _mappings(content, f"{what}: content")
    elif content is not None or not has_calls:
        raise InvalidRequest(
            f"{what}: content must be a text, a list of parts, or None beside tool_calls, not {shown(content)}",
            code=CODE,
        )


def _mappings(value: Value, what: str) -> list[Value]:
    """Return `value` if it is a list of mappings."""
    for index, part in enumerate(a_list(value, what, code=CODE)):
        an_element(part, f"{what}[{index}]", code=CODE)
    assert type(value) is list
    return value


# -- actions ---------------------------------------------------------------------------------------------------------


def append_message(state: State, moment: Moment, message: Value) -> Change:
    """Add a message to the end, and answer with it as it is kept; the oldest goes when there are too many."""
    made = new_message(message, moment)
    return Change(MESSAGES.append(state, made, "message"), made)


def prepend_message(state: State, moment: Moment, message: Value) -> Change:
    """Put a message before all others, and answer with it as it is kept.

    Raises InvalidRequest, code messages_full, when there is no room: what comes first is what would have to go first.
    """
    made = new_message(message, moment)
    items = MESSAGES.items(state)
    if len(items) >= MESSAGES_MAX:
        raise InvalidRequest(
            f"there are {len(items)} messages, the most that are kept",
            code="messages_full",
            hint="replace them with set_messages(), or clear them",
        )
    growth = checked_size(state, made, "message", code=CODE).held_bytes
    return Change((PrependItems(MESSAGES.path, (made,)), *accounted(state, {MESSAGES.name: growth})), made)


def set_messages(state: State, moment: Moment, messages: Value) -> Change:
    """Replace the whole conversation by the last MESSAGES_MAX of these, oldest first, and answer with them."""
    given = a_list(messages, "messages", code=CODE)
    made = [new_message(one, moment, f"messages[{index}]") for index, one in enumerate(given)][-MESSAGES_MAX:]
    return Change(MESSAGES.replace(state, made, "messages"), made)


def clear_messages(state: State, _moment: Moment) -> Change:
    """Drop all messages, and answer with the empty list."""
    return Change(MESSAGES.clear(state), [])


# -- queries ---------------------------------------------------------------------------------------------------------


def get_messages(state: State, offset: Value = 0, limit: Value = None) -> dict[str, Value]:
    """Return one page: `messages` from `offset` on, at most `limit` of them (None: all), and `meta`.

    meta: total, offset, limit (for None the total), returned, has_more. Raises InvalidRequest, code invalid_page.
    """
    start = a_whole_number(offset, "offset", 0, code="invalid_page")
    items = MESSAGES.items(state)
    total = len(items)
    most = total if limit is None else a_whole_number(limit, "limit", 1, code="invalid_page")
    page = items[start : start + most]
    return {
        "messages": page,
        "meta": {
            "total": total,
            "offset": start,
            "limit": most,
            "returned": len(page),
            "has_more": start + len(page) < total,
        },
    }
