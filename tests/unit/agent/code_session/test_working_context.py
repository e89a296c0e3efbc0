"""The working context: eleven keys, what an item has, what it would be as a memory, and the budget of tokens."""

from __future__ import annotations

import datetime as dt

import pytest

from helpers.code_session import START, Played
from procession.agent_proc.agent.code_session.state import Budgets
from procession.agent_proc.agent.code_session.working_context import KEYS, SOURCES, suggested_type, tokens_of
from procession.ipc.core.state_ops import SetPath, SetState


@pytest.fixture
def session() -> Played:
    return Played()


def test_an_item_has_every_field(session: Played):
    item = session.do("update_context", key="framework", value="django")
    assert item == {
        "key": "framework",
        "value": "django",
        "source": "explicit",
        "confidence": 0.8,
        "access_count": 1,
        "first_seen": START,
        "last_accessed": START,
        "suggested_type": None,
        "tokens": tokens_of(len("framework") + len("django") + 9),
        "promoted_at": None,
    }
    assert session.ask("get_context_item", key="framework") == item
    assert session.ask("get_all_context") == {"framework": "django"}


def test_a_second_put_counts_keeps_first_seen_and_resets_what_is_not_given(session: Played):
    session.do("update_context", key="framework", value="x", source="tool", confidence=0.9, memory_type="risk")
    session.at = START + dt.timedelta(minutes=5)
    item = session.do("update_context", key="framework", value="y")
    assert (item["access_count"], item["first_seen"], item["last_accessed"]) == (
        2,
        START,
        START + dt.timedelta(minutes=5),
    )
    assert (item["source"], item["confidence"], item["suggested_type"]) == ("explicit", 0.8, None)


def test_reading_a_value_is_a_use_of_it(session: Played):
    session.do("update_context", key="framework", value="django")
    at = session.at
    assert session.do("get_context", key="framework") == "django"
    item = session.ask("get_context_item", key="framework")
    assert (item["access_count"], item["last_accessed"], item["first_seen"]) == (2, at, START)


def test_a_use_does_not_write_the_value_again(session: Played):
    session.do("update_context", key="framework", value="x" * 1000)
    (op,) = session.change("get_context", key="framework").ops
    used = {"access_count": 2, "last_accessed": session.at}
    assert op == SetState({"working_context": {"items": {"framework": used}}})


def test_looking_at_all_or_at_an_item_is_no_use(session: Played):
    session.do("update_context", key="framework", value="django")
    session.ask("get_all_context")
    assert session.ask("get_context_item", key="framework")["access_count"] == 1


def test_a_stored_none_is_a_value(session: Played):
    session.do("update_context", key="current_task", value=None)
    assert session.do("get_context", key="current_task") is None
    assert session.ask("get_all_context") == {"current_task": None}


@pytest.mark.parametrize("name", ["get_context", "get_context_item"])
def test_a_key_without_an_item_is_not_found(session: Played, name: str):
    session.do("update_context", key="framework", value=1)
    assert "framework" in str(session.refusal("key_not_found", name, key="current_task"))


@pytest.mark.parametrize("key", ["frame_work", "", None, 7, ["framework"]])
def test_an_illegal_key_is_refused_and_changes_nothing(session: Played, key: object):
    session.do("update_context", key="framework", value=1)
    error = session.refusal("invalid_context_key", "update_context", key=key, value=1)
    assert "framework" in error.hint
    session.refusal("invalid_context_key", "get_context", key=key)
    session.refusal("invalid_context_key", "get_context_item", key=key)


def test_all_eleven_keys_are_legal(session: Played):
    for key in KEYS:
        session.do("update_context", key=key, value=key)
    assert session.ask("get_all_context") == {key: key for key in KEYS}
    assert len(KEYS) == 11


@pytest.mark.parametrize(
    ("given", "kept"), [(0, 0.0), (1, 1.0), (0.25, 0.25), (-3, 0.0), (7.5, 1.0), (10**400, 1.0), (float("inf"), 1.0)]
)
def test_confidence_is_taken_into_0_to_1(session: Played, given: float, kept: float):
    assert session.do("update_context", key="framework", value=1, confidence=given)["confidence"] == kept


@pytest.mark.parametrize(
    "options",
    [
        {"source": "user"},
        {"source": None},
        {"confidence": "high"},
        {"confidence": float("nan")},
        {"confidence": True},
        {"memory_type": "idea"},
        {"value": object()},
    ],
)
def test_options_that_mean_nothing_are_refused(session: Played, options: dict[str, object]):
    session.refusal("invalid_context", "update_context", **{"key": "framework", "value": 1, **options})


def expected_type(key: str, source: str) -> str | None:
    if source == "tool" and key in ("framework", "primary_language", "project_root", "active_file"):
        return "fact"
    if source == "inferred" and key in ("user_intent", "current_task"):
        return "assumption"
    if key in ("discovered_patterns", "file_relationships"):
        return "discovery"
    return "unknown" if key == "pending_questions" else None


@pytest.mark.parametrize("key", KEYS)
@pytest.mark.parametrize("source", SOURCES)
def test_the_suggested_type_follows_the_table_and_memory_type_overrides_it(session: Played, key: str, source: str):
    assert suggested_type(key, source) == expected_type(key, source)
    assert session.do("update_context", key=key, value=1, source=source)["suggested_type"] == expected_type(key, source)
    overridden = session.do("update_context", key=key, value=1, source=source, memory_type="bug")
    assert overridden["suggested_type"] == "bug"


@pytest.mark.contract("2.2 builders")
def test_clearing_drops_the_items_and_keeps_the_budget(session: Played):
    session.do("update_context", key="framework", value="django")
    assert session.do("clear_context") is None
    assert session.ask("get_all_context") == {}
    assert session.state["working_context"] == {"items": {}, "current_tokens": 0, "max_tokens": 12000}
    assert session.change("clear_context").ops == ()


@pytest.mark.contract("2.2 builders")
def test_setting_replaces_all_items(session: Played):
    session.do("update_context", key="framework", value="django")
    assert session.do("set_context", values={"current_task": "x", "user_intent": None}) == {
        "current_task": "x",
        "user_intent": None,
    }
    assert session.ask("get_all_context") == {"current_task": "x", "user_intent": None}
    session.refusal("invalid_context_key", "set_context", values={"x": 1})
    session.refusal("invalid_context", "set_context", values=[])


# -- the budget of tokens --------------------------------------------------------------------------------------------


def small() -> Played:
    return Played(Budgets(context_tokens_max=100))


def sized(tokens: int, key: str) -> str:
    """A value that makes an item by `key` cost so many tokens."""
    return "x" * (tokens * 4 - len(key) - 9)


def put(session: Played, key: str, tokens: int) -> None:
    assert session.do("update_context", key=key, value=sized(tokens, key))["tokens"] == tokens


@pytest.mark.parametrize(("written", "tokens"), [(0, 0), (1, 1), (4, 1), (5, 2), (48_000, 12_000)])
def test_a_token_is_four_bytes_begun(written: int, tokens: int):
    assert tokens_of(written) == tokens


def test_tokens_are_counted_and_given_back():
    session = small()
    put(session, "framework", 40)
    put(session, "current_task", 30)
    assert session.state["working_context"]["current_tokens"] == 70
    put(session, "framework", 10)
    assert session.state["working_context"]["current_tokens"] == 40


def test_a_budget_that_is_just_filled_evicts_nothing():
    session = small()
    put(session, "framework", 60)
    put(session, "current_task", 40)
    assert set(session.ask("get_all_context")) == {"framework", "current_task"}


def test_the_item_used_longest_ago_goes_first():
    session = small()
    for key in ("framework", "current_task", "user_intent"):
        put(session, key, 30)
    session.do("get_context", key="framework")
    put(session, "active_file", 30)
    assert set(session.ask("get_all_context")) == {"framework", "user_intent", "active_file"}


def test_among_those_used_at_one_time_the_one_least_often_used_goes_first():
    session = small()
    for key in ("framework", "current_task"):
        put(session, key, 40)
    for key in ("framework", "framework", "current_task"):
        session.at = START + dt.timedelta(hours=1)
        session.do("get_context", key=key)
    put(session, "active_file", 40)
    assert set(session.ask("get_all_context")) == {"framework", "active_file"}


def test_often_used_long_ago_goes_before_once_used_just_now():
    session = small()
    put(session, "framework", 40)
    for _ in range(5):
        session.do("get_context", key="framework")
    put(session, "current_task", 40)
    put(session, "active_file", 40)
    assert set(session.ask("get_all_context")) == {"current_task", "active_file"}


def test_as_many_go_as_must_and_no_more():
    session = small()
    for key in ("framework", "current_task", "user_intent", "project_root"):
        put(session, key, 20)
    put(session, "active_file", 55)
    assert set(session.ask("get_all_context")) == {"user_intent", "project_root", "active_file"}


def test_an_item_that_grows_does_not_evict_itself():
    session = small()
    put(session, "framework", 30)
    put(session, "current_task", 30)
    put(session, "framework", 90)
    assert set(session.ask("get_all_context")) == {"framework"}


def test_an_item_may_fill_the_whole_budget():
    session = small()
    put(session, "current_task", 100)
    assert session.do("set_context", values={"framework": sized(100, "framework")}) != {}


def test_an_item_larger_than_the_whole_budget_is_refused():
    session = small()
    put(session, "framework", 30)
    session.refusal("context_item_too_large", "update_context", key="current_task", value=sized(101, "current_task"))
    session.refusal("context_item_too_large", "set_context", values={"current_task": sized(101, "current_task")})


def test_values_too_large_together_are_refused_as_a_whole():
    session = small()
    values = {"framework": sized(60, "framework"), "current_task": sized(41, "current_task")}
    session.refusal("context_too_large", "set_context", values=values)


def test_an_update_writes_one_item_and_the_sums(session: Played):
    session.do("update_context", key="framework", value="x" * 1000)
    paths = [
        op.path for op in session.change("update_context", key="current_task", value=1).ops if isinstance(op, SetPath)
    ]
    assert paths == [("working_context", "items", "current_task"), ("working_context", "current_tokens")]
