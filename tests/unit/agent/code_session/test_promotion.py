"""Promotion: which candidates a run has, what is settled after it, and the switch, the interval and the numbers."""

from __future__ import annotations

from typing import Any

import pytest

from helpers.code_session import START, Played


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


# -- what is settled -------------------------------------------------------------------------------------------------


def test_what_was_kept_is_no_candidate_again(session: Played):
    session.do("add_pending_memory", item=memory("one"))
    session.do("add_agent_memory_decision", item=memory("mine"))
    used_context(session)
    assert session.do("record_promotion", promoted=candidates(session)) == 3
    assert candidates(session) == []
    assert session.ask("get_pending_memories") == []
    assert session.ask("get_all_context") == {"discovered_patterns": "layers"}


def test_what_was_not_kept_stays_a_candidate(session: Played):
    session.do("add_pending_memory", item=memory("one", 0.9))
    session.do("add_pending_memory", item=memory("two", 0.8))
    session.do("add_agent_memory_decision", item=memory("mine"))
    used_context(session)
    kept = [one for one in candidates(session) if one["id"] == "one"]
    assert session.do("record_promotion", promoted=kept) == 1
    assert set(names(session)) == {("decision", "mine"), ("pending", "two"), ("context", "discovered_patterns")}


def test_more_decisions_than_one_run_takes_are_there_for_the_next(session: Played):
    session.fill("add_agent_memory_decision", ({"item": memory(f"d{count}")} for count in range(25)))
    assert session.do("record_promotion", promoted=candidates(session)) == 20
    assert names(session) == [("decision", f"d{count}") for count in range(20, 25)]


def test_what_changed_while_it_was_being_kept_stays_a_candidate(session: Played):
    session.do("add_pending_memory", item=memory("one"))
    session.do("add_pending_memory", item=memory("gone"))
    used_context(session)
    kept = candidates(session)
    session.do("add_pending_memory", item=memory("one", content="spaces"))
    session.do("clear_promoted_memories", ids=["gone"])
    session.do("update_context", key="discovered_patterns", value="hexagons")
    assert session.do("record_promotion", promoted=kept) == 3
    assert {(one["id"], one["content"]) for one in candidates(session)} == {
        ("one", "spaces"),
        ("discovered_patterns", "hexagons"),
    }


def test_what_went_from_the_context_meanwhile_does_not_come_back(session: Played):
    used_context(session)
    kept = candidates(session)
    session.do("clear_context")
    session.do("record_promotion", promoted=kept)
    assert session.state["working_context"]["items"] == {}


def test_an_item_put_again_as_it_was_is_not_promoted_again(session: Played):
    used_context(session)
    session.do("record_promotion", promoted=candidates(session))
    session.do("update_context", key="discovered_patterns", value="layers")
    assert candidates(session) == []
    session.do("update_context", key="discovered_patterns", value="layers", memory_type="risk")
    assert names(session) == [("context", "discovered_patterns")]


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
    assert session.do("record_promotion", promoted=[]) == 0
    session.do("add_pending_memory", item=memory("one"))
    assert session.ask("get_promotion_stats") | {"enabled": True} == {
        "enabled": True,
        "interval_ms": 30_000,
        "last_run": at,
        "total_promoted": 0,
        "runs": 1,
    }
    session.do("record_promotion", promoted=candidates(session))
    assert session.ask("get_promotion_stats")["total_promoted"] == 1
    assert session.ask("get_promotion_stats")["runs"] == 2


@pytest.mark.parametrize(
    "promoted",
    [
        "x",
        ["x"],
        [{"origin": "nowhere", "id": "a", "content": "x"}],
        [{"origin": "pending", "id": ["a"], "content": "x"}],
        [{"origin": "pending", "id": "a"}],
    ],
)
def test_what_is_no_candidate_is_refused(session: Played, promoted: object):
    session.refusal("invalid_promotion", "record_promotion", promoted=promoted)


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
