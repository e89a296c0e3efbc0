"""Ids and names of sessions, as a record has them: what may be one, with the reason why something is none.

It is *not* the rule of names (`ipc/core/names.py`), which holds for everybody who names a session, nor the look-up by name
and the rule of what is taken, which are the host's. Rule: an id is a UUID in one spelling.
"""

from __future__ import annotations

import uuid

from procession.agent_proc.agent.record.reasons import Reason
from procession.ipc.core.names import name_problem


def id_text(given: object) -> str | None:
    """Return an id in its one spelling, None for what is no UUID."""
    if type(given) is not str:
        return None
    try:
        return str(uuid.UUID(given))
    except ValueError:
        return None


def name_reason(name: object) -> Reason | None:
    """Say why this is no name: invalid_name, then name_too_long."""
    problem = name_problem(name)
    return None if problem is None else Reason(problem.code, problem.text)
