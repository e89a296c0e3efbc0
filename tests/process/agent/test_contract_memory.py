"""Contract 1.3 to 1.5: files, working context, pending memories and promotion, through the Session API and a real process."""

from __future__ import annotations

import datetime as dt

import pytest

from procession import InvalidRequest, Session

pytestmark = pytest.mark.process


def refused(code: str, work, *args, **kwargs) -> InvalidRequest:
    with pytest.raises(InvalidRequest) as caught:
        work(*args, **kwargs)
    assert (caught.value.code, caught.value.ran) == (code, "no")
    return caught.value


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 track_file_read / track_file_write", "1.3 file_was_read?", "1.3 get_file_read_time")
def test_reads_and_writes_are_tracked_apart(chat: Session) -> None:
    assert (chat.files.was_read("a.py"), chat.files.read_time("a.py")) == (False, None)
    first = chat.files.track_read("a.py")
    assert (first.utcoffset(), chat.files.was_read("a.py"), chat.files.read_time("a.py")) == (
        dt.timedelta(0),
        True,
        first,
    )
    chat.files.track_write("b.py")
    assert chat.files.was_read("b.py") is False  # a write is no reading
    again = chat.files.track_read("a.py")
    assert again >= first
    assert chat.files.read_time("a.py") == again
    chat.files.clear()
    assert chat.files.was_read("a.py") is False
    refused("invalid_path", chat.files.track_read, "")


@pytest.mark.contract("1.3 track_file_read / track_file_write", "1.1 file_reads", "1.1 file_writes")
def test_the_last_thousand_files_are_kept(chat: Session) -> None:
    for number in range(1001):
        chat.files.track_read(f"{number}.py")
    assert (chat.files.was_read("0.py"), chat.files.was_read("1.py"), chat.files.was_read("1000.py")) == (
        False,
        True,
        True,
    )
    assert len(chat.query_state("file_reads")) == 1000


# --- context ----------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 update_context", "1.3 get_context", "1.3 get_context_item", "1.4 items")
def test_a_context_item_counts_its_uses(chat: Session) -> None:
    put = chat.context.set("framework", "django", source="tool", confidence=0.9)
    assert (put.access_count, put.source, put.confidence, put.suggested_type) == (1, "tool", 0.9, "fact")
    assert chat.context.get("framework") == "django"
    item = chat.context.item("framework")
    assert (item.access_count, item.first_seen) == (2, put.first_seen)
    assert chat.context.item("framework").access_count == 2  # looking is no use
    again = chat.context.set("framework", "flask")
    assert (again.source, again.confidence, again.access_count, again.first_seen) == (
        "explicit",
        0.8,
        3,
        put.first_seen,
    )


@pytest.mark.contract("1.3 get_context", "0.8 context")
def test_none_is_a_value_and_what_is_not_there_is_told(chat: Session) -> None:
    chat.context.set("user_intent", None)
    assert chat.context.get("user_intent") is None
    refused("key_not_found", chat.context.get, "framework")
    refused("key_not_found", chat.context.item, "framework")


@pytest.mark.contract("1.3 update_context", "0.8 context", "1.4 keys")
def test_a_key_that_is_none_of_the_eleven_is_refused_and_the_session_lives(chat: Session) -> None:
    for key in ("mood", "", 3):
        refused("invalid_context_key", chat.context.set, key, "x")
    assert chat.status().incarnation == 1
    assert chat.context.all() == {}


@pytest.mark.contract("1.3 get_all_context", "1.3 clear_context")
def test_the_whole_context(chat: Session) -> None:
    chat.context.set_many({"framework": "django", "current_task": ["a", 1]})
    assert chat.context.all() == {"framework": "django", "current_task": ["a", 1]}
    chat.context.clear()
    assert chat.context.all() == {}
    assert chat.query_state("working_context") == {"items": {}, "current_tokens": 0, "max_tokens": 12000}


@pytest.mark.contract("1.1 working_context", "0.8 context")
def test_the_budget_of_tokens_is_enforced_the_least_used_go_first(chat: Session) -> None:
    chat.context.set("framework", "x" * 20_000)
    chat.context.set("current_task", "y" * 20_000)
    chat.context.get("framework")
    chat.context.set("user_intent", "z" * 20_000)
    assert set(chat.context.all()) == {"framework", "user_intent"}
    assert chat.query_state("working_context.current_tokens") <= 12000


@pytest.mark.contract("1.4 suggested types")
@pytest.mark.parametrize(
    ("key", "source", "suggested"),
    [
        ("framework", "tool", "fact"),
        ("user_intent", "inferred", "assumption"),
        ("discovered_patterns", "explicit", "discovery"),
        ("pending_questions", "tool", "unknown"),
        ("active_errors", "tool", None),
        ("framework", "explicit", None),
    ],
)
def test_what_kind_of_memory_an_item_might_be(chat: Session, key: str, source: str, suggested: str | None) -> None:
    assert chat.context.set(key, "x", source=source).suggested_type == suggested
    assert chat.context.set(key, "x", memory_type="risk").suggested_type == "risk"


# --- memories ---------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.3 add_pending_memory", "1.3 get_pending_memories", "1.5 threshold")
def test_memories_that_are_important_enough_are_listed_by_importance(chat: Session) -> None:
    for score in (0.5, 0.9, 0.8):
        chat.memory.add(f"worth {score}", "fact", 0.9, "tool", importance_score=score)
    assert [memory.importance_score for memory in chat.memory.pending()] == [0.9, 0.8]
    unscored = chat.memory.add("no score", "fact", 0.9, "tool")
    assert unscored is not None
    assert unscored.importance_score == 0.5


@pytest.mark.contract("1.3 add_pending_memory")
@pytest.mark.parametrize(
    ("content", "kind", "confidence", "source"),
    [("", "fact", 0.9, "tool"), ("x", "gossip", 0.9, "tool"), ("x", "fact", 2, "tool"), ("x", "fact", 0.9, "nobody")],
)
def test_what_is_no_memory_is_refused_and_the_session_lives(chat: Session, content, kind, confidence, source) -> None:
    refused("invalid_memory", chat.memory.add, content, kind, confidence, source)
    assert chat.memory.pending() == []


@pytest.mark.contract("1.3 add_agent_memory_decision", "1.3 clear_promoted_memories")
def test_what_the_agent_decided_is_of_the_greatest_importance(chat: Session) -> None:
    chat.memory.disable_promotion()
    decided = chat.memory.decide("keep", "decision", 0.5, "agent", id="d1")
    assert (decided.importance_score, decided.suggested_by) == (1.0, "agent")
    chat.memory.add("a", "fact", 0.9, "tool", importance_score=0.8, id="m1")
    chat.memory.add("b", "fact", 0.9, "tool", importance_score=0.7, id="m2")
    assert [memory.id for memory in chat.memory.pending()] == ["d1", "m1", "m2"]
    chat.memory.clear_promoted(["m1"])
    assert "m1" not in [memory.id for memory in chat.memory.pending()]
    assert "m2" in [memory.id for memory in chat.memory.pending()]


@pytest.mark.contract("1.3 record_access", "1.3 get_access_stats", "1.1 access_log")
def test_uses_are_counted(chat: Session) -> None:
    assert chat.memory.access_stats("framework").frequency == 0
    for kind in ("read", "write", "query"):
        chat.memory.record_access("framework", kind)
    chat.memory.record_access(("memory", "m1"))
    stats = chat.memory.access_stats("framework")
    assert (stats.frequency, stats.recency is not None) == (3, True)
    assert chat.memory.access_stats(("memory", "m1")).frequency == 1
    refused("invalid_access", chat.memory.record_access, "framework", "delete")


@pytest.mark.contract(
    "1.3 enable_promotion / disable_promotion", "1.3 get_promotion_stats", "1.3 set_promotion_interval"
)
def test_promotion_is_switched_and_timed(chat: Session) -> None:
    stats = chat.memory.promotion_stats()
    assert (stats.enabled, stats.interval_ms, stats.last_run, stats.runs, stats.total_promoted) == (
        True,
        30000,
        None,
        0,
        0,
    )
    for _ in range(2):  # twice is as once
        chat.memory.disable_promotion()
    assert chat.memory.promotion_stats().enabled is False
    chat.memory.enable_promotion()
    chat.memory.set_promotion_interval(5)
    assert (chat.memory.promotion_stats().enabled, chat.memory.promotion_stats().interval_ms) == (True, 5)
    for bad in (0, -1, 1.5, "5", True):
        refused("invalid_interval", chat.memory.set_promotion_interval, bad)
