"""Reasoning steps: what a model thought on its way, oldest first.

    {id, content, timestamp, metadata}

Rules: content is a text; keys without a meaning here, `type` for one, are kept in `metadata`.
"""

from __future__ import annotations

from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import REASONING_STEPS_MAX
from procession.agent_proc.agent.code_session.checks import a_text, an_element, id_of, metadata_of, time_of
from procession.ipc.core.state_ops import State, Value

CODE: Final = "invalid_reasoning_step"
STEPS: Final = BoundedList("reasoning_steps", ("reasoning_steps",), REASONING_STEPS_MAX, CODE)

_KEYS: Final = frozenset({"id", "content", "timestamp", "metadata"})


def add_reasoning_step(state: State, moment: Moment, step: Value) -> Change:
    """Add a step, and answer with it as it is kept; the oldest goes when there are too many."""
    given = an_element(step, "step", code=CODE)
    made = {
        "id": id_of(given, "step", moment, code=CODE),
        "content": a_text(given.get("content"), "step: content", code=CODE),
        "timestamp": time_of(given, "step", moment, code=CODE),
        "metadata": metadata_of(given, "step", _KEYS, code=CODE),
    }
    return Change(STEPS.append(state, made, "step"), made)


def clear_reasoning_steps(state: State, _moment: Moment) -> Change:
    """Drop all steps, and answer with the empty list."""
    return Change(STEPS.clear(state), [])


def get_reasoning_steps(state: State) -> list[Value]:
    """Return all steps, oldest first."""
    return STEPS.items(state)
