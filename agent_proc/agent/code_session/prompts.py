"""The prompts that were typed, newest first, for going back through them.

Rules: a blank prompt is none; another is kept as it was typed, as often as it was.
"""

from __future__ import annotations

from typing import Final

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import PROMPTS_MAX
from procession.agent_proc.agent.code_session.checks import a_list, a_text
from procession.agent_proc.agent.code_session.sizes import accounted, checked_size, held_bytes
from procession.ipc.core.state_ops import PrependItems, State, Value

CODE: Final = "invalid_prompt"
PROMPTS: Final = BoundedList("prompt_history", ("prompt_history",), PROMPTS_MAX, CODE)


def add_to_prompt_history(state: State, _moment: Moment, prompt: Value) -> Change:
    """Add a prompt before all others, and answer with the list; the oldest goes when there are too many."""
    text = a_text(prompt, "prompt", code=CODE)
    prompts = PROMPTS.items(state)
    if not text.strip():
        return Change(reply=prompts)
    growth = checked_size(state, text, "prompt", code=CODE).held_bytes - sum(
        map(held_bytes, prompts[PROMPTS_MAX - 1 :])
    )
    return Change(
        (PrependItems(PROMPTS.path, (text,), PROMPTS_MAX), *accounted(state, {PROMPTS.name: growth})),
        [text, *prompts][:PROMPTS_MAX],
    )


def set_prompt_history(state: State, _moment: Moment, prompts: Value) -> Change:
    """Replace the list by the first PROMPTS_MAX of these, newest first, and answer with it."""
    given = a_list(prompts, "prompts", code=CODE)
    texts = [a_text(one, f"prompts[{index}]", code=CODE) for index, one in enumerate(given)]
    kept = [text for text in texts if text.strip()][:PROMPTS_MAX]
    return Change(PROMPTS.replace(state, kept, "prompts"), kept)


def get_prompt_history(state: State) -> list[Value]:
    """Return the prompts, newest first."""
    return PROMPTS.items(state)
