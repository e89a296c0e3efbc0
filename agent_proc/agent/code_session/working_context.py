"""The working context: what the session is about right now, at most one item for each of eleven keys.

    {key, value, source, confidence, access_count, first_seen, last_accessed, suggested_type, tokens, promoted_at}

It is *not* a prompt: how an item is worded is the reader's business. Rules: a stored None is a value; the items together
stay within the budget of tokens, for which the one that was last used longest ago goes first, among equals the one least
often used, and never the one just put; to put an item again keeps when it was first seen, and resets what is not given.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.checks import a_choice, a_number, an_element
from procession.agent_proc.agent.code_session.memory_types import TYPES
from procession.agent_proc.agent.code_session.sizes import accounted, checked_size, held_bytes
from procession.agent_proc.agent.texts import near, shown
from procession.ipc.core.errors import InvalidRequest, MessageTooLarge
from procession.ipc.core.state_ops import AnyOp, DeletePath, SetPath, SetState, State, Value

KEYS: Final = (
    "active_file",
    "project_root",
    "primary_language",
    "framework",
    "current_task",
    "user_intent",
    "discovered_patterns",
    "active_errors",
    "pending_questions",
    "file_relationships",
    "conversation_summary",
)
SOURCES: Final = ("inferred", "explicit", "tool")
DEFAULT_SOURCE: Final = "explicit"
DEFAULT_CONFIDENCE: Final = 0.8

TOKEN_BYTES: Final = 4
"""A token for every four bytes of key and value: the usual rule of thumb for English and for code, and close for other
scripts, whose characters take more bytes and more tokens alike. What counts is that it is the same everywhere."""

_ANY: Final = None
_SUGGESTIONS: Final[Mapping[tuple[str, str | None], str]] = {
    ("framework", "tool"): "fact",
    ("primary_language", "tool"): "fact",
    ("project_root", "tool"): "fact",
    ("active_file", "tool"): "fact",
    ("user_intent", "inferred"): "assumption",
    ("current_task", "inferred"): "assumption",
    ("discovered_patterns", _ANY): "discovery",
    ("file_relationships", _ANY): "discovery",
    ("pending_questions", _ANY): "unknown",
}
"""The type of memory that an item by this key and from this source would make."""

_ITEMS: Final = ("working_context", "items")
_TOKENS: Final = ("working_context", "current_tokens")


def suggested_type(key: str, source: str) -> str | None:
    """Return the type of memory that an item would make, None for one that is worth none."""
    return _SUGGESTIONS.get((key, source)) or _SUGGESTIONS.get((key, _ANY))


def tokens_of(written_bytes: int) -> int:
    """Return the estimate for so many bytes: every started TOKEN_BYTES are a token."""
    return -(-written_bytes // TOKEN_BYTES)


# -- actions ---------------------------------------------------------------------------------------------------------


def update_context(
    state: State,
    moment: Moment,
    key: Value,
    value: Value,
    source: Value = DEFAULT_SOURCE,
    confidence: Value = DEFAULT_CONFIDENCE,
    memory_type: Value = None,
) -> Change:
    """Put an item, and answer with it; others go when the budget of tokens asks for it.

    confidence: a number, taken into 0 to 1. memory_type: instead of the suggested one. Raises InvalidRequest:
    invalid_context_key, invalid_context; MessageTooLarge, code context_item_too_large, for more than the whole budget.
    """
    items = _items(state)
    item = _new_item(state, moment, items.get(_key(key)), key, value, source, confidence, memory_type)
    evicted = _evicted(state, item, items)
    gone = [items[name] for name in (*evicted, key) if name in items]
    tokens = state["working_context"]["current_tokens"] + item["tokens"] - sum(one["tokens"] for one in gone)
    ops: list[AnyOp] = [DeletePath((*_ITEMS, name)) for name in evicted]
    ops += (SetPath((*_ITEMS, key), item), SetPath(_TOKENS, tokens))
    growth = held_bytes(item) - sum(map(held_bytes, gone))
    return Change((*ops, *accounted(state, {"working_context": growth})), item)


def set_context(state: State, moment: Moment, values: Value) -> Change:
    """Replace all items by these values by key, each put as by update_context without options; answer with the values.

    Raises as update_context, and MessageTooLarge, code context_too_large, when they are too much together: nothing goes.
    """
    given = an_element(values, "values", code="invalid_context")
    items = {
        _key(key): _new_item(state, moment, None, key, value, DEFAULT_SOURCE, DEFAULT_CONFIDENCE, None)
        for key, value in given.items()
    }
    tokens = sum(item["tokens"] for item in items.values())
    if tokens > state["working_context"]["max_tokens"]:
        raise MessageTooLarge(
            f"these values are about {tokens} tokens, and a context has at most {state['working_context']['max_tokens']}",
            code="context_too_large",
            hint="shorten the longest, or put them one by one, so that the oldest go",
        )
    ops = (SetPath(_ITEMS, items), SetPath(_TOKENS, tokens))
    growth = sum(map(held_bytes, items.values())) - state["sizes"]["working_context"]
    return Change((*ops, *accounted(state, {"working_context": growth})), dict(given))


def get_context(state: State, moment: Moment, key: Value) -> Change:
    """Answer with the value of an item, which counts as a use of it.

    Raises InvalidRequest: invalid_context_key, key_not_found.
    """
    item = get_context_item(state, key)
    used = {"access_count": item["access_count"] + 1, "last_accessed": moment.at}
    return Change((SetState({"working_context": {"items": {key: used}}}),), item["value"])


def clear_context(state: State, _moment: Moment) -> Change:
    """Drop all items; the budget stays."""
    if not _items(state):
        return Change()
    freed = accounted(state, {"working_context": -state["sizes"]["working_context"]})
    return Change((SetPath(_ITEMS, {}), SetPath(_TOKENS, 0), *freed))


# -- queries ---------------------------------------------------------------------------------------------------------


def get_all_context(state: State) -> dict[str, Value]:
    """Return the values by key; counts as no use."""
    return {key: item["value"] for key, item in _items(state).items()}


def get_context_item(state: State, key: Value) -> dict[str, Value]:
    """Return a whole item; counts as no use. Raises InvalidRequest: invalid_context_key, key_not_found."""
    items = _items(state)
    if _key(key) not in items:
        raise InvalidRequest(
            f"the context has no {key}", code="key_not_found", hint=f"it has {', '.join(items) or 'nothing yet'}"
        )
    item: dict[str, Value] = items[key]
    return item


def _items(state: State) -> Mapping[str, dict[str, Value]]:
    items: Mapping[str, dict[str, Value]] = state["working_context"]["items"]
    return items


def _key(key: Value) -> str:
    if type(key) is str and key in KEYS:
        return key
    raise InvalidRequest(
        f"{shown(key)} is no key of the context",
        code="invalid_context_key",
        hint=f"the keys are {', '.join(KEYS)}" + (f"; {near(key, KEYS)}" if type(key) is str else ""),
    )


def _new_item(
    state: State,
    moment: Moment,
    old: Mapping[str, Value] | None,
    key: str,
    value: Value,
    source: Value,
    confidence: Value,
    memory_type: Value,
) -> dict[str, Value]:
    code = "invalid_context"
    a_choice(source, "source", SOURCES, code=code)
    if memory_type is not None:
        a_choice(memory_type, "memory_type", TYPES, code=code)
    type_ = memory_type or suggested_type(key, source)
    is_news = old is None or old["value"] != value or old["suggested_type"] != type_
    item = {
        "key": key,
        "value": value,
        "source": source,
        "confidence": min(max(a_number(confidence, "confidence", code=code), 0.0), 1.0),
        "access_count": 1 if old is None else old["access_count"] + 1,
        "first_seen": moment.at if old is None else old["first_seen"],
        "last_accessed": moment.at,
        "suggested_type": type_,
        "tokens": tokens_of(len(key) + checked_size(state, value, key, code=code).written_bytes),
        "promoted_at": None if old is None or is_news else old["promoted_at"],
    }
    budget: int = state["working_context"]["max_tokens"]
    if item["tokens"] > budget:
        raise MessageTooLarge(
            f"the value of {key} is about {item['tokens']} tokens, and the whole context has at most {budget}",
            code="context_item_too_large",
            hint="put a summary of it",
        )
    return item


def _evicted(state: State, item: Mapping[str, Value], items: Mapping[str, Mapping[str, Value]]) -> list[str]:
    """Return the keys that go, so that `item` and the rest are within the budget of tokens."""
    others = {key: other for key, other in items.items() if key != item["key"]}
    over = item["tokens"] + sum(other["tokens"] for other in others.values()) - state["working_context"]["max_tokens"]
    evicted = []
    for key in sorted(others, key=lambda key: _last_use(others[key])):
        if over <= 0:
            break
        evicted.append(key)
        over -= others[key]["tokens"]
    return evicted


def _last_use(item: Mapping[str, Value]) -> tuple[dt.datetime, int, dt.datetime]:
    return item["last_accessed"], item["access_count"], item["first_seen"]
