"""Pending memories: what one must have, which go when there are too many, and the tables behind them."""

from __future__ import annotations

import datetime as dt

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session import memory_scoring
from procession.agent_proc.agent.code_session.memory_types import (
    FAMILIES,
    LEVELS,
    SOURCES,
    TYPES,
    a_confidence,
    level_of,
)


@pytest.fixture
def session() -> Played:
    return Played()


def memory(id: str, score: float | None = None, **fields: object) -> dict[str, object]:
    given = {"content": "tabs, not spaces", "memory_type": "convention", "confidence": 0.9, "source_type": "user"}
    return {"id": id, **given, **({} if score is None else {"importance_score": score}), **fields}


def ids(session: Played) -> list[str]:
    return [item["id"] for item in session.ask("get_pending_memories")]


def test_an_item_is_kept_with_every_field(session: Played):
    item = session.do("add_pending_memory", item={**memory("m1"), "evidence": ["a.py"]})
    assert item == {
        "id": "m1",
        "content": "tabs, not spaces",
        "memory_type": "convention",
        "confidence": 0.9,
        "source_type": "user",
        "importance_score": 0.5,
        "suggested_by": "implicit",
        "created_at": START,
        "metadata": {"evidence": ["a.py"]},
    }
    assert session.state["pending_memories"]["items"] == {"m1": item}


def test_items_from_06_on_and_all_decisions_are_listed_by_score(session: Played):
    for name, score in (("low", 0.59), ("edge", 0.6), ("top", 0.9), ("mid", 0.8)):
        session.do("add_pending_memory", item=memory(name, score))
    session.do("add_agent_memory_decision", item=memory("mine", 0.1))
    assert ids(session) == ["mine", "top", "mid", "edge"]


def test_a_decision_is_as_important_as_can_be(session: Played):
    made = session.do("add_agent_memory_decision", item=memory("mine", 0.1, suggested_by="implicit"))
    assert (made["importance_score"], made["suggested_by"]) == (1.0, "agent")


@pytest.mark.parametrize("key", ["content", "memory_type", "confidence", "source_type"])
@pytest.mark.parametrize("name", ["add_pending_memory", "add_agent_memory_decision"])
def test_a_missing_key_is_refused_by_name(session: Played, name: str, key: str):
    item = memory("m1")
    del item[key]
    assert key in str(session.refusal("invalid_memory", name, item=item))


@pytest.mark.parametrize(
    "fields",
    [
        {"content": " "},
        {"content": ["x"]},
        {"memory_type": "idea"},
        {"confidence": 1.1},
        {"confidence": "sure"},
        {"confidence": True},
        {"source_type": "web"},
        {"importance_score": -0.1},
        {"importance_score": "high"},
        {"id": 7},
        {"created_at": "then"},
        {"evidence": object()},
    ],
)
def test_what_is_no_memory_is_refused(session: Played, fields: dict[str, object]):
    session.refusal("invalid_memory", "add_pending_memory", item=memory("m1") | fields)


def test_an_item_under_the_same_id_takes_its_place(session: Played):
    session.do("add_pending_memory", item=memory("m1", 0.7))
    session.do("add_pending_memory", item=memory("m1", 0.8, content="spaces"))
    assert [(item["content"], item["importance_score"]) for item in session.ask("get_pending_memories")] == [
        ("spaces", 0.8)
    ]


def full(session: Played, score: float = 0.5) -> None:
    session.fill("add_pending_memory", ({"item": memory(f"m{count}", score)} for count in range(500)))


def test_the_501st_evicts_the_least_important(session: Played):
    session.fill("add_pending_memory", ({"item": memory(f"m{n}", 0.2 if n == 250 else 0.7)} for n in range(500)))
    assert session.do("add_pending_memory", item=memory("new", 0.3))["id"] == "new"
    assert "m250" not in session.state["pending_memories"]["items"]
    assert len(session.state["pending_memories"]["items"]) == 500


def test_the_501st_is_itself_the_one_that_goes_when_it_is_the_least(session: Played):
    full(session)
    before = session.state
    assert session.do("add_pending_memory", item=memory("new", 0.4)) is None
    assert session.state == before


def test_among_equals_the_oldest_goes(session: Played):
    full(session)
    session.do("add_pending_memory", item=memory("new"))
    assert "m0" not in session.state["pending_memories"]["items"]
    assert "new" in session.state["pending_memories"]["items"]


def test_the_newest_hundred_decisions_are_kept(session: Played):
    session.fill("add_agent_memory_decision", ({"item": memory(f"d{count}")} for count in range(102)))
    assert ids(session) == [f"d{count}" for count in range(2, 102)]


def test_clearing_drops_the_named_items_and_all_decisions(session: Played):
    for name in ("one", "two"):
        session.do("add_pending_memory", item=memory(name, 0.9))
    session.do("add_agent_memory_decision", item=memory("mine"))
    assert session.do("clear_promoted_memories", ids=["one", "one", "unknown"]) is None
    assert ids(session) == ["two"]


def test_clearing_nothing_drops_the_decisions_all_the_same(session: Played):
    session.do("add_pending_memory", item=memory("one", 0.9))
    session.do("add_agent_memory_decision", item=memory("mine"))
    session.do("clear_promoted_memories", ids=[])
    assert ids(session) == ["one"]


def test_ids_must_be_a_list_of_ids(session: Played):
    session.refusal("invalid_memory", "clear_promoted_memories", ids="one")
    assert "ids[1]" in str(session.refusal("invalid_memory", "clear_promoted_memories", ids=["one", 7]))


# -- the tables ------------------------------------------------------------------------------------------------------


def test_there_are_22_types_in_four_families_and_four_sources(session: Played):
    assert len(TYPES) == len(set(TYPES)) == 22
    assert {family: len(types) for family, types in FAMILIES.items()} == {
        "knowledge": 6,
        "decision": 5,
        "convention": 5,
        "error": 6,
    }
    for type_ in TYPES:
        for source in SOURCES:
            session.fill("add_pending_memory", [{"item": memory("m1", memory_type=type_, source_type=source)}])
    assert SOURCES == ("user", "agent", "tool", "external_document")


@pytest.mark.parametrize(
    ("confidence", "level"),
    [(1.0, "high"), (0.8, "high"), (0.79, "medium"), (0.5, "medium"), (0.49, "low"), (0.0, "low")],
)
def test_a_confidence_has_a_level(confidence: float, level: str):
    assert level_of(confidence) == level


@pytest.mark.parametrize(("level", "confidence"), [("high", 0.9), ("medium", 0.6), ("low", 0.3)])
def test_a_level_stands_for_a_confidence_of_that_level(session: Played, level: str, confidence: float):
    assert a_confidence(level, "confidence", code="x") == confidence
    assert level_of(confidence) == level
    assert session.do("add_pending_memory", item=memory("m1", confidence=level))["confidence"] == confidence
    assert list(LEVELS) == ["high", "medium", "low"]


@pytest.mark.parametrize(
    ("type_", "salience"),
    [
        *[
            (type_, 1.0)
            for type_ in (
                "decision",
                "architectural_decision",
                "convention",
                "coding_standard",
                "lesson_learned",
                "risk",
            )
        ],
        ("discovery", 0.8),
        ("fact", 0.7),
        ("hypothesis", 0.5),
        ("assumption", 0.4),
        ("unknown", 0.3),
        (None, 0.3),
        ("bug", 0.3),
    ],
)
def test_salience_by_type(type_: str | None, salience: float):
    assert memory_scoring.salience(type_) == salience


@pytest.mark.parametrize(("minutes", "recency"), [(0, 1.0), (30, 0.5), (90, 0.25), (-5, 1.0)])
def test_recency_by_minutes(minutes: float, recency: float):
    assert memory_scoring.recency(minutes) == recency


@pytest.mark.parametrize(("count", "frequency"), [(0, 0.0), (3, 0.3), (10, 1.0), (99, 1.0)])
def test_frequency_by_count(count: int, frequency: float):
    assert memory_scoring.frequency(count) == frequency


def test_importance_weighs_the_four():
    score = memory_scoring.importance(minutes=30, count=5, confidence=0.8, memory_type="fact")
    assert score == pytest.approx(0.2 * 0.5 + 0.3 * 0.5 + 0.25 * 0.8 + 0.25 * 0.7)
    assert memory_scoring.importance(minutes=0, count=10, confidence=1.0, memory_type="risk") == pytest.approx(1.0)


def test_minutes_between_two_times():
    assert memory_scoring.minutes_between(START, START + dt.timedelta(seconds=90)) == 1.5
