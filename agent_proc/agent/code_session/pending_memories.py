"""What may become memories: items that were noticed, by id, and decisions of the agent, in order.

    {id, content, memory_type, confidence, source_type, importance_score, suggested_by, created_at, metadata}

It is *not* long-term memory, and does not decide what is promoted to it (`promotion.py`). Rules: when there is an item too
many, the least important goes, the oldest among equals, and that may be the new one; a decision is as important as can be.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import AGENT_DECISIONS_MAX, PENDING_MEMORIES_MAX
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_filled_text,
    a_list,
    a_share,
    an_element,
    an_id,
    id_of,
    metadata_of,
    time_of,
)
from procession.agent_proc.agent.code_session.memory_types import SOURCES, TYPES, a_confidence
from procession.agent_proc.agent.code_session.sizes import accounted, checked_size, held_bytes
from procession.ipc.core.state_ops import AnyOp, DeletePath, PutEntry, State, Value

CODE: Final = "invalid_memory"
READY_SCORE: Final = 0.6
"""From this importance on an item is offered, and promoted unless another threshold is asked for."""
DEFAULT_SCORE: Final = 0.5
DECISION_SCORE: Final = 1.0

ITEMS: Final = ("pending_memories", "items")
DECISIONS: Final = BoundedList("agent_decisions", ("pending_memories", "agent_decisions"), AGENT_DECISIONS_MAX, CODE)

_KEYS: Final = frozenset(
    "id content memory_type confidence source_type importance_score suggested_by created_at metadata".split()
)


def _new_memory(given: object, moment: Moment, suggested_by: Literal["implicit", "agent"]) -> dict[str, Value]:
    what = "memory"
    fields = an_element(given, what, code=CODE)
    score = fields.get("importance_score")
    if suggested_by == "agent":
        score = DECISION_SCORE
    elif score is None:
        score = DEFAULT_SCORE
    return {
        "id": id_of(fields, what, moment, code=CODE),
        "content": a_filled_text(fields.get("content"), f"{what}: content", code=CODE),
        "memory_type": a_choice(fields.get("memory_type"), f"{what}: memory_type", TYPES, code=CODE),
        "confidence": a_confidence(fields.get("confidence"), f"{what}: confidence", code=CODE),
        "source_type": a_choice(fields.get("source_type"), f"{what}: source_type", SOURCES, code=CODE),
        "importance_score": a_share(score, f"{what}: importance_score", code=CODE),
        "suggested_by": suggested_by,
        "created_at": time_of(fields, what, moment, key="created_at", code=CODE),
        "metadata": metadata_of(fields, what, _KEYS, code=CODE),
    }


# -- actions ---------------------------------------------------------------------------------------------------------


def add_pending_memory(state: State, moment: Moment, item: Value) -> Change:
    """Add an item, or put it anew under its id; answer with it, or with None when it is itself the one that goes.

    Raises InvalidRequest, code invalid_memory.
    """
    made = _new_memory(item, moment, "implicit")
    items = pending_items(state)
    growth = checked_size(state, made, "memory", code=CODE).held_bytes
    ops: list[AnyOp] = []
    if made["id"] in items:
        growth -= held_bytes(items[made["id"]])
    elif len(items) >= PENDING_MEMORIES_MAX:
        least = min(items.values(), key=lambda other: other["importance_score"])  # the first, so the oldest, of equals
        if made["importance_score"] < least["importance_score"]:
            return Change()
        growth -= held_bytes(least)
        ops.append(DeletePath((*ITEMS, least["id"])))
    ops += (PutEntry(ITEMS, made["id"], made), *accounted(state, {"pending_memories": growth}))
    return Change(tuple(ops), made)


def add_agent_memory_decision(state: State, moment: Moment, item: Value) -> Change:
    """Add a decision, as important as can be, and answer with it.

    Raises InvalidRequest, code invalid_memory.
    """
    made = _new_memory(item, moment, "agent")
    return Change(DECISIONS.append(state, made, "memory"), made)


def clear_promoted_memories(state: State, _moment: Moment, ids: Value) -> Change:
    """Drop the items with these ids, and all decisions, whatever the ids."""
    wanted = [an_id(one, f"ids[{index}]", code=CODE) for index, one in enumerate(a_list(ids, "ids", code=CODE))]
    items = pending_items(state)
    found = [one for one in dict.fromkeys(wanted) if one in items]
    freed = sum(held_bytes(items[one]) for one in found)
    dropped = (DeletePath((*ITEMS, one)) for one in found)
    return Change((*dropped, *accounted(state, {"pending_memories": -freed}), *DECISIONS.clear(state)))


# -- queries ---------------------------------------------------------------------------------------------------------


def get_pending_memories(state: State) -> list[Value]:
    """Return every decision and the items with an importance from READY_SCORE on, the most important first."""
    return ready(state, READY_SCORE)


def ready(state: State, threshold: float) -> list[Value]:
    """Return every decision and the items with an importance from `threshold` on, the most important first."""
    items = [item for item in pending_items(state).values() if item["importance_score"] >= threshold]
    return sorted([*DECISIONS.items(state), *items], key=lambda item: -item["importance_score"])


def pending_items(state: State) -> Mapping[str, Mapping[str, Value]]:
    """Return the items by id, without the decisions."""
    items: Mapping[str, Mapping[str, Value]] = state["pending_memories"]["items"]
    return items
