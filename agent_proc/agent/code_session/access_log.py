"""Which context items and memories were used, how and when, oldest first.

    {key, access_type, timestamp}          key: a text, or ["memory", id]

Rules: a key is not looked up: what was used may be gone; all kinds of access count alike.
"""

from __future__ import annotations

from typing import Final, TypeAlias

from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.code_session.bounded_lists import BoundedList
from procession.agent_proc.agent.code_session.bounds import ACCESSES_MAX
from procession.agent_proc.agent.code_session.checks import a_choice, an_id
from procession.agent_proc.agent.texts import shown
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.state_ops import State, Value

ACCESS_TYPES: Final = ("read", "write", "query")
CODE: Final = "invalid_access"
ACCESSES: Final = BoundedList("access_log", ("access_log",), ACCESSES_MAX, CODE)

Key: TypeAlias = str | list[str]


def record_access(state: State, moment: Moment, key: Value, access_type: Value = "read") -> Change:
    """Note a use. Raises InvalidRequest, code invalid_access."""
    entry = {
        "key": _key(key),
        "access_type": a_choice(access_type, "access_type", ACCESS_TYPES, code=CODE),
        "timestamp": moment.at,
    }
    return Change(ACCESSES.append(state, entry, "access"))


def get_access_stats(state: State, key: Value) -> dict[str, Value]:
    """Return `frequency`, how often a key was used, and `recency`, when last (None: never), as far back as is kept."""
    wanted = _key(key)
    times = [entry["timestamp"] for entry in ACCESSES.items(state) if entry["key"] == wanted]
    return {"frequency": len(times), "recency": times[-1] if times else None}


def _key(key: Value) -> Key:
    if type(key) is str:
        return an_id(key, "key", code=CODE)
    if type(key) in (list, tuple) and len(key) == 2 and key[0] == "memory":
        return ["memory", an_id(key[1], "key: the id of a memory", code=CODE)]
    raise InvalidRequest(f'key must be a text or ("memory", id), not {shown(key)}', code=CODE)
