"""The small values that the agent server keeps: the ring of debug events, and when an awaited agent is finished."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.counts import examples
from procession.agent_proc.agent.completion import Completion, Lost, all_of, any_of, finished
from procession.agent_proc.agent.debug_ring import CAPACITY_DEFAULT, CAPACITY_MAX, DebugEvent, DebugRing
from procession.ipc.core.agent_records import Finished
from procession.ipc.core.errors import InvalidRequest, SessionDied

AT = datetime(2026, 3, 1, tzinfo=UTC)


@pytest.mark.contract("3 debug events")
def test_a_ring_is_off_unless_asked_for_and_then_keeps_nothing():
    ring = DebugRing()
    assert ring.recorded(AT, "signal_received") is ring
    with pytest.raises(InvalidRequest) as caught:
        ring.recent()
    assert caught.value.code == "debug_not_enabled"
    assert ring.enabled().capacity == CAPACITY_DEFAULT


@pytest.mark.contract("3 debug events")
@given(st.integers(1, 5), st.integers(0, 12), st.integers(0, 6))
@settings(max_examples=examples(100), deadline=None)
def test_a_ring_keeps_its_newest_events_newest_first(capacity, count, limit):
    ring = DebugRing(capacity)
    events = [DebugEvent(AT + timedelta(seconds=n), "directive_finished", str(n), n / 2) for n in range(count)]
    for event in events:
        before, kept = ring, ring.events
        ring = ring.recorded(event.at, event.kind, event.detail, event.duration_ms)
        assert before.events is kept, "recording makes another ring"
    newest_first = events[::-1][:capacity]
    assert ring.recent() == newest_first
    assert ring.recent(limit) == newest_first[:limit]
    assert ring.enabled(2).recent() == newest_first[:2]
    assert ring.disabled() == DebugRing()


@pytest.mark.parametrize("capacity", [-1, CAPACITY_MAX + 1, True, 1.0, None])
def test_a_capacity_is_bounded(capacity):
    with pytest.raises(InvalidRequest) as caught:
        DebugRing(capacity)
    assert caught.value.code == "invalid_capacity"


@pytest.mark.contract("3 await_completion")
@pytest.mark.parametrize(
    ("state", "expected"),
    [
        ({}, None),
        ({"status": "running", "last_answer": 1}, None),
        ({"status": "completed", "last_answer": 42}, Finished("completed", 42)),
        ({"status": "completed"}, Finished("completed")),
        ({"status": "failed", "error": "why", "last_answer": 1}, Finished("failed", "why")),
        ({"status": ["completed"]}, None),
    ],
)
def test_an_agent_is_finished_when_its_state_says_so(state, expected):
    assert finished(state) == expected


@pytest.mark.contract("3 await_completion")
def test_where_a_state_says_it_may_be_told():
    where = Completion(("job", "status"), ("job", "answer"), ("job", "why"))
    assert finished({"job": {"status": "completed", "answer": [1]}}, where) == Finished("completed", [1])
    assert finished({"job": "completed"}, where) is None


DONE, BAD, DEAD = Finished("completed", 1), Finished("failed", "why"), SessionDied("gone")


@pytest.mark.contract("3 Await all / any / child / cancel")
@pytest.mark.parametrize(
    ("agents", "everyone", "anyone"),
    [
        ({}, {}, None),
        ({"a": None}, None, None),
        ({"a": DONE, "b": None}, None, ("a", DONE)),
        ({"a": None, "b": BAD}, None, ("b", BAD)),
        ({"a": DONE, "b": BAD}, {"a": DONE, "b": BAD}, ("a", DONE)),
        ({"a": None, "b": DEAD}, Lost(DEAD), Lost(DEAD)),
        ({"a": DONE, "b": DEAD}, Lost(DEAD), ("a", DONE)),
    ],
)
def test_awaiting_all_or_any(agents, everyone, anyone):
    assert all_of(agents) == everyone
    assert any_of(agents) == anyone
