"""Promotion: which of what the session knows becomes long-term memory, and what of it is then settled here.

    promotion_candidates(state) --> [the host's store keeps them] --> record_promotion(state, those that it kept)

It is *not* the store, nor the timer: the server looks at `promotion_enabled` and `promotion_interval_ms`, and at the signal
PROMOTION_DUE. Rules: candidates are items of the working context, pending items and decisions of the agent, the most
important first; what is settled is exactly what was kept and has not changed since, so that nothing is lost when keeping
fails, and nothing is kept twice when it does not.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from typing import Final

import msgspec

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounds import PROMOTION_INTERVAL_MS_MAX
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_list,
    a_share,
    a_text,
    a_whole_number,
    an_element,
)
from procession.agent_proc.agent.code_session.memory_scoring import importance, minutes_between
from procession.agent_proc.agent.code_session.pending_memories import (
    DECISIONS,
    READY_SCORE,
    drop_items,
    pending_items,
    ready,
)
from procession.agent_proc.agent.code_session.sizes import accounted, held_bytes
from procession.ipc.core.state_ops import AnyOp, SetPath, SetState, State, Value

THRESHOLD: Final = READY_SCORE
PER_RUN_MAX: Final = 20
"""So that one run does not keep a session waiting; the rest is there for the next."""
ORIGINS: Final = ("context", "pending", "decision")
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


def record_promotion(state: State, moment: Moment, promoted: Value) -> Change:
    """Settle a run: `promoted` are those candidates that were kept, as they were given; answer with their number.

    A pending item or a decision is dropped, an item of the context marked, unless it was changed in the meantime.
    Raises InvalidRequest, code invalid_promotion.
    """
    kept = {_settled(one, f"promoted[{index}]") for index, one in enumerate(a_list(promoted, "promoted", code=CODE))}
    items = [one["id"] for one in pending_items(state).values() if ("pending", one["id"], one["content"]) in kept]
    decisions = [one["id"] for one in DECISIONS.items(state) if ("decision", one["id"], one["content"]) in kept]
    keys = [key for key, item in _context(state).items() if ("context", key, content_of(item["value"])) in kept]
    stats = state["promotion_stats"]
    run = {
        "last_run": moment.at,
        "total_promoted": stats["total_promoted"] + len(kept),
        "runs": stats["runs"] + 1,
    }
    ops: list[AnyOp] = [*drop_items(state, items), *DECISIONS.remove(state, decisions), *_marked(state, moment, keys)]
    return Change((*ops, SetState({"promotion_stats": run})), len(kept))


def _settled(given: Value, what: str) -> tuple[str, str, str]:
    """Return what tells one candidate, and one version of it, from others."""
    candidate = an_element(given, what, code=CODE)
    return (
        a_choice(candidate.get("origin"), f"{what}: origin", ORIGINS, code=CODE),
        a_text(candidate.get("id"), f"{what}: id", code=CODE),
        a_text(candidate.get("content"), f"{what}: content", code=CODE),
    )


def _marked(state: State, moment: Moment, keys: list[str]) -> tuple[AnyOp, ...]:
    """Return the ops that mark these items of the context as promoted."""
    items = [_context(state)[key] for key in keys]
    growth = sum(held_bytes({**item, "promoted_at": moment.at}) - held_bytes(item) for item in items)
    marks = (SetPath(("working_context", "items", key, "promoted_at"), moment.at) for key in keys)
    return *marks, *accounted(state, {"working_context": growth})


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
