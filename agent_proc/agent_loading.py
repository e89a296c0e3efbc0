"""Which agent a session process has: the code session, a class that is imported, or one that came by value.

It is *not* imported by a session that has the built-in agent alone. Rule: this runs code of the program's author in the
session process, before it is ready; whatever goes wrong there is told as the reason why the session did not start.
"""

from __future__ import annotations

import importlib
import pickle  # host to session only: the host never loads what comes back
import sys
from collections.abc import Sequence
from typing import Any

from procession.agent_proc.agent.agent import Agent, check_agent
from procession.agent_proc.agent.references import parse_reference
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.loading import loading


def packed(kind: type[Agent[Any]]) -> bytes:
    """Return an agent class by value where it cannot be imported, for a child that has no more than we have."""
    import cloudpickle  # type: ignore[import-untyped, unused-ignore]

    data: bytes = cloudpickle.dumps(kind)
    return data


def load_agent(reference: str, code: bytes, import_paths: Sequence[str]) -> type[Agent[Any]]:
    """Return the agent class. Raises InvalidRequest (not_an_agent, agent_not_found), and whatever its module raises."""
    sys.path[:0] = [path for path in import_paths if path not in sys.path]
    if code:
        with loading("the agent"):
            return check_agent(pickle.loads(code))
    where = parse_reference(reference)
    with loading(where.module):
        module = importlib.import_module(where.module)
    found: Any = module
    for name in where.path:
        found = getattr(found, name, None)
        if found is None:
            raise InvalidRequest(f"there is no {name} in {where}", code="agent_not_found")
    return check_agent(found, where)
