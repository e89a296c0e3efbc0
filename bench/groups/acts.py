"""A1, A2: what the agent of a session costs: a message kept beside an echo, and a page of many messages beside one of few.

A message is validated, given an id, counted, kept in the state of both processes, and answered with. The session is at its
bound of 1000 messages from the beginning, so that every message kept lets another one go.
"""

from __future__ import annotations

from collections.abc import Iterator

from bench.goals import Measured
from bench.ours import SMALL, open_session
from bench.timing import Effort, per_call_s, take_turns
from procession import Session
from procession.api.core import plans

_MESSAGE = {"role": "user", "content": "x" * 64}
_FULL = 1_000
_FEW = 10


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield one line for an append and one for a page."""
    count = effort.count(1000, quick=200)
    with open_session() as (host, full):
        few = host.start_session()
        for session, messages in ((full, _FULL), (few, _FEW)):
            for _ in range(messages):
                _append(session)
        took = take_turns(
            {
                "echo": lambda: per_call_s(lambda: full.echo(SMALL), count),
                "append": lambda: per_call_s(lambda: _append(full), count),
                "full": lambda: per_call_s(lambda: _page(full), count),
                "few": lambda: per_call_s(lambda: _page(few), count),
            },
            effort.rounds,
        )
    us = {name: figure.scaled(1e6) for name, figure in took.items()}
    yield Measured("A1/append", "append_message, 1000 kept", "pin0", "us", us["append"], "sync echo", us["echo"])
    yield Measured("A2/page", "a page of 10 of 1000 messages", "pin0", "us", us["full"], "of 10 messages", us["few"])


def _append(session: Session) -> None:
    session._do(plans.act(session.id, "append_message", {"message": _MESSAGE}))


def _page(session: Session) -> None:
    session._do(plans.ask(session.id, "get_messages", {"offset": 0, "limit": 10}))
