"""A signal that nobody waits for, planned: what is wrong with it is told before it leaves, since nobody would hear of it later.

It is *not* its delivery: the host answers as soon as the signal is on its way (host/families.py).
"""

from __future__ import annotations

from collections.abc import Mapping

from procession.agent_proc.agent.signals import Signal
from procession.api.core import agent_plans
from procession.api.core.plans import Plan
from procession.ipc.core.errors import InvalidRequest


def cast_plan(
    session: str,
    type: str,
    data: object,
    timeout_s: float | None,
    *,
    subject: str | None = None,
    id: str | None = None,
    extensions: Mapping[str, object] | None = None,
) -> Plan[str]:
    """Give the agent a signal; the result is its id. Raises InvalidRequest for what is no signal, as Signal does."""
    made = agent_plans.made_signal(type, data)
    if id is not None:
        made["id"] = id
    if subject is not None:
        made["subject"] = subject
    if extensions is not None:
        if not isinstance(extensions, Mapping):
            raise InvalidRequest(
                f"extensions must be a mapping, not a {extensions.__class__.__name__}", code="invalid_signal_extensions"
            )
        made["extensions"] = dict(extensions)
    Signal(**made)
    return agent_plans.cast(session, made, timeout_s)
