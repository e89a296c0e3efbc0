"""How much a code session keeps, each bound with its unit and its reason.

The counts are the contract's; what has no reason of its own here was set there. Bytes are configurable (`state.Budgets`),
counts are not.
"""

from __future__ import annotations

from typing import Final

from procession.ipc.core.bounds import RESULT_OBJECT_BYTES_MAX, KiB, MiB

# -- counts ----------------------------------------------------------------------------------------------------------
MESSAGES_MAX: Final = 1_000
REASONING_STEPS_MAX: Final = 100
TOOL_CALLS_MAX: Final = 500
TODOS_MAX: Final = 1_000
"""The reference has no bound here. A list that nobody reads to its end is no plan; it is as long as the conversation may be."""
PROMPTS_MAX: Final = 100
FILES_MAX: Final = 1_000
"""Of reads, and as many of writes."""
PENDING_MEMORIES_MAX: Final = 500
AGENT_DECISIONS_MAX: Final = 100
MEMORIES_MAX: Final = 10_000
RECALLED_MAX: Final = 50
PROMOTED_MAX: Final = 300
"""Of one promotion: each may drop what waited and what it takes the place of, and a command has at most 1000 ops."""
ACCESSES_MAX: Final = 1_000
CONTEXT_TOKENS_MAX: Final = 12_000

# -- bytes -----------------------------------------------------------------------------------------------------------
ELEMENT_BYTES_MAX: Final = 4 * MiB
"""One message, as it is written; steps, tool calls, todos, prompts and memories are held to the same."""
MEMORY_BYTES_MAX: Final = 2_000
QUERY_BYTES_MAX: Final = 1_000
FORGET_REASON_BYTES_MAX: Final = 500
"""These three are the contract's: of what is remembered in one call, looked for, and given as a reason to forget."""
STATE_BYTES_MAX: Final = RESULT_OBJECT_BYTES_MAX
"""64 MiB: no snapshot of more could be read back."""
STATE_BYTES_LEAST: Final = 1 * MiB
"""Below, the reserve would be more than a small part of it."""
STATE_RESERVE_BYTES: Final = 128 * KiB
"""What is not counted piece by piece: the session's record, whose parts are bounded, and the fields that are one value."""

# -- single values ---------------------------------------------------------------------------------------------------
ID_CHARS_MAX: Final = 256
"""A UUID has 36; model providers make longer ones."""
TOOL_NAME_CHARS_MAX: Final = 256
"""Models may invent names: what they called is kept, also when no such tool can exist."""
PATH_BYTES_MAX: Final = 4_096
"""Linux takes no longer path (PATH_MAX)."""
SCROLL_OFFSET_MAX: Final = 2**53 - 1
"""The largest whole number that every JSON reader takes exactly."""
PROMOTION_INTERVAL_MS_MAX: Final = 7 * 86_400 * 1_000
"""A week: who wants it rarer disables it."""
DURATION_MS_MAX: Final = 366 * 86_400 * 1_000
"""A year: no tool call is that long, and what claims to be is a mistake of units."""
ELEMENT_DEPTH_MAX: Final = 24
"""Of the 32 levels that data may nest; the rest is for what an element is in: lists, pages, replies and ops."""
