"""Promotion: which of what the session knows becomes long-term memory, and when.

    promotion_candidates(state) --> promote(state): kept in `memories`, and settled where they came from, in one change

It is *not* the timer: the server asks `promotion_wait_ms` and runs `promote` then. Rules: candidates are items of the working
context, pending items and decisions of the agent, the most important first; what is settled is exactly what was kept, so
nothing is lost when there is more than one run takes, and nothing is kept twice.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

import msgspec

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounds import (
    PENDING_MEMORIES_MAX,
    PROMOTED_MAX,
    PROMOTION_INTERVAL_MS_MAX,
)
from procession.agent_proc.agent.code_session.checks import a_share, a_whole_number
from procession.agent_proc.agent.code_session.long_term import FIELD, kept, new_memory
from procession.agent_proc.agent.code_session.memory_scoring import importance, minutes_between
from procession.agent_proc.agent.code_session.pending_memories import (
    DECISIONS,
    ITEMS,
    READY_SCORE,
    pending_items,
    ready,
)
from procession.agent_proc.agent.code_session.sizes import accounted, held_bytes
from procession.ipc.core.state_ops import AnyOp, AppendItems, DeletePath, SetPath, SetState, State, Value

THRESHOLD: Final = READY_SCORE
CLOSE_THRESHOLD: Final = 0.4
"""When the session is stopped: it is the last chance for a while."""
PER_RUN_MAX: Final = 20
"""So that one run does not keep a session waiting; the rest is there for the next."""
CODE: Final = "invalid_promotion"

_SOURCE_TYPES: Final[Mapping[str, str]] = {"inferred": "agent", "explicit": "user", "tool": "tool"}
"""Where a memory came from, by the source of the context item that it was."""


# -- actions ---------------------------------------------------------------------------------------------------------


def enable_promotion(state: State, _moment: Moment) -> Change:
    """Let the session promote by itself."""
    return _switched(state, on=True)


def disable_promotion(state: State, _moment: Moment) -> Change:
    """Let the session promote only when asked to."""
    return _switched(state, on=False)


def _switched(state: State, *, on: bool) -> Change:
    return Change() if state["promotion_enabled"] is on else Change.set(promotion_enabled=on)


def set_promotion_interval(_state: State, _moment: Moment, interval_ms: Value) -> Change:
    """Set the time between two promotions, in milliseconds, from the next one on.

    Raises InvalidRequest, code invalid_interval.
    """
    a_whole_number(interval_ms, "interval_ms", 1, PROMOTION_INTERVAL_MS_MAX, code="invalid_interval")
    return Change.set(promotion_interval_ms=interval_ms)


def promote(state: State, moment: Moment, threshold: Value = THRESHOLD, count_max: Value = PER_RUN_MAX) -> Change:
    """Keep the candidates of now for long, settle them where they came from, and answer with how many memories were kept.

    A pending item or a decision is dropped, an item of the context marked. The run is counted even when it keeps nothing.
    Raises InvalidRequest, code invalid_promotion.
    """
    a_whole_number(count_max, "count_max", 1, PROMOTED_MAX, code=CODE)
    chosen = promotion_candidates(state, moment.at, threshold, count_max)
    stats = state["promotion_stats"]
    run = {
        "last_run": moment.at,
        "total_promoted": stats["total_promoted"] + len(chosen),
        "runs": stats["runs"] + 1,
    }
    ops = _promoted(state, moment, chosen) if chosen else ()
    return Change((*ops, SetState({"promotion_stats": run})), len(chosen))


def _promoted(state: State, moment: Moment, chosen: list[Value]) -> tuple[AnyOp, ...]:
    """Return the ops that keep these candidates and settle them, with what each collection grows or shrinks by."""
    items = [pending_items(state)[one["id"]] for one in chosen if one["origin"] == "pending"]
    decisions = DECISIONS.items(state)[: sum(one["origin"] == "decision" for one in chosen)]  # the oldest come first
    context = [_context(state)[one["id"]] for one in chosen if one["origin"] == "context"]
    made = sorted((_memory_of(one, moment) for one in chosen), key=lambda memory: memory["created_at"])
    kept_ops, growth = kept(state, made)
    changes = {
        FIELD: growth,
        "pending_memories": -sum(map(held_bytes, items)),
        "agent_decisions": -sum(map(held_bytes, decisions)),
        "working_context": sum(held_bytes({**item, "promoted_at": moment.at}) - held_bytes(item) for item in context),
    }
    return (
        *(DeletePath((*ITEMS, item["id"])) for item in items),
        *_without_oldest(state, len(decisions)),
        *(SetPath(("working_context", "items", item["key"], "promoted_at"), moment.at) for item in context),
        *kept_ops,
        *accounted(state, changes),
    )


def _without_oldest(state: State, count: int) -> tuple[AnyOp, ...]:
    """Return the op that drops the oldest decisions; ids of decisions may repeat, so they are not found by these."""
    return (AppendItems(DECISIONS.path, (), len(DECISIONS.items(state)) - count),) if count else ()


def _memory_of(candidate: Mapping[str, Value], moment: Moment) -> dict[str, Value]:
    """Return a candidate as it is kept. The id of a context item is its key, and another value by it another memory."""
    fields = {name: value for name, value in candidate.items() if name not in ("origin", "suggested_by")}
    return new_memory({**fields, "id": moment.new_id()} if candidate["origin"] == "context" else fields)


# -- queries ---------------------------------------------------------------------------------------------------------


def promotion_candidates(
    state: State, at: dt.datetime, threshold: Value = THRESHOLD, count_max: Value = PER_RUN_MAX
) -> list[Value]:
    """Return what one run at `at` should keep, the most important first, each with `origin`: context, pending or decision.

    threshold: the least importance, 0 to 1. Raises InvalidRequest, code invalid_promotion.
    """
    least = a_share(threshold, "threshold", code=CODE)
    most = a_whole_number(count_max, "count_max", 1, code=CODE)
    candidates = [_of_memory(memory) for memory in ready(state, least)]
    candidates += [_of_context(item, at) for item in _context(state).values() if _can_be_memory(item)]
    candidates.sort(key=lambda candidate: -candidate["importance_score"])
    return [candidate for candidate in candidates if candidate["importance_score"] >= least][:most]


def promotion_wait_ms(state: State, at: dt.datetime) -> int | None:
    """Return in how many milliseconds the session should promote by itself, None while there is nothing for it to do.

    At once when the agent decided something, and when there is no room for more to wait.
    """
    if not state["promotion_enabled"]:
        return None
    if DECISIONS.items(state):
        return 0
    interval_ms: int = state["promotion_interval_ms"]
    items = pending_items(state).values()
    if any(item["importance_score"] >= THRESHOLD for item in items):
        return 0 if len(items) >= PENDING_MEMORIES_MAX else interval_ms
    context = (_of_context(item, at) for item in _context(state).values() if _can_be_memory(item))
    return interval_ms if any(one["importance_score"] >= THRESHOLD for one in context) else None


def get_promotion_stats(state: State) -> dict[str, Value]:
    """Return enabled, interval_ms, last_run, total_promoted and runs."""
    return {
        "enabled": state["promotion_enabled"],
        "interval_ms": state["promotion_interval_ms"],
        **state["promotion_stats"],
    }


def content_of(value: Value) -> str:
    """Return the value of a context item as the text of a memory: a text as it is, nothing for None, else JSON."""
    if value is None:
        return ""
    if type(value) is str:
        return value.strip()
    try:
        return msgspec.json.encode(value).decode()
    except (TypeError, ValueError, RecursionError):  # data that JSON has no form for, complex numbers for one
        return str(value)


def _context(state: State) -> Mapping[str, Mapping[str, Value]]:
    items: Mapping[str, Mapping[str, Value]] = state["working_context"]["items"]
    return items


def _can_be_memory(item: Mapping[str, Value]) -> bool:
    """Say whether an item of the context has a type, something to say, and has not been promoted as it is."""
    return item["suggested_type"] is not None and item["promoted_at"] is None and content_of(item["value"]) != ""


def _of_memory(memory: Mapping[str, Value]) -> dict[str, Value]:
    return {"origin": "decision" if memory["suggested_by"] == "agent" else "pending", **memory}


def _of_context(item: Mapping[str, Value], at: dt.datetime) -> dict[str, Value]:
    return {
        "origin": "context",
        "id": item["key"],
        "content": content_of(item["value"]),
        "memory_type": item["suggested_type"],
        "confidence": item["confidence"],
        "source_type": _SOURCE_TYPES[item["source"]],
        "importance_score": importance(
            minutes=minutes_between(item["last_accessed"], at),
            count=item["access_count"],
            confidence=item["confidence"],
            memory_type=item["suggested_type"],
        ),
        "suggested_by": "implicit",
        "created_at": item["first_seen"],
        "metadata": {"key": item["key"]},
    }
