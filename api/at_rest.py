"""What can be asked of a session that has no process: answered here from its committed state, and nothing is woken for it.

    ask ──▶ host: SessionNotRunning ──▶ state ──▶ the agent's own pure query ──▶ the answer that its process would have given

It is *not* for what changes something (an `act`, also one that only counts a use): that wakes a session that is down, and is
refused for one that was stopped or has failed. Rule: an answer is read by the same plan as one of the session's process, so the
faces differ in nothing. A session whose state cannot be restored says that, typed.
"""

from __future__ import annotations

from functools import partial
from typing import Final, TypeVar

import msgspec

from procession.api.core import plans
from procession.api.core.plans import Plan
from procession.ipc.core.backend import Backend, Request, Response
from procession.ipc.core.bounds import RESULT_NODES_MAX
from procession.ipc.core.errors import AgentError, ProcessionError, SessionNotRunning, ToolResultInvalid, cut
from procession.ipc.core.operations import OPERATIONS, AskBody, StateDone
from procession.ipc.core.values import encode_value

T = TypeVar("T")

ASK: Final = OPERATIONS["ask"]
_read_done: Final = msgspec.msgpack.Decoder(StateDone).decode


def carry_out(backend: Backend, plan: Plan[T]) -> T:
    """Make a call and return its result; a question to a session at rest is answered from its state. Raises as both do."""
    try:
        response = backend.call(plan.request)
    except SessionNotRunning as refusal:
        if plan.request.op is not ASK:
            raise
        reading = from_state(plan, refusal)
        return reading.finish(backend.call(reading.request))
    return plan.finish(response)


def from_state(plan: Plan[T], refusal: SessionNotRunning) -> Plan[T]:
    """Return the plan to make in the place of a question that was refused, because there is no process to answer it."""
    request = plans.state(refusal.session or plan.request.session).request
    request.timeout_s = plan.request.timeout_s
    return Plan(request, lambda response: plan.finish(partial(_answered, plan.request, refusal)(response)))


def _answered(asked: Request, refusal: SessionNotRunning, response: Response) -> Response:
    from procession.agent_proc.agent.asking import QUERIES_OF_ALL, answer
    from procession.agent_proc.agent.code_session_agent import CodeSessionAgent

    body = asked.body
    assert isinstance(body, AskBody)
    if not response.payload:
        raise refusal  # its agent has never begun
    try:
        agent = _read_done(response.body).agent
    except msgspec.MsgspecError as error:
        raise ToolResultInvalid(f"the answer cannot be read: {error}", code="result_unreadable") from None
    queries = {} if agent else CodeSessionAgent.plain_queries
    if agent and body.query not in (*QUERIES_OF_ALL, *CodeSessionAgent.plain_queries):
        raise refusal  # a query of its own, which only its process knows
    state, parameters = plans.plain_value(response.payload), plans.plain_value(asked.payload) or {}
    try:
        value = answer(agent or CodeSessionAgent.name, queries, state, body.query, parameters)
        return Response(response.body, encode_value(value, nodes_max=RESULT_NODES_MAX))
    except ProcessionError:
        raise
    except Exception as bug:  # noqa: BLE001 - as in its process: a state that is not as it should be is told
        raise AgentError(cut(f"{body.query}: {bug!r}"), code="session_bug") from None
