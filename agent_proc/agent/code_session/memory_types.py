"""What a memory can be: its type, where it came from, and how sure it is. Closed tables, the contract's.

It is *not* a memory: pending ones are in `pending_memories.py`, and kept ones in `long_term.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from procession.agent_proc.agent.code_session.checks import a_share
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest

FAMILIES: Final[Mapping[str, tuple[str, ...]]] = {
    "knowledge": ("fact", "assumption", "hypothesis", "discovery", "risk", "unknown"),
    "decision": ("decision", "architectural_decision", "implementation_decision", "alternative", "trade_off"),
    "convention": ("convention", "coding_standard", "architectural_convention", "agent_rule", "process_convention"),
    "error": ("error", "bug", "failure", "incident", "root_cause", "lesson_learned"),
}
TYPES: Final = tuple(type_ for family in FAMILIES.values() for type_ in family)
SOURCES: Final = ("user", "agent", "tool", "external_document")

LEVELS: Final[Mapping[str, tuple[float, float]]] = {"high": (0.8, 0.9), "medium": (0.5, 0.6), "low": (0.0, 0.3)}
"""From the surest on: the least confidence that is called so, and the confidence that the word stands for."""


def level_of(confidence: float) -> str:
    """Return the word for a confidence from 0 to 1."""
    return next(level for level, (least, _) in LEVELS.items() if confidence >= least)


def a_confidence(value: object, what: str, *, code: str) -> float:
    """Return a confidence that was given as a number from 0 to 1 or as one of the words in LEVELS."""
    if type(value) is not str:
        return a_share(value, what, code=code)
    if value not in LEVELS:
        raise InvalidRequest(
            f"{what} must be a number from 0 to 1 or one of {', '.join(LEVELS)}, not {shown(value)}", code=code
        )
    return LEVELS[value][1]
