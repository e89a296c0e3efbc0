"""A3: an agent whose tools are busy, beside one that is idle: how long it takes to answer.

Two tools of the one session sleep, and then two compute, while its state is asked for, its status, and a message is kept. The
loop of a session runs no tool, so sleeping ones must not be felt; those that compute share the machine's cores with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final

from bench.goals import Measured
from bench.ours import open_session
from bench.timing import Effort, Figure, per_call_s, take_turns
from procession import Session

_LASTS_S: Final = 300.0
"""Longer than the group may take: it is ended with its session."""
_MESSAGES: Final = 200


def measure(effort: Effort) -> Iterator[Measured]:
    """Yield a line for each verb, with sleeping tools, and one with computing tools."""
    count = effort.count(500, quick=100)
    with open_session() as (host, blocked):
        idle = host.start_session()
        for session in (blocked, idle):
            for _ in range(_MESSAGES):
                session.append_message("user", "x" * 64)
        with _two("import time; time.sleep({0})", blocked):
            for verb, ask in _VERBS.items():
                took = _compare(blocked, idle, ask, count, effort)
                yield Measured(
                    f"A3/{verb}", f"{verb}, two tools sleep", "pin0", "us", took["blocked"], "an idle one", took["idle"]
                )
        with _two("import time; end = time.time() + {0}\nwhile time.time() < end: pass", blocked):
            took = _compare(blocked, idle, _VERBS["status"], count, effort)
            note = "on one core with both of them"
            yield Measured(
                "A3/computing",
                "status, two tools compute",
                "pin0",
                "us",
                took["blocked"],
                "an idle one",
                took["idle"],
                note,
            )


_VERBS: Final[dict[str, Callable[[Session], object]]] = {
    "state": lambda session: session.get_state(),
    "status": lambda session: session.agent_status(),
    "append": lambda session: session.append_message("user", "x" * 64),
}


@contextmanager
def _two(code: str, session: Session) -> Iterator[None]:
    """Have two tools of a session at work meanwhile."""
    command = ["python3", "-c", code.format(_LASTS_S)]
    tools = [session.execute_tool_async("exec", {"command": command}, timeout=_LASTS_S) for _ in range(2)]
    while [call.status for call in session.get_tool_calls()[-2:]] != ["running", "running"]:
        session.ping()
    try:
        yield
    finally:
        for tool in tools:
            tool.cancel()


def _compare(
    blocked: Session, idle: Session, ask: Callable[[Session], object], count: int, effort: Effort
) -> dict[str, Figure]:
    sides = {
        "blocked": lambda: per_call_s(lambda: ask(blocked), count),
        "idle": lambda: per_call_s(lambda: ask(idle), count),
    }
    return {name: figure.scaled(1e6) for name, figure in take_turns(sides, effort.rounds).items()}
