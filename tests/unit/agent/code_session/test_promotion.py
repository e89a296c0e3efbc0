"""Promotion: which candidates a run has, what it keeps and settles, when it is due, and the switch, the interval, the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session.promotion import promotion_wait_ms
from procession.agent_proc.agent.code_session.state import Budgets


@pytest.fixture
def session() -> Played:
    return Played()


def memory(id: str, score: float = 0.9, content: str = "tabs") -> dict[str, object]:
    return {
        "id": id,
        "content": content,
        "memory_type": "convention",
        "confidence": 0.9,
        "source_type": "user",
        "importance_score": score,
    }


def candidates(session: Played, **options: object) -> list[Any]:
    found: list[Any] = session.ask("promotion_candidates", at=session.at, **options)
    return found


def names(session: Played, **options: object) -> list[tuple[str, str]]:
    return [(one["origin"], one["id"]) for one in candidates(session, **options)]


def used_context(session: Played, key: str = "discovered_patterns", value: object = "layers", uses: int = 9) -> None:
    session.do("update_context", key=key, value=value)
    session.fill("get_context", ({"key": key} for _ in range(uses)))


# -- candidates ------------------------------------------------------------------------------------------------------


def test_a_new_session_has_none(session: Played):
    assert candidates(session) == []


def test_all_three_kinds_come_the_most_important_first(session: Played):
    session.do("add_pending_memory", item=memory("high", 0.97))
    session.do("add_pending_memory", item=memory("edge", 0.6))
    session.do("add_pending_memory", item=memory("below", 0.59))
    session.do("add_agent_memory_decision", item=memory("mine"))
    used_context(session)
    assert names(session) == [
        ("decision", "mine"),
        ("pending", "high"),
        ("context", "discovered_patterns"),
        ("pending", "edge"),
    ]


def test_a_candidate_of_the_context_is_a_whole_memory(session: Played):
    used_context(session, uses=4)
    (candidate,) = candidates(session)
    seconds = 1  # since the last use
    score = 0.2 / (1 + seconds / 60 / 30) + 0.3 * 0.5 + 0.25 * 0.8 + 0.25 * 0.8
    assert candidate.pop("importance_score") == pytest.approx(score)
    assert candidate == {
        "origin": "context",
        "id": "discovered_patterns",
        "content": "layers",
        "memory_type": "discovery",
        "confidence": 0.8,
        "source_type": "user",
        "suggested_by": "implicit",
        "created_at": START,
        "metadata": {"key": "discovered_patterns"},
    }


@pytest.mark.parametrize(("source", "source_type"), [("explicit", "user"), ("inferred", "agent"), ("tool", "tool")])
def test_the_source_of_a_context_item_becomes_that_of_a_memory(session: Played, source: str, source_type: str):
    session.do("update_context", key="pending_questions", value="why?", source=source)
    assert [one["source_type"] for one in candidates(session, threshold=0)] == [source_type]


@pytest.mark.parametrize("value", [None, "", "  "])
def test_what_has_nothing_to_say_is_no_candidate(session: Played, value: object):
    used_context(session, value=value)
    assert candidates(session, threshold=0) == []


def test_what_has_no_type_is_no_candidate(session: Played):
    used_context(session, key="active_errors", value="boom")
    assert candidates(session, threshold=0) == []
    session.do("update_context", key="active_errors", value="boom", memory_type="bug")
    assert names(session, threshold=0) == [("context", "active_errors")]


@pytest.mark.parametrize(
    ("value", "content"), [({"a": [1, None]}, '{"a":[1,null]}'), ([], "[]"), (7, "7"), (1j, "1j"), ((1, 2), "[1,2]")]
)
def test_a_value_that_is_no_text_becomes_one(session: Played, value: object, content: str):
    used_context(session, value=value)
    assert [one["content"] for one in candidates(session)] == [content]


def test_what_was_used_long_ago_and_seldom_is_below_the_threshold(session: Played):
    session.do("update_context", key="discovered_patterns", value="layers", confidence=0.5)
    session.wait(hours=10)
    assert candidates(session) == []


def test_twenty_at_most_and_the_most_important_of_them(session: Played):
    session.fill("add_pending_memory", ({"item": memory(f"m{n}", 0.6 + n / 100)} for n in range(30)))
    assert names(session) == [("pending", f"m{n}") for n in reversed(range(10, 30))]
    assert len(candidates(session, count_max=25)) == 25


@pytest.mark.parametrize(
    "options", [{"threshold": -0.1}, {"threshold": 1.1}, {"threshold": "x"}, {"count_max": 0}, {"count_max": 1.5}]
)
def test_options_out_of_range_are_refused(session: Played, options: dict[str, object]):
    session.refusal("invalid_promotion", "promotion_candidates", at=START, **options)


# -- what is kept, and settled ---------------------------------------------------------------------------------------


def kept(session: Played) -> list[tuple[str, str]]:
    return [(one["id"], one["content"]) for one in session.ask("get_memories")]


def test_what_is_kept_waits_no_more_and_is_no_candidate_again(session: Played):
    session.do("add_pending_memory", item=memory("one"))
    session.do("add_agent_memory_decision", item=memory("mine"))
    used_context(session)
    assert session.do("promote") == 3
    assert candidates(session) == []
    assert session.ask("get_pending_memories") == []
    assert session.ask("get_all_context") == {"discovered_patterns": "layers"}
    assert session.do("promote") == 0
    assert len(kept(session)) == 3


def test_a_memory_that_was_promoted_is_as_it_waited(session: Played):
    session.do("add_pending_memory", item={**memory("one", 0.7), "evidence": ["a.py"]})
    session.do("promote")
    assert session.ask("get_memory", memory_id="one") == {
        "id": "one",
        "content": "tabs",
        "memory_type": "convention",
        "confidence": 0.9,
        "source_type": "user",
        "importance_score": 0.7,
        "created_at": START,
        "last_accessed": None,
        "access_count": 0,
        "forgotten_at": None,
        "forget_reason": None,
        "replaced_by": None,
        "metadata": {"evidence": ["a.py"]},
    }


def test_what_is_below_the_threshold_waits_on(session: Played):
    session.do("add_pending_memory", item=memory("one", 0.9))
    session.do("add_pending_memory", item=memory("two", 0.5))
    assert session.do("promote") == 1
    assert session.do("promote", threshold=0.4) == 1
    assert [name for name, _ in kept(session)] == ["one", "two"]


def test_more_decisions_than_one_run_takes_are_there_for_the_next(session: Played):
    session.fill("add_agent_memory_decision", ({"item": memory(f"d{count}")} for count in range(25)))
    assert session.do("promote") == 20
    assert names(session) == [("decision", f"d{count}") for count in range(20, 25)]
    assert session.do("promote", count_max=300) == 5
    assert [name for name, _ in kept(session)] == [f"d{count}" for count in range(25)]


def test_of_several_with_one_id_the_last_is_kept_and_none_is_taken_again(session: Played):
    session.fill("add_agent_memory_decision", ({"item": memory("d", content=str(count))} for count in range(25)))
    assert session.do("promote") == 20
    assert kept(session) == [("d", "19")]
    assert session.do("promote") == 5
    assert kept(session) == [("d", "24")]
    assert candidates(session) == []


@pytest.mark.parametrize("decided_last", [False, True])
def test_the_newest_under_an_id_is_kept_whatever_its_importance(session: Played, decided_last: bool):
    adding = [("add_agent_memory_decision", 1.0), ("add_pending_memory", 0.6)]
    for content, (name, score) in zip(("old", "new"), reversed(adding) if decided_last else adding, strict=True):
        session.do(name, item=memory("m", score, content=content))
    session.do("promote")
    assert kept(session) == [("m", "new")]


def test_each_value_of_a_context_item_is_a_memory_of_its_own(session: Played):
    used_context(session)
    session.do("promote")
    session.do("update_context", key="discovered_patterns", value="layers")
    assert candidates(session) == []
    session.do("update_context", key="discovered_patterns", value="hexagons")
    session.do("promote")
    assert [content for _, content in kept(session)] == ["layers", "hexagons"]
    assert {one["metadata"]["key"] for one in session.ask("get_memories")} == {"discovered_patterns"}
    session.do("update_context", key="discovered_patterns", value="hexagons", memory_type="risk")
    assert names(session) == [("context", "discovered_patterns")]


@pytest.mark.slow
def test_a_whole_full_store_is_promoted_in_a_few_runs(session: Played):
    session.fill("add_pending_memory", ({"item": memory(f"m{count}")} for count in range(500)))
    session.fill("remember", ({"content": "x", "id": f"old{count}"} for count in range(10_000)))
    assert session.do("promote", count_max=300) == 300
    assert session.do("promote", count_max=300) == 200
    assert len(session.state["memories"]) == 10_000
    assert {f"m{count}" for count in range(500)} <= set(session.state["memories"])


def test_moving_within_a_full_state_needs_no_more_room_than_the_difference():
    session = Played(Budgets(state_bytes_max=1 << 20))
    session.do("add_pending_memory", item=memory("large", content="x" * 700_000))
    assert session.do("promote") == 1
    assert session.state["sizes"]["pending_memories"] == 0


def test_every_run_counts_even_one_for_nothing(session: Played):
    assert session.ask("get_promotion_stats") == {
        "enabled": True,
        "interval_ms": 30_000,
        "last_run": None,
        "total_promoted": 0,
        "runs": 0,
    }
    session.do("disable_promotion")
    at = session.at
    assert session.do("promote") == 0
    session.do("add_pending_memory", item=memory("one"))
    assert session.ask("get_promotion_stats") | {"enabled": True} == {
        "enabled": True,
        "interval_ms": 30_000,
        "last_run": at,
        "total_promoted": 0,
        "runs": 1,
    }
    session.do("promote")
    assert session.ask("get_promotion_stats")["total_promoted"] == 1
    assert session.ask("get_promotion_stats")["runs"] == 2


@pytest.mark.parametrize("options", [{"threshold": 2}, {"count_max": 0}, {"count_max": 301}, {"count_max": None}])
def test_a_run_out_of_range_is_refused(session: Played, options: dict[str, object]):
    session.refusal("invalid_promotion", "promote", **options)


# -- when it is due --------------------------------------------------------------------------------------------------


def wait_ms(session: Played) -> int | None:
    return promotion_wait_ms(session.state, session.at)


def test_a_session_with_nothing_to_keep_has_nothing_to_wait_for(session: Played):
    assert wait_ms(session) is None
    session.do("add_pending_memory", item=memory("below", 0.59))
    session.do("update_context", key="active_errors", value="boom")
    assert wait_ms(session) is None


def test_what_waits_is_promoted_after_the_interval(session: Played):
    session.do("add_pending_memory", item=memory("one"))
    assert wait_ms(session) == 30_000
    session.do("set_promotion_interval", interval_ms=7)
    assert wait_ms(session) == 7
    session.do("promote")
    assert wait_ms(session) is None
    used_context(session)
    assert wait_ms(session) == 7


def test_a_decision_is_promoted_at_once(session: Played):
    session.do("add_agent_memory_decision", item=memory("mine"))
    assert wait_ms(session) == 0


def test_a_full_store_is_promoted_at_once_if_anything_in_it_can_be(session: Played):
    session.fill("add_pending_memory", ({"item": memory(f"m{count}", 0.5)} for count in range(500)))
    assert wait_ms(session) is None
    session.do("add_pending_memory", item=memory("new", 0.6))
    assert wait_ms(session) == 0


def test_a_session_that_is_not_to_promote_waits_for_nothing(session: Played):
    session.do("disable_promotion")
    session.do("add_agent_memory_decision", item=memory("mine"))
    assert wait_ms(session) is None
    session.do("enable_promotion")
    assert wait_ms(session) == 0


# -- the switch and the interval -------------------------------------------------------------------------------------


def test_enabling_and_disabling_twice_is_as_once(session: Played):
    assert session.change("enable_promotion").ops == ()
    session.do("disable_promotion")
    assert session.ask("get_promotion_stats")["enabled"] is False
    assert session.change("disable_promotion").ops == ()
    session.do("enable_promotion")
    assert session.ask("get_promotion_stats")["enabled"] is True


def test_the_interval_is_set(session: Played):
    assert session.do("set_promotion_interval", interval_ms=500) is None
    assert session.ask("get_promotion_stats")["interval_ms"] == 500


@pytest.mark.parametrize("interval", [0, -1, 1.5, "500", True, None, 10**12])
def test_an_interval_that_is_none_is_refused(session: Played, interval: object):
    session.refusal("invalid_interval", "set_promotion_interval", interval_ms=interval)
