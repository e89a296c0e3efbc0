"""Long-term memory: what the session was told to remember, and what promotion kept, by id, in the order in which it was kept.

    {id, content, memory_type, confidence, source_type, importance_score, created_at, last_accessed, access_count,
     forgotten_at, forget_reason, replaced_by, metadata}

It is *not* what waits to be kept (`pending_memories.py`), nor what is kept of that (`promotion.py`), nor the search
(`agent_memory.py` of the session process). Rules: an id is one memory, and what is kept under it anew takes its place; what
is forgotten stays readable; when there is one too many, what was forgotten longest ago goes, else the least important.
"""

from __future__ import annotations

import heapq
from collections.abc import Mapping, Sequence
from typing import Any, Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounds import (
    FORGET_REASON_BYTES_MAX,
    MEMORIES_MAX,
    MEMORY_BYTES_MAX,
    QUERY_BYTES_MAX,
    RECALLED_MAX,
)
from procession.agent_proc.agent.code_session.checks import (
    a_choice,
    a_filled_text,
    a_list,
    a_share,
    a_text,
    a_whole_number,
    an_element,
    an_id,
)
from procession.agent_proc.agent.code_session.memory_scoring import importance
from procession.agent_proc.agent.code_session.memory_types import SOURCES, TYPES, a_confidence
from procession.agent_proc.agent.code_session.sizes import accounted, checked_size, held_bytes
from procession.agent_proc.agent.signal_types import MEMORY_FORGOTTEN, MEMORY_PROMOTED, MEMORY_STORED
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import AnyOp, DeletePath, SetState, State, Value

CODE: Final = "invalid_memory"
RECALL_CODE: Final = "invalid_recall"
FIELD: Final = "memories"
MODES: Final = ("text", "semantic", "hybrid")
"""How to search. There are no embeddings: each of them looks for the words."""

_TOLD: Final = ("content", "memory_type", "confidence")
"""What is told of a memory that was stored, beside its id."""

Memory = Mapping[str, Value]


# -- actions ---------------------------------------------------------------------------------------------------------


def remember(
    state: State,
    moment: Moment,
    content: Value,
    memory_type: Value = "fact",
    confidence: Value = 0.8,
    source_type: Value = "agent",
    id: Value = None,
    metadata: Value = None,
) -> Change:
    """Keep a memory, in the place of one with its id, and answer with it. Raises InvalidRequest, code invalid_memory."""
    text = _short(a_filled_text(content, "memory: content", code=CODE).strip(), "memory: content", MEMORY_BYTES_MAX)
    kind = a_choice(memory_type, "memory: memory_type", TYPES, code=CODE)
    sureness = a_confidence(confidence, "memory: confidence", code=CODE)
    made = new_memory(
        {
            "id": moment.new_id() if id is None else an_id(id, "memory: id", code=CODE),
            "content": text,
            "memory_type": kind,
            "confidence": sureness,
            "source_type": a_choice(source_type, "memory: source_type", SOURCES, code=CODE),
            "importance_score": importance(minutes=0, count=0, confidence=sureness, memory_type=kind),
            "created_at": moment.at,
            "metadata": {} if metadata is None else dict(an_element(metadata, "memory: metadata", code=CODE)),
        }
    )
    checked_size(state, made, "memory", code=CODE)
    ops, growth = kept(state, [made])
    return Change((*ops, *accounted(state, {FIELD: growth})), made)


def forget(
    state: State, moment: Moment, memory_id: Value, reason: Value = None, replacement_id: Value = None
) -> Change:
    """Mark a memory as no longer valid, and answer with it; it is not recalled from then on.

    replacement_id: of the memory that takes its place. Raises InvalidRequest: memory_not_found, already_forgotten,
    replacement_not_found, invalid_memory.
    """
    memory = get_memory(state, memory_id)
    if memory["forgotten_at"] is not None:
        raise InvalidRequest(f"the memory {shown(memory_id)} is forgotten already", code="already_forgotten")
    if reason is not None:
        _short(a_text(reason, "reason", code=CODE), "reason", FORGET_REASON_BYTES_MAX)
    if replacement_id is not None:
        _check_replacement(state, memory_id, replacement_id)
    attrs = {"forgotten_at": moment.at, "forget_reason": reason, "replaced_by": replacement_id}
    return Change(_updated(state, {memory_id: attrs}), {**memory, **attrs})


def record_recall(state: State, moment: Moment, ids: Value) -> Change:
    """Count a use of each of these memories, and answer with them. Raises InvalidRequest: memory_not_found, invalid_memory."""
    found = [get_memory(state, one) for one in a_list(ids, "ids", code=CODE)]
    used = {one["id"]: {"access_count": one["access_count"] + 1, "last_accessed": moment.at} for one in found}
    return Change(_updated(state, used), [{**one, **used[one["id"]]} for one in found])


# -- queries ---------------------------------------------------------------------------------------------------------


def get_memory(state: State, memory_id: Value) -> Memory:
    """Return a memory, a forgotten one too. Raises InvalidRequest, code memory_not_found."""
    memory = memories(state).get(an_id(memory_id, "memory_id", code=CODE))
    if memory is None:
        raise InvalidRequest(
            f"there is no memory {shown(memory_id)}",
            code="memory_not_found",
            hint="session.memory.all() and session.memory.recall() give the ids of those there are",
        )
    return memory


def get_memories(state: State, include_forgotten: Value = False) -> list[Value]:
    """Return what is remembered, oldest first. Raises InvalidRequest, code invalid_memory."""
    if type(include_forgotten) is not bool:
        raise InvalidRequest(f"include_forgotten must be True or False, not {shown(include_forgotten)}", code=CODE)
    return [one for one in memories(state).values() if include_forgotten or one["forgotten_at"] is None]


def recall_wanted(
    query: Value = None, limit: Value = 10, min_confidence: Value = 0.5, mode: Value = "text"
) -> tuple[str | None, int, float]:
    """Return what is looked for (None: the latest), how many at most, and how sure at least.

    Raises InvalidRequest, code invalid_recall.
    """
    if query is not None:
        query = a_filled_text(query, "query", code=RECALL_CODE).strip()
        _short(query, "query", QUERY_BYTES_MAX, code=RECALL_CODE)
    a_choice(mode, "mode", MODES, code=RECALL_CODE)
    most = a_whole_number(limit, "limit", 1, RECALLED_MAX, code=RECALL_CODE)
    return query, most, a_share(min_confidence, "min_confidence", code=RECALL_CODE)


# -- what is told ----------------------------------------------------------------------------------------------------


def told(ops: Sequence[AnyOp], session_id: str) -> list[tuple[str, dict[str, Value]]]:
    """Return the signals, type and data, about what these ops do to memories. A recall is told by whoever knows the query."""
    merged = [op.attrs for op in ops if type(op) is SetState]
    changed: dict[str, Memory] = next((attrs[FIELD] for attrs in merged if FIELD in attrs), {})
    new = [one for one in changed.values() if "content" in one]
    if new and any("promotion_stats" in attrs for attrs in merged):
        ids = [one["id"] for one in new]
        return [(MEMORY_PROMOTED, {"memory_ids": ids, "count": len(ids), "session_id": session_id})]
    stored = [
        (MEMORY_STORED, {"memory_id": one["id"], **{name: one[name] for name in _TOLD}, "session_id": session_id})
        for one in new
    ]
    forgotten = [
        (MEMORY_FORGOTTEN, {"memory_id": name, "reason": one["forget_reason"], "session_id": session_id})
        for name, one in changed.items()
        if "content" not in one and "forgotten_at" in one
    ]
    return [*stored, *forgotten]


# -- the map ---------------------------------------------------------------------------------------------------------


def memories(state: State) -> Mapping[str, Memory]:
    """Return all memories by id, forgotten ones too."""
    found: Mapping[str, Memory] = state[FIELD]
    return found


def new_memory(fields: Mapping[str, Value]) -> dict[str, Any]:
    """Return a memory that nobody has used or forgotten yet."""
    return {
        **fields,
        "last_accessed": None,
        "access_count": 0,
        "forgotten_at": None,
        "forget_reason": None,
        "replaced_by": None,
    }


def kept(state: State, made: Sequence[Memory]) -> tuple[tuple[AnyOp, ...], int]:
    """Return the ops that keep these memories, in their order, and by how many held bytes memories grow then.

    Of several with one id the last is kept. When there are too many, old ones go, never one of these.
    """
    old = memories(state)
    new = {one["id"]: one for one in made}
    replaced = [old[one] for one in new if one in old]
    over = len(old) - len(replaced) + len(new) - MEMORIES_MAX
    evicted: list[Memory] = []
    if over > 0:
        evicted = heapq.nsmallest(over, (one for one in old.values() if one["id"] not in new), key=_worth)
    gone = [*replaced, *evicted]
    ops: tuple[AnyOp, ...] = (*(DeletePath((FIELD, one["id"])) for one in gone), SetState({FIELD: new}))
    return ops, sum(map(held_bytes, new.values())) - sum(map(held_bytes, gone))


def _worth(memory: Memory) -> tuple[bool, Any]:
    forgotten_at = memory["forgotten_at"]
    return (True, memory["importance_score"]) if forgotten_at is None else (False, forgotten_at)


def _updated(state: State, attrs_by_id: Mapping[str, dict[str, Value]]) -> tuple[AnyOp, ...]:
    """Return the ops that give these memories these attributes, none of which is a mapping."""
    if not attrs_by_id:
        return ()
    old = memories(state)
    growth = sum(held_bytes({**old[one], **attrs}) - held_bytes(old[one]) for one, attrs in attrs_by_id.items())
    return SetState({FIELD: dict(attrs_by_id)}), *accounted(state, {FIELD: growth})


def _check_replacement(state: State, memory_id: str, replacement_id: Value) -> None:
    other = memories(state).get(an_id(replacement_id, "replacement_id", code=CODE))
    if other is None or other["forgotten_at"] is not None or replacement_id == memory_id:
        why = "there is none" if other is None else "it is forgotten" if replacement_id != memory_id else "it is itself"
        raise InvalidRequest(
            f"the memory {shown(replacement_id)} cannot take the place of {shown(memory_id)}: {why}",
            code="replacement_not_found",
            hint="keep what takes its place first, with session.memory.remember()",
        )


def _short(text: str, what: str, bytes_max: int, *, code: str = CODE) -> str:
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > bytes_max:
        raise InvalidRequest(
            f"{what} has {size} bytes, and may have {bytes_max}",
            code=code,
            hint="put what is long into a file and name it",
        )
    return text
