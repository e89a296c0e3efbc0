"""The built-in agent: a code session, as the contract has it. Its actions are plain functions over plain data.

It is *not* where any of them is: `code_session/` has the collections, `record/` the record. Users' agents are made of the
same parts; this one declares no model, because its functions check what they are given themselves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from procession.agent_proc.agent.actions import PlainAction, PlainQuery
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.code_session import functions
from procession.agent_proc.agent.code_session.routes import ACTIONS, ROUTES
from procession.agent_proc.agent.record import session_record
from procession.agent_proc.agent.router import Route
from procession.ipc.core.errors import InvalidRequest


class CodeSessionAgent(Agent[Mapping[str, Any]]):
    """The agent of a session that was given no other: messages, todos, tool calls, files, context, memories."""

    name = "code_session"
    routes: ClassVar[tuple[Route, ...]] = ROUTES
    plain_actions: ClassVar[Mapping[str, PlainAction]] = {**functions.ACTIONS, **session_record.ACTIONS, **ACTIONS}
    plain_queries: ClassVar[Mapping[str, PlainQuery]] = {**functions.QUERIES, **session_record.QUERIES}

    def __init_subclass__(cls, **options: Any) -> None:
        raise InvalidRequest(
            f"{cls.__name__} inherits from CodeSessionAgent, whose state only its own functions may change",
            code="invalid_agent",
            hint="give a code session a responder= and tools=, or let an agent of your own inherit from Agent",
        )
