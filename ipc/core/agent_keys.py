"""What the agent server keeps beside an agent's state, in the same journal: names that no field of a state has."""

from __future__ import annotations

from typing import Final

JOBS_KEY: Final = "procession.jobs"
"""Cron jobs that an agent asked for, by id: they outlive its process."""
ANSWER_KEY: Final = "procession.answer"
"""The id of the answer that a responder is giving: after a death nobody goes on with it."""
TOOLS_KEY: Final = "procession.tools"
"""The ids of the tool calls that are under way, each with the tool's name: after a death nobody knows what became of them."""
FINISHED_KEY: Final = "procession.finished"
"""How an agent finished that is being stopped, {status, value}: whoever asks later is answered from it."""
SERVER_KEYS: Final = frozenset((JOBS_KEY, ANSWER_KEY, TOOLS_KEY, FINISHED_KEY))
"""A name with a dot is no field of a model, and the code session has none."""
