"""The state of a code session: its fields, what they are at the beginning, and its budgets.

    session session_id                              the record (made by the initializer, opaque here)
    messages reasoning_steps tool_calls todos       lists of elements, oldest first
    is_streaming streaming_message streaming_message_id
    prompt_history                                  texts, newest first: the one list in that order
    file_reads file_writes                          path -> time, in the order of the last use
    scroll_offset
    working_context                                 items by key, current_tokens, max_tokens
    pending_memories                                items by id, and agent_decisions
    memories                                        what is kept for long, by id, in the order in which it was kept
    access_log                                      accesses, oldest first
    promotion_enabled promotion_interval_ms promotion_stats
    sizes budgets                                   held bytes of each collection; what they are held against

It is *not* a class: a state is plain data, which ops change and a journal holds. Rules: every field is always there; a
collection changes only together with its size.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from procession.agent_proc.agent.code_session.bounds import (
    CONTEXT_TOKENS_MAX,
    ELEMENT_BYTES_MAX,
    STATE_BYTES_LEAST,
    STATE_BYTES_MAX,
)
from procession.agent_proc.agent.code_session.checks import a_whole_number
from procession.ipc.core.state_ops import Value

COLLECTIONS: Final = (
    "messages",
    "reasoning_steps",
    "tool_calls",
    "todos",
    "streaming_message",
    "prompt_history",
    "file_reads",
    "file_writes",
    "working_context",
    "pending_memories",
    "agent_decisions",
    "memories",
    "access_log",
)
"""What `sizes` counts."""
PROMOTION_INTERVAL_MS: Final = 30_000
"""Between two promotions, unless set."""


@dataclass(frozen=True, slots=True)
class Budgets:
    """How much a session may keep, in bytes: one element as it is written, and the whole state as it is held."""

    element_bytes_max: int = ELEMENT_BYTES_MAX
    state_bytes_max: int = STATE_BYTES_MAX
    context_tokens_max: int = CONTEXT_TOKENS_MAX

    def __post_init__(self) -> None:
        code = "invalid_budget"
        a_whole_number(self.state_bytes_max, "state_bytes_max", STATE_BYTES_LEAST, STATE_BYTES_MAX, code=code)
        a_whole_number(self.element_bytes_max, "element_bytes_max", 1, STATE_BYTES_MAX, code=code)
        a_whole_number(self.context_tokens_max, "context_tokens_max", 1, STATE_BYTES_MAX, code=code)


def empty_state(budgets: Budgets | None = None) -> dict[str, Value]:
    """Return the state of a session in which nothing has happened; the initializer adds the record."""
    budgets = budgets or Budgets()
    return {
        "messages": [],
        "reasoning_steps": [],
        "tool_calls": [],
        "todos": [],
        "scroll_offset": 0,
        "is_streaming": False,
        "streaming_message": None,
        "streaming_message_id": None,
        "prompt_history": [],
        "file_reads": {},
        "file_writes": {},
        "working_context": {"items": {}, "current_tokens": 0, "max_tokens": budgets.context_tokens_max},
        "pending_memories": {"items": {}, "agent_decisions": []},
        "memories": {},
        "access_log": [],
        "promotion_enabled": True,
        "promotion_interval_ms": PROMOTION_INTERVAL_MS,
        "promotion_stats": {"last_run": None, "total_promoted": 0, "runs": 0},
        "sizes": dict.fromkeys(COLLECTIONS, 0),
        "budgets": {
            "element_bytes_max": budgets.element_bytes_max,
            "state_bytes_max": budgets.state_bytes_max,
        },
    }
