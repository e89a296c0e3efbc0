"""Calls of tools that a model chose: both APIs' shapes, what it may use, how often, the log of it, and RunTool of an agent."""

from __future__ import annotations

import os
import select
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import IntEnum
from typing import Any

import pytest
from pydantic import BaseModel

from helpers.waiting import wait_until
from procession import (
    Host,
    InvalidRequest,
    Sandbox,
    Session,
    SessionNotFound,
    ToolCrashed,
    ToolResultInvalid,
    tool,
    tool_messages,
)
from procession.agent import Agent, Change, RunTool, action

pytestmark = pytest.mark.process


@tool(tier="read_only")
def look(n: int) -> int:
    return n


@tool(tier="privileged")
def wipe(n: int) -> int:
    return -n


@tool
def slow(seconds: float, n: int) -> int:
    select.select([], [], [], seconds)
    return n


@tool
def broken() -> None:
    raise ValueError("it broke")


@tool
def telling() -> dict[str, str]:
    return {"password": "hunter2-hunter2", "text": f"sk-{'a1' * 16}"}


class Place(BaseModel):
    name: str


@dataclass
class Route:
    """Its annotation is a text, which names what no other process has."""

    places: list[Place]


class Count(IntEnum):
    ONE = 1


@tool
def claim(kind: str) -> int | None:
    return Count.ONE if kind == "right" else "no"  # type: ignore[return-value]


@tool
def go(kind: str) -> Route:
    return Route([Place(name="Rome") if kind == "right" else 3])  # type: ignore[list-item]


@tool
def promise_nothing(kind: str):
    return kind


@tool
def fork_one(kind: str) -> int:
    """Let a child return, which is not the worker, and end without a result."""
    child = os.fork()
    if child == 0:
        return 1
    os.waitpid(child, 0)
    os._exit(3)


OWN: list[Callable[..., object]] = [look, wipe, slow, broken, telling, claim, go, promise_nothing, fork_one]


@pytest.fixture(scope="module")
def tool_host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), tools=OWN) as opened:
        opened.remove_session(opened.start_session().id)
        yield opened


@pytest.fixture
def session(tool_host: Host) -> Iterator[Session]:
    made = tool_host.start_session()
    yield made
    assert made.get_state() == made.committed_state()
    tool_host.remove_session(made.id)


def openai(*calls: tuple[str, str, str]) -> dict[str, Any]:
    """Return a reply as the OpenAI API gives it; calls: id, name, arguments as JSON."""
    asked = [
        {"id": key, "type": "function", "function": {"name": name, "arguments": arguments}}
        for key, name, arguments in calls
    ]
    return {"choices": [{"message": {"role": "assistant", "content": None, "tool_calls": asked}}]}


def anthropic(*calls: tuple[str, str, dict[str, Any]]) -> dict[str, Any]:
    used = [{"type": "tool_use", "id": key, "name": name, "input": given} for key, name, given in calls]
    return {"role": "assistant", "content": [{"type": "text", "text": "let me see"}, *used]}


# --- a reply in, results out ----------------------------------------------------------------------------------------
@pytest.mark.contract("2.5 executor")
def test_both_apis_replies_are_carried_out_and_answered_in_their_form(session: Session) -> None:
    results = session.execute_tool_calls(openai(("c1", "look", '{"n": 1}'), ("c2", "broken", "{}")))
    assert [(one.tool_call_id, one.status, one.content) for one in results] == [
        ("c1", "ok", "1"),
        ("c2", "error", "ValueError: it broke"),
    ]
    assert tool_messages(results, "openai") == [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": "Error: ValueError: it broke"},
    ]
    results = session.execute_tool_calls(anthropic(("t1", "look", {"n": 2})))
    (message,) = tool_messages(results, "anthropic")
    assert message["content"] == [{"type": "tool_result", "tool_use_id": "t1", "content": "2"}]
    kept = [(call.id, call.status) for call in session.get_tool_calls()]
    assert kept == [("c1", "completed"), ("c2", "error"), ("t1", "completed")]


@pytest.mark.parametrize("parallel", [True, False])
def test_results_keep_the_order_of_the_calls(session: Session, parallel: bool) -> None:
    asked = [(f"c{n}", "slow", f'{{"seconds": {0.3 if n == 0 else 0}, "n": {n}}}') for n in range(4)]
    began = time.monotonic()
    results = session.execute_tool_calls(openai(*asked), parallel=parallel)
    assert [one.content for one in results] == ["0", "1", "2", "3"]
    calls = session.get_tool_calls()
    first_end, second_start = calls[0].ended_at, calls[1].started_at
    assert first_end is not None
    assert second_start is not None
    assert (second_start < first_end) is parallel
    assert time.monotonic() - began < 20


def test_every_failure_is_a_result_of_its_own(session: Session) -> None:
    asked = openai(
        ("a", "nothing", "{}"),
        ("b", "look", '{"n": "x"}'),
        ("c", "slow", '{"seconds": 60, "n": 1}'),
        ("d", "look", '{"n": 4}'),
    )
    results = session.execute_tool_calls(asked, timeout=0.5)
    assert [one.status for one in results] == ["error", "error", "timeout", "ok"]
    assert "no tool 'nothing'" in results[0].content
    assert "wrong arguments for look" in results[1].content
    assert results[2].duration_ms >= 400


@pytest.mark.parametrize(("name", "declared"), [("claim", "int | None"), ("go", "Route")])
def test_a_result_that_is_not_what_was_declared_is_an_error_for_all(session: Session, name: str, declared: str) -> None:
    (result,) = session.execute_tool_calls({"id": "c", "name": name, "arguments": {"kind": "wrong"}})
    assert result.status == "error"
    assert f"the result is not {declared}" in result.content
    with pytest.raises(ToolResultInvalid, match="the result is not") as caught:
        session.call_tool(name, {"kind": "wrong"})
    assert (caught.value.ran, caught.value.report is not None) == ("yes", True)
    assert "return what the function declares" in caught.value.hint
    assert [call.status for call in session.get_tool_calls()] == ["error", "error"]


@pytest.mark.parametrize(
    ("name", "value", "content"),
    [
        ("claim", 1, "1"),
        ("go", Route([Place(name="Rome")]), '{"places":[{"name":"Rome"}]}'),
        ("promise_nothing", "right", "right"),
    ],
)
def test_a_result_that_is_what_was_declared_comes_as_that(
    session: Session, name: str, value: object, content: str
) -> None:
    (result,) = session.execute_tool_calls({"id": "c", "name": name, "arguments": {"kind": "right"}})
    assert (result.status, result.content) == ("ok", content)
    assert session.call_tool(name, {"kind": "right"}) == value
    assert [call.status for call in session.get_tool_calls()] == ["completed", "completed"]


def test_what_a_child_that_a_tool_forked_returns_is_no_result(session: Session) -> None:
    with pytest.raises(ToolCrashed):
        session.call_tool("fork_one", {"kind": "any"})
    assert [call.status for call in session.get_tool_calls()] == ["error"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ({"choices": [{"message": {"role": "assistant", "content": "hello"}}]}, "no_tool_calls"),
        ("look(3)", "no_tool_calls"),
        (openai(("c", "look", "{not json")), "invalid_tool_call"),
        (openai(("c", "look", "{}"), ("c", "look", "{}")), "invalid_tool_call"),
    ],
)
def test_a_reply_without_calls_or_with_a_wrong_one_is_refused_whole(session: Session, reply: object, code: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        session.execute_tool_calls(reply)
    assert caught.value.code == code
    assert session.get_tool_calls() == []


def test_what_a_model_reads_has_no_secrets_and_the_program_has_all(session: Session) -> None:
    (result,) = session.execute_tool_calls({"id": "c", "name": "telling", "arguments": {}})
    assert "hunter2" not in result.content
    assert "a1a1a1" not in result.content
    assert session.call_tool("telling")["password"] == "hunter2-hunter2"


def test_a_session_that_is_gone_raises(tool_host: Host) -> None:
    gone = tool_host.start_session()
    tool_host.remove_session(gone.id)
    with pytest.raises(SessionNotFound):
        gone.execute_tool_calls({"name": "look", "arguments": {"n": 1}})


# --- what a model may use -------------------------------------------------------------------------------------------
@pytest.mark.contract("2.5 permissions")
@pytest.mark.contract("0.16 permissions")
def test_a_tier_or_consent_lets_a_models_call_through(session: Session) -> None:
    def wiped() -> str:
        (result,) = session.execute_tool_calls({"name": "wipe", "arguments": {"n": 1}})
        return result.content if result.is_ok else "refused"

    assert session.permissions().tier == "execute"
    assert wiped() == "refused"
    assert session.get_tool_calls() == []
    assert session.call_tool("wipe", {"n": 1}) == -1  # the program's own call is bounded by the sandbox alone
    assert session.record_consent("wipe").consented == ("wipe",)
    assert wiped() == "-1"
    session.revoke_consent("wipe")
    assert wiped() == "refused"
    assert session.grant_tier("privileged").tier == "privileged"
    assert wiped() == "-1"
    for act, argument, code in (
        (session.grant_tier, "execute", "tier_downgrade"),
        (session.grant_tier, "root", "invalid_tier"),
        (session.revoke_consent, "wipe", "not_consented"),
        (session.revoke_consent, "", "invalid_tool"),
        (session.record_consent, "", "invalid_tool"),
        (session.grant_tier, "", "invalid_tier"),
        (session.grant_tier, 3, "invalid_request"),
        (session.record_consent, None, "invalid_request"),
        (session.revoke_consent, ["wipe"], "invalid_request"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            act(argument)  # type: ignore[arg-type]
        assert caught.value.code == code


def test_grants_outlive_the_process_and_are_the_hosts(session: Session) -> None:
    session.record_consent("wipe")
    session.kill()
    (result,) = session.execute_tool_calls({"name": "wipe", "arguments": {"n": 1}})
    assert result.content == "-1"


def test_calls_of_one_tool_are_limited_by_the_minute_when_asked_for() -> None:
    with Host(sandbox=Sandbox.off(), tools=[look], tool_rates={"read_only": 2}) as host:
        first, second = host.start_session(), host.start_session()
        asked = openai(*[(f"c{n}", "look", '{"n": 1}') for n in range(3)])
        results = first.execute_tool_calls(asked, parallel=False)
        assert [one.status for one in results] == ["ok", "ok", "error"]
        assert "too often" in results[2].content
        assert [one.status for one in second.execute_tool_calls(asked, parallel=False)] == ["ok", "ok", "error"]
        assert first.call_tool("look", {"n": 1}) == 1
        assert [entry.status for entry in host.audit(first.id)] == ["blocked", "ok", "ok"]
    for rates, code in (({"read": 2}, "invalid_tier"), ({"write": 0}, "invalid_rate_limit"), (3, "invalid_rate_limit")):
        with pytest.raises(InvalidRequest) as caught:
            Host(sandbox=Sandbox.off(), tool_rates=rates)  # type: ignore[arg-type]
        assert caught.value.code == code


@pytest.mark.contract("2.5 audit log")
def test_every_call_that_a_model_chose_is_in_the_log_and_no_other(tool_host: Host, session: Session) -> None:
    session.call_tool("look", {"n": 1})
    asked = [("a", "look", '{"n": 1}'), ("b", "look", '{"n": 1}'), ("c", "look", '{"n": 2}'), ("d", "wipe", '{"n": 1}')]
    session.execute_tool_calls(openai(*asked, ("e", "nothing", "{}")), parallel=False)
    session.execute_tool_calls({"name": "slow", "arguments": {"seconds": 60, "n": 1}}, timeout=0.2)
    entries = tool_host.audit(session.id)
    assert [(one.tool, one.status, one.code) for one in reversed(entries)] == [
        ("look", "ok", ""),
        ("look", "ok", ""),
        ("look", "ok", ""),
        ("wipe", "blocked", "permission_denied"),
        ("nothing", "error", "unknown_tool"),
        ("slow", "timeout", "timeout"),
    ]
    hashes = [one.arguments_hash for one in reversed(entries)]
    assert hashes[0] == hashes[1] != hashes[2]
    assert [len(one) for one in hashes] == [32] * 6
    assert [one.tool for one in tool_host.audit(session.id, tool="wipe")] == ["wipe"]
    assert len(tool_host.audit(limit=2)) == 2
    with pytest.raises(InvalidRequest, match="limit"):
        tool_host.audit(limit=-1)


# --- an agent that asks for tools -----------------------------------------------------------------------------------
class WorkerState(BaseModel):
    results: dict[str, Any] = {}


class Worker(Agent[WorkerState]):
    """Has tools run, and keeps what comes of it."""

    @action("work.run")
    def run(self, tool: str, arguments: dict[str, Any], id: str, timeout_s: float = 30.0) -> Change:
        return Change().asking(RunTool(tool, arguments, call_id=id, timeout_s=timeout_s))

    @action("procession.tool.result")
    def done(self, call_id: str, tool_name: str, result: Any, duration_ms: int) -> Change:
        return Change.set(results={**self.state.results, call_id: [tool_name, result]})

    @action("procession.tool.error")
    def failed(self, call_id: str, tool_name: str, reason: dict[str, Any], duration_ms: int) -> Change:
        return Change.set(results={**self.state.results, call_id: [tool_name, reason["code"]]})


@pytest.fixture
def worker(tool_host: Host) -> Iterator[Session]:
    made = tool_host.start_session(agent=Worker)
    yield made
    tool_host.remove_session(made.id)


def results_of(session: Session) -> dict[str, Any]:
    found: dict[str, Any] = session.get_state()["results"]
    return found


@pytest.mark.contract("2.2 RunTool")
def test_an_agent_has_tools_run_and_is_told_what_came_of_each(tool_host: Host, worker: Session) -> None:
    for key, name, arguments in (
        ("1", "look", {"n": 5}),
        ("2", "write_file", {"path": "a", "content": "hello"}),
        ("3", "wipe", {"n": 1}),
        ("4", "nothing", {}),
        ("5", "broken", {}),
        ("6", "todo", {"todos": []}),
    ):
        worker.call("work.run", {"tool": name, "arguments": arguments, "id": key})
    worker.call("work.run", {"tool": "slow", "arguments": {"seconds": 60, "n": 1}, "id": "7", "timeout_s": 0.2})
    wait_until(lambda: len(results_of(worker)) == 7, "all seven are told")
    results = results_of(worker)
    assert results["1"] == ["look", 5]
    assert results["2"][1]["path"] == "a"
    assert {key: results[key][1] for key in "34567"} == {
        "3": "permission_denied",
        "4": "unknown_tool",
        "5": "raised",
        "6": "not_a_code_session",
        "7": "timeout",
    }
    assert len(tool_host.audit(worker.id)) == 7


def test_an_agent_whose_process_dies_in_a_tool_is_told_that_nobody_knows(worker: Session) -> None:
    worker.call("work.run", {"tool": "slow", "arguments": {"seconds": 60, "n": 1}, "id": "1"})
    wait_until(lambda: any(call.op == "tool" and call.state == "running" for call in worker.calls()), "the tool runs")
    worker.kill()
    assert "1" not in results_of(worker)  # which starts nothing
    worker.ping()
    wait_until(lambda: "1" in results_of(worker), "it is told")
    assert results_of(worker)["1"] == ["slow", "tool_outcome_unknown"]


def test_an_agent_with_a_tool_under_way_goes_on_answering(worker: Session) -> None:
    worker.call("work.run", {"tool": "slow", "arguments": {"seconds": 60, "n": 1}, "id": "1", "timeout_s": 50})
    wait_until(lambda: any(call.op == "tool" and call.state == "running" for call in worker.calls()), "the tool runs")
    answered = threading.Event()

    def ask() -> None:
        assert results_of(worker) == {}
        worker.call("work.run", {"tool": "look", "arguments": {"n": 1}, "id": "2"})
        answered.set()

    asking = threading.Thread(target=ask)
    asking.start()
    asking.join(10)
    assert answered.is_set()
    wait_until(lambda: results_of(worker).get("2") == ["look", 1], "the short one is done")
