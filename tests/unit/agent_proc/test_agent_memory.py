"""The timer of promotion: armed while there is something to promote, anew when the wait changes, and not tried again at once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import pytest

from helpers.code_session import Played
from procession.agent_proc import agent_memory
from procession.agent_proc.agent_memory import Memories


class Timer:
    def __init__(self, wait_s: float, call: Callable[[], None]) -> None:
        self.wait_s = wait_s
        self.call = call
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


class Server:
    """What Memories asks of a server, over a code session that is played. refuses: every promotion is refused."""

    def __init__(self) -> None:
        self.session = Played()
        self.refuses = False
        self.performed: list[Any] = []
        self.told: list[str] = []
        self._timers: list[Timer] = []
        self.context = SimpleNamespace(loop=self, booted=SimpleNamespace(session="s"))
        self.memory = Memories(self)  # type: ignore[arg-type]

    @property
    def state(self) -> Any:
        return self.session.state

    def after(self, wait_s: float, call: Callable[[], None]) -> Timer:
        self._timers.append(Timer(wait_s, call))
        return self._timers[-1]

    def tell_subscribers(self, type_: str, data: Any) -> None:
        self.told.append(type_)

    def perform(self, instructions: Any) -> None:
        self.performed.append(instructions)
        if not self.refuses:
            self.do("promote", **(instructions[1] if isinstance(instructions, tuple) else {}))

    def do(self, name: str, **params: Any) -> None:
        ops: Sequence[Any] = self.session.change(name, **params).ops
        self.session.do(name, **params)
        self.memory.changed(ops)

    @property
    def waits_s(self) -> list[float]:
        """How long each timer that is armed waits."""
        return [timer.wait_s for timer in self._timers if not timer.cancelled]

    def ring(self) -> None:
        """Let the one timer that is armed be due."""
        (timer,) = (timer for timer in self._timers if not timer.cancelled)
        self._timers.clear()
        timer.call()


@pytest.fixture
def server() -> Server:
    return Server()


def memory(name: str, score: float = 0.9) -> dict[str, Any]:
    given = {"content": name, "memory_type": "fact", "confidence": 0.9, "source_type": "tool"}
    return {**given, "id": name, "importance_score": score}


def test_nothing_to_promote_is_nothing_to_wait_for(server: Server) -> None:
    server.do("add_pending_memory", item=memory("below", 0.5))
    server.do("update_context", key="active_errors", value="boom")
    assert server.waits_s == []


def test_one_timer_is_armed_once_and_none_after_a_run_that_took_all(server: Server) -> None:
    for name in ("a", "b"):
        server.do("add_pending_memory", item=memory(name))
    assert server.waits_s == [30.0]
    server.ring()
    assert server.performed == ["promote"]
    assert server.waits_s == []
    assert server.told == ["procession.memory.promoted"]


def test_what_one_run_left_is_waited_for_anew(server: Server) -> None:
    for number in range(25):
        server.do("add_pending_memory", item=memory(str(number)))
    server.ring()
    assert server.waits_s == [30.0]
    server.ring()
    assert (len(server.state["memories"]), server.waits_s) == (25, [])


def test_another_wait_is_armed_anew_and_none_is_ended(server: Server) -> None:
    server.do("add_pending_memory", item=memory("a"))
    server.do("set_promotion_interval", interval_ms=50)
    assert server.waits_s == [0.05]
    server.do("add_agent_memory_decision", item=memory("d"))
    assert server.waits_s == [0.0]
    server.do("disable_promotion")
    assert server.waits_s == []
    server.do("enable_promotion")
    assert server.waits_s == [0.0]


def test_a_run_that_is_refused_is_tried_again_after_the_interval_and_not_at_once(server: Server) -> None:
    server.refuses = True
    server.do("add_agent_memory_decision", item=memory("d"))
    assert server.waits_s == [0.0]
    server.ring()
    assert server.waits_s == [30.0]
    server.refuses = False
    server.ring()
    assert list(server.state["memories"]) == ["d"]


def test_what_is_not_worth_it_any_more_when_it_is_due_is_no_run(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(agent_memory, "now", lambda: server.session.moment)
    server.do("update_context", key="framework", value="django", source="tool", confidence=1.0)
    assert server.waits_s == [30.0]
    server.session.wait(hours=10)
    server.ring()
    assert (server.performed, server.waits_s) == ([], [])


@pytest.mark.parametrize(
    ("score", "enabled", "performed"),
    [(0.4, True, [("promote", {"threshold": 0.4})]), (0.39, True, []), (0.9, False, [])],
)
def test_the_end_promotes_what_is_worth_it_and_waits_for_nothing(
    server: Server, score: float, enabled: bool, performed: list[Any]
) -> None:
    if not enabled:
        server.do("disable_promotion")
    server.do("add_pending_memory", item=memory("a", score))
    server.memory.close()
    assert server.performed == performed
    assert server.waits_s == []
