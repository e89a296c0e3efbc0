"""Contract 1.4 and 1.5: what a context item keeps, how memories are scored, and what a promotion keeps."""

from __future__ import annotations

import datetime as dt
import math

import pytest

from procession import Host, InvalidRequest, MessageTooLarge, Session

pytestmark = pytest.mark.process

TYPES = """
    fact assumption hypothesis discovery risk unknown decision architectural_decision implementation_decision alternative
    trade_off convention coding_standard architectural_convention agent_rule process_convention error bug failure incident
    root_cause lesson_learned
""".split()
KEYS = """
    active_file project_root primary_language framework current_task user_intent discovered_patterns active_errors
    pending_questions file_relationships conversation_summary
""".split()


# --- context ----------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.4 keys")
def test_there_are_eleven_keys(chat: Session) -> None:
    for key in KEYS:
        chat.context.set(key, key)
    assert chat.context.all() == {key: key for key in KEYS}


@pytest.mark.contract("1.4 items")
@pytest.mark.parametrize(("given", "kept"), [(-1, 0.0), (2.5, 1.0), (1, 1.0), (0.25, 0.25), (math.inf, 1.0)])
def test_a_confidence_is_taken_into_its_range(chat: Session, given: float, kept: float) -> None:
    assert chat.context.set("framework", "x", confidence=given).confidence == kept
    with pytest.raises(InvalidRequest):
        chat.context.set("framework", "x", confidence=math.nan)


@pytest.mark.contract("1.4 items", "1.3 clear_context")
def test_what_is_put_after_a_clearing_is_new(chat: Session) -> None:
    first = chat.context.set("framework", "x")
    chat.context.get("framework")
    chat.context.clear()
    again = chat.context.set("framework", "x")
    assert again.access_count == 1
    assert again.first_seen >= first.last_accessed


@pytest.mark.contract("0.8 context", "1.1 working_context")
def test_what_is_more_than_the_whole_budget_is_refused_and_drops_nothing(chat: Session) -> None:
    chat.context.set("framework", "x")
    for work, code in (
        (lambda: chat.context.set("user_intent", "y" * 48_001), "context_item_too_large"),
        (lambda: chat.context.set_many(dict.fromkeys(KEYS, "y" * 10_000)), "context_too_large"),
    ):
        with pytest.raises(MessageTooLarge) as caught:
            work()
        assert (caught.value.code, caught.value.ran) == (code, "no")
    assert chat.context.all() == {"framework": "x"}


@pytest.mark.contract("1.4 suggested types")
@pytest.mark.parametrize("source", ["tool", "inferred", "explicit"])
def test_every_key_and_source_suggests_what_the_table_says(chat: Session, source: str) -> None:
    by_source = {
        "tool": dict.fromkeys(("framework", "primary_language", "project_root", "active_file"), "fact"),
        "inferred": dict.fromkeys(("user_intent", "current_task"), "assumption"),
        "explicit": {},
    }
    always = {"discovered_patterns": "discovery", "file_relationships": "discovery", "pending_questions": "unknown"}
    expected = {key: (by_source[source] | always).get(key) for key in KEYS}
    assert {key: chat.context.set(key, "x", source=source).suggested_type for key in KEYS} == expected


# --- memories ---------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.5 types and sources")
def test_there_are_twenty_two_types_of_memory_from_four_sources(chat: Session) -> None:
    assert len(TYPES) == 22
    for number, kind in enumerate(TYPES):
        source = ("user", "agent", "tool", "external_document")[number % 4]
        made = chat.memory.add(kind, kind, 0.5, source, importance_score=0.9)
        assert made is not None
        assert (made.memory_type, made.source_type) == (kind, source)
    assert [memory.memory_type for memory in chat.memory.pending()] == TYPES


@pytest.mark.contract("1.5 confidence levels")
@pytest.mark.parametrize(("level", "confidence"), [("high", 0.9), ("medium", 0.6), ("low", 0.3)])
def test_a_confidence_can_be_a_word(chat: Session, level: str, confidence: float) -> None:
    assert chat.memory.decide("x", "fact", level, "user").confidence == confidence
    with pytest.raises(InvalidRequest) as caught:
        chat.memory.decide("x", "fact", "utter", "user")
    assert caught.value.code == "invalid_memory"


@pytest.mark.contract("1.3 clear_promoted_memories")
def test_every_decision_goes_when_promoted_memories_are_cleared_even_with_none_named(chat: Session) -> None:
    chat.memory.disable_promotion()
    chat.memory.decide("x", "decision", 0.9, "agent")
    chat.memory.add("y", "fact", 0.9, "tool", importance_score=0.9, id="kept")
    chat.memory.clear_promoted([])
    assert [memory.id for memory in chat.memory.pending()] == ["kept"]
    chat.memory.clear_promoted(["not there", "kept"])
    assert chat.memory.pending() == []


@pytest.mark.contract("1.3 add_pending_memory")
def test_a_memory_that_is_added_again_under_its_id_is_one(chat: Session) -> None:
    chat.memory.add("old", "fact", 0.9, "tool", importance_score=0.9, id="m")
    chat.memory.add("new", "risk", 0.4, "user", importance_score=0.7, id="m", seen="twice")
    (kept,) = chat.memory.pending()
    assert (kept.content, kept.memory_type, kept.importance_score) == ("new", "risk", 0.7)
    assert kept.metadata == {"seen": "twice"}


@pytest.mark.contract("1.5 importance")
@pytest.mark.parametrize(
    ("uses", "confidence", "kind", "least"),
    [(1, 1.0, "decision", 0.73), (10, 0.0, "decision", 0.75), (10, 1.0, "unknown", 0.825), (1, 0.2, "unknown", 0.355)],
)
def test_the_importance_of_a_context_item_is_the_weighted_sum(
    chat: Session, uses: int, confidence: float, kind: str, least: float
) -> None:
    chat.context.set("framework", "x", confidence=confidence, memory_type=kind)
    for _ in range(uses - 1):
        chat.context.get("framework")
    (candidate,) = chat.memory.candidates(threshold=0)
    assert (candidate.origin, candidate.id, candidate.memory_type) == ("context", "framework", kind)
    # 0.2 recency, which begins to fade at once, + 0.3 frequency + 0.25 confidence + 0.25 salience
    assert least - 0.02 <= candidate.importance_score <= least + 1e-9


@pytest.mark.contract("1.5 threshold", "1.3 run_promotion_now")
def test_candidates_are_what_is_important_enough_the_most_important_first_and_at_most_twenty(chat: Session) -> None:
    chat.memory.disable_promotion()
    chat.context.set("user_intent", "no type")
    chat.context.set("pending_questions", "", source="tool")  # nothing to remember
    chat.context.set("active_errors", "worth it", confidence=1, memory_type="risk")
    chat.memory.decide("decided", "decision", 0.1, "agent")
    for score in (0.59, 0.6, 0.95):
        chat.memory.add(str(score), "fact", 0.9, "tool", importance_score=score)
    found = chat.memory.candidates()
    assert [(one.origin, one.content) for one in found] == [
        ("decision", "decided"), ("pending", "0.95"), ("context", "worth it"), ("pending", "0.6"),
    ]  # fmt: skip
    assert [one.content for one in chat.memory.candidates(threshold=0.9, count_max=1)] == ["decided"]
    assert len(chat.memory.candidates(threshold=0)) == 5
    for number in range(30):
        chat.memory.add("x", "fact", 0.9, "tool", importance_score=0.8, id=str(number))
    assert len(chat.memory.candidates()) == 20
    for wrong in ({"threshold": 1.1}, {"threshold": -0.1}, {"count_max": 0}):
        with pytest.raises(InvalidRequest) as caught:
            chat.memory.candidates(**wrong)
        assert caught.value.code == "invalid_promotion"


@pytest.mark.contract("1.3 run_promotion_now")
def test_a_run_is_counted_also_while_promotion_is_disabled_and_one_for_nothing(chat: Session) -> None:
    assert chat.memory.run_promotion_now() == 0
    first = chat.memory.promotion_stats()
    chat.memory.disable_promotion()
    chat.memory.add("x", "fact", 0.9, "tool", importance_score=0.9, id="waits")
    before = dt.datetime.now(dt.UTC)
    assert chat.memory.run_promotion_now() == 1
    stats = chat.memory.promotion_stats()
    assert (first.runs, stats.runs, stats.total_promoted, stats.enabled) == (1, 2, 1, False)
    assert first.last_run is not None
    assert stats.last_run is not None
    assert first.last_run <= before <= stats.last_run
    assert chat.memory.pending() == []
    assert [memory.id for memory in chat.memory.all()] == ["waits"]


@pytest.mark.contract("1.3 run_promotion_now", "1.5 promotion")
def test_what_a_run_keeps_waits_no_more_and_the_rest_is_there_for_the_next(chat: Session) -> None:
    chat.memory.disable_promotion()
    chat.memory.add("one", "fact", 0.9, "tool", importance_score=0.9, id="m1", seen="twice")
    chat.memory.add("two", "fact", 0.9, "tool", importance_score=0.5, id="m2")
    for number in range(22):
        chat.memory.decide(str(number), "decision", 0.9, "agent", id=f"d{number}")
    chat.context.set("framework", "django", source="tool", confidence=1)
    assert chat.memory.run_promotion_now() == 20
    assert [memory.id for memory in chat.memory.pending()] == ["d20", "d21", "m1"]
    assert chat.memory.run_promotion_now() == 4
    assert chat.memory.candidates() == []
    assert chat.context.item("framework").promoted_at == chat.memory.promotion_stats().last_run
    assert chat.memory.run_promotion_now(threshold=0.5, count_max=1) == 1
    kept = {memory.content: memory for memory in chat.memory.all()}
    assert set(kept) == {"one", "two", "django", *map(str, range(22))}
    assert (kept["one"].id, kept["one"].importance_score, kept["one"].metadata) == ("m1", 0.9, {"seen": "twice"})
    assert kept["django"].metadata == {"key": "framework"}
    assert chat.memory.promotion_stats().total_promoted == 25
    for wrong in ({"threshold": 1.1}, {"count_max": 0}, {"count_max": 301}):
        with pytest.raises(InvalidRequest) as caught:
            chat.memory.run_promotion_now(**wrong)
        assert caught.value.code == "invalid_promotion"


@pytest.mark.contract("1.1 promotion settings")
def test_promotion_is_set_at_creation(contract_host: Host) -> None:
    session = contract_host.start_session(config={"promotion_enabled": False, "promotion_interval_ms": 7})
    stats = session.memory.promotion_stats()
    assert (stats.enabled, stats.interval_ms) == (False, 7)
    assert set(session.get_session().config) == {"provider", "model", "temperature", "max_tokens"}
    contract_host.remove_session(session.id)
