"""Tool calls: their life as a table, what belongs to which status, and times."""

from __future__ import annotations

import datetime as dt
from itertools import product

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session.tool_calls import STATUSES, TRANSITIONS
from procession.ipc.core.state_ops import UpdateItem

ALLOWED = {
    ("pending", "running"),
    ("pending", "completed"),
    ("pending", "error"),
    ("pending", "timeout"),
    ("running", "completed"),
    ("running", "error"),
    ("running", "timeout"),
}


@pytest.fixture
def session() -> Played:
    return Played()


def add(session: Played, **fields: object) -> dict[str, object]:
    call: dict[str, object] = session.do("add_tool_call", tool_call={"id": "c1", "name": "read", **fields})
    return call


def test_a_new_call_is_pending_and_has_every_field(session: Played):
    call = add(session, arguments={"path": "a.py"}, caller="x")
    assert call == {
        "id": "c1",
        "name": "read",
        "arguments": {"path": "a.py"},
        "status": "pending",
        "result": None,
        "error": None,
        "timestamp": START,
        "started_at": None,
        "ended_at": None,
        "duration_ms": None,
        "metadata": {"caller": "x"},
    }
    assert session.ask("get_tool_calls") == [call]


@pytest.mark.parametrize(("before", "after"), list(product(STATUSES, STATUSES)))
def test_each_status_is_left_only_along_the_table(session: Played, before: str, after: str):
    add(session, status=before)
    if (before, after) in ALLOWED:
        assert session.do("update_tool_call", id="c1", status=after)["status"] == after
        assert session.ask("get_tool_calls")[0]["status"] == after
    else:
        error = session.refusal("invalid_transition", "update_tool_call", id="c1", status=after)
        assert before in str(error)
    assert ((before, after) in ALLOWED) == (after in TRANSITIONS[before])


def test_a_life_from_pending_to_completed_is_timed(session: Played):
    add(session)
    session.at = START + dt.timedelta(seconds=2)
    running = session.do("update_tool_call", id="c1", status="running")
    assert running["started_at"] == START + dt.timedelta(seconds=2)
    assert running["ended_at"] is None
    session.at = START + dt.timedelta(seconds=2, milliseconds=1250, microseconds=999)
    done = session.do("update_tool_call", id="c1", status="completed", result={"text": "x"})
    assert done["duration_ms"] == 1250
    assert (
        done["ended_at"]
        == session.ask("get_tool_calls")[0]["ended_at"]
        == START + dt.timedelta(seconds=3, milliseconds=250, microseconds=999)
    )
    assert done["result"] == {"text": "x"}


def test_one_that_never_ran_is_timed_from_when_it_was_asked_for(session: Played):
    add(session)
    session.at = START + dt.timedelta(seconds=30)
    assert session.do("update_tool_call", id="c1", status="timeout", error="not started")["duration_ms"] == 30_000


def test_a_duration_that_was_measured_is_kept(session: Played):
    add(session)
    assert session.do("update_tool_call", id="c1", status="error", error="no", duration_ms=7)["duration_ms"] == 7


def test_a_clock_that_went_back_makes_no_negative_duration(session: Played):
    add(session)
    session.at = START - dt.timedelta(hours=1)
    assert session.do("update_tool_call", id="c1", status="completed")["duration_ms"] == 0


@pytest.mark.contract("2.2 builders")
def test_an_update_says_only_what_changes(session: Played):
    add(session, arguments={"text": "x" * 1000})
    op = session.change("update_tool_call", id="c1", status="running").ops[0]
    assert op == UpdateItem(("tool_calls",), "id", "c1", {"status": "running", "started_at": session.at})


@pytest.mark.parametrize(
    ("status", "fields"),
    [
        ("running", {"result": 1}),
        ("running", {"error": "x"}),
        ("running", {"duration_ms": 1}),
        ("completed", {"error": "x"}),
        ("error", {"result": "x"}),
        ("timeout", {"result": "x"}),
        ("error", {"error": 7}),
        ("completed", {"duration_ms": -1}),
        ("completed", {"duration_ms": 1.5}),
        ("completed", {"result": object()}),
    ],
)
def test_what_does_not_belong_to_a_status_is_refused(session: Played, status: str, fields: dict[str, object]):
    add(session)
    session.refusal("invalid_tool_call", "update_tool_call", id="c1", status=status, **fields)
    if "result" not in fields or fields["result"] != "x" or status != "completed":
        session.refusal("invalid_tool_call", "add_tool_call", tool_call={"name": "read", "status": status, **fields})


def test_an_unknown_call_and_an_unknown_status_are_refused(session: Played):
    session.refusal("tool_call_not_found", "update_tool_call", id="c1", status="running")
    add(session)
    assert "pending, running, completed, error, timeout" in str(
        session.refusal("invalid_tool_call", "update_tool_call", id="c1", status="done")
    )


def test_an_id_may_be_used_again_once_its_call_has_ended(session: Played):
    add(session)
    session.refusal("duplicate_tool_call", "add_tool_call", tool_call={"id": "c1", "name": "write"})
    session.do("update_tool_call", id="c1", status="completed", result="first")
    add(session, name="write")
    session.do("update_tool_call", id="c1", status="completed", result="second")
    assert [(call["name"], call["result"]) for call in session.ask("get_tool_calls")] == [
        ("read", "first"),
        ("write", "second"),
    ]


@pytest.mark.parametrize("status", STATUSES)
def test_a_call_that_was_read_can_be_added_to_another_session_as_it_is(session: Played, status: str):
    outcome: dict[str, dict[str, object]] = {
        "completed": {"result": {"a": [1]}},
        "error": {"error": "no"},
        "timeout": {"error": "late"},
    }
    call = add(session, status=status, **outcome.get(status, {}))
    other = Played()
    other.wait(hours=1)
    assert other.do("add_tool_call", tool_call=call) == call


@pytest.mark.parametrize(
    "call",
    [
        "read",
        {},
        {"name": ""},
        {"name": 7},
        {"name": "x" * 257},
        {"name": "read", "arguments": []},
        {"name": "read", "arguments": '{"path": "a.py"}'},
        {"name": "read", "status": "done"},
        {"name": "read", "result": 1},
        {"name": "read", "started_at": START},
        {"name": "read", "ended_at": START},
        {"name": "read", "status": "running", "ended_at": START},
        {"name": "read", "status": "completed", "ended_at": "later"},
    ],
)
def test_what_is_no_tool_call_is_refused(session: Played, call: object):
    session.refusal("invalid_tool_call", "add_tool_call", tool_call=call)


def test_the_newest_five_hundred_are_kept_oldest_first(session: Played):
    session.fill("add_tool_call", ({"tool_call": {"id": str(count), "name": "read"}} for count in range(502)))
    assert [call["id"] for call in session.ask("get_tool_calls")] == [str(count) for count in range(2, 502)]
    session.refusal("tool_call_not_found", "update_tool_call", id="0", status="running")


@pytest.mark.contract("2.2 builders")
def test_clearing_leaves_none(session: Played):
    add(session)
    assert session.do("clear_tool_calls") == []
    assert session.ask("get_tool_calls") == []
