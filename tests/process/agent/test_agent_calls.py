"""Agents that call agents: answers, failures, deadlines, and the call that would wait for itself."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helpers.agents import Caller, send, state_of
from helpers.hosts import SLACK
from procession import CallTimedOut, Host, Sandbox, Session

pytestmark = pytest.mark.process


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), preload=["pydantic"]) as opened:
        opened.remove_session(opened.start_session(agent=Caller).id)  # its zygote is the fixture's
        yield opened


@pytest.fixture
def agents(host: Host) -> Iterator[list[Session]]:
    started = [host.start_session(agent=Caller, name=name) for name in "abc"]
    yield started
    for one in started:
        host.remove_session(one.id)


@pytest.mark.contract("2.2 CallAgent")
def test_an_answer_comes_back_through_every_agent_that_asked(agents: list[Session]) -> None:
    a, b, c = agents
    assert send(a, "caller.ask", {"of": b.id, "path": []}) == "the end"
    assert send(a, "caller.ask", {"of": "b", "path": [c.id]}) == "the end"
    assert [one["status"] for one in state_of(a)["answers"]] == ["ok", "ok"]


@pytest.mark.contract("2.2 CallAgent")
@pytest.mark.guarantee("R-55")
@pytest.mark.parametrize("path", ["a", "ba", "bca"])
def test_a_call_that_would_wait_for_itself_is_refused_at_once(agents: list[Session], path: str) -> None:
    ids = dict(zip("abc", (one.id for one in agents), strict=True))
    began = time.monotonic()
    answer = send(agents[0], "caller.ask", {"of": ids[path[0]], "path": [ids[one] for one in path[1:]]})
    assert time.monotonic() - began <= 0.05 * SLACK  # four processes take part, none of them waits
    last = agents["abc".index(path[-2])] if len(path) > 1 else agents[0]
    (told,) = state_of(last)["answers"]
    assert (told["status"], told["reason"]["code"]) == ("error", "call_cycle")
    assert "waits for this call itself" in told["reason"]["message"]
    assert answer is not None
    assert [one.status().incarnation for one in agents] == [1, 1, 1]


def test_the_same_agent_can_be_asked_again_once_it_has_answered(agents: list[Session]) -> None:
    a, b, _ = agents
    for _ in range(3):
        assert send(a, "caller.ask", {"of": b.id, "path": []}) == "the end"
        assert send(b, "caller.ask", {"of": a.id, "path": []}) == "the end"


@pytest.mark.contract("2.2 CallAgent")
@pytest.mark.parametrize(
    ("of", "kind", "code"),
    [
        ("b", "caller.refuse", "agent_error"),
        ("b", "caller.unheard_of", "no_route"),
        ("nobody", "caller.answer", "not_found"),
    ],
)
def test_a_call_that_fails_says_why_to_the_one_that_asked(agents: list[Session], of: str, kind: str, code: str) -> None:
    answer = send(agents[0], "caller.ask_for", {"of": of, "kind": kind})
    assert (answer["status"], answer["reason"]["code"]) == ("error", code)


def test_a_call_that_is_not_answered_ends_at_its_deadline(agents: list[Session]) -> None:
    began = time.monotonic()
    answer = send(agents[0], "caller.ask_for", {"of": "b", "kind": "caller.never", "timeout_s": 0.2})
    assert answer["reason"]["code"] in ("await_timeout", "timeout")
    assert 0.2 <= time.monotonic() - began <= 0.2 + 0.5 * SLACK
    with pytest.raises(CallTimedOut):
        send(agents[0], "caller.ask_for", {"of": "b", "kind": "caller.never"}, timeout_s=0.2)
    assert send(agents[1], "caller.answer") == "the end"
