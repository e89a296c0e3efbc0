"""A query of an agent, answered from its state: by its server while it has a process, by whoever asks while it has none.

Pure. It is *not* where the queries are (`code_session/functions.py`, `record/`). Rule: the same state gives the same answer and
the same error wherever it is asked.
"""

from __future__ import annotations

from collections.abc import Container, Mapping

from procession.agent_proc.agent.actions import PlainQuery
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.texts import near, shown
from procession.ipc.core.errors import InvalidRequest, cut
from procession.ipc.core.state_ops import State, Value

QUERIES_OF_ALL = ("get_state",)
"""What every agent can be asked."""


def answer(
    agent: str, queries: Mapping[str, PlainQuery], state: State, query: str, parameters: Mapping[str, Value]
) -> Value:
    """Return what a query answers. agent: its name, in texts. queries: its own.

    Raises InvalidRequest: unknown_query, invalid_parameters, and whatever the query refuses with.
    """
    found = queries.get(query)
    if found is None:
        if query in QUERIES_OF_ALL:
            return state
        check_ours(agent, query, CodeSessionAgent.plain_queries, "unknown_query")
        raise InvalidRequest(f"{agent} has no query {shown(query)}", code="unknown_query", hint=near(query, queries))
    try:
        return found(state, **parameters)
    except TypeError as error:  # its own signature says which names it takes
        raise InvalidRequest(cut(f"{query}: {error}"), code="invalid_parameters") from None


def check_ours(agent: str, name: str, of_code_sessions: Container[str], code: str) -> None:
    """Refuse a verb that an agent of the program's own does not have, since only code sessions do."""
    if name in of_code_sessions:
        raise InvalidRequest(
            f"{name} is for code sessions, and {agent} is an agent of another kind",
            code=code,
            hint="call(type, data) runs an action of its own, get_state() returns its state",
        )
