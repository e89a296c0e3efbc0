"""Long-term memory: what one has, how it is forgotten and used, which goes when there are too many, and what is refused."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helpers.code_session import START, Played
from helpers.counts import examples
from procession.agent_proc.agent.code_session import long_term
from procession.agent_proc.agent.code_session.long_term import recall_wanted, told
from procession.ipc.core.errors import InvalidRequest


@pytest.fixture
def session() -> Played:
    return Played()


def ids(session: Played, **options: object) -> list[str]:
    return [one["id"] for one in session.ask("get_memories", **options)]


def remember(session: Played, *names: str, **fields: object) -> None:
    for name in names:
        session.do("remember", content=name, id=name, **fields)


# -- remember --------------------------------------------------------------------------------------------------------


def test_a_memory_has_every_field(session: Played):
    made = session.do("remember", content="  tabs, not spaces\n", metadata={"evidence": ["a.py"]})
    assert made == {
        "id": "new-1",
        "content": "tabs, not spaces",
        "memory_type": "fact",
        "confidence": 0.8,
        "source_type": "agent",
        "importance_score": pytest.approx(0.2 + 0.25 * 0.8 + 0.25 * 0.7),
        "created_at": START,
        "last_accessed": None,
        "access_count": 0,
        "forgotten_at": None,
        "forget_reason": None,
        "replaced_by": None,
        "metadata": {"evidence": ["a.py"]},
    }
    assert session.ask("get_memory", memory_id="new-1") == made
    assert session.ask("get_memories") == [made]


def test_what_is_remembered_under_an_id_anew_takes_its_place_and_comes_last(session: Played):
    remember(session, "a", "b")
    session.do("record_recall", ids=["a"])
    session.do("remember", content="other", id="a", metadata={"why": "x"})
    assert ids(session) == ["b", "a"]
    again = session.ask("get_memory", memory_id="a")
    assert (again["content"], again["access_count"], again["metadata"]) == ("other", 0, {"why": "x"})
    session.do("remember", content="third", id="a")
    assert session.ask("get_memory", memory_id="a")["metadata"] == {}  # nothing is left of what was there


@pytest.mark.parametrize(
    "fields",
    [
        {"content": ""},
        {"content": " \n"},
        {"content": None},
        {"content": "x" * 2_001},
        {"content": "ä" * 1_001},
        {"memory_type": "gossip"},
        {"memory_type": None},
        {"confidence": 1.1},
        {"confidence": "utter"},
        {"source_type": "web"},
        {"id": ""},
        {"id": 7},
        {"metadata": "x"},
        {"metadata": {"x": object()}},
    ],
)
def test_what_is_no_memory_is_refused(session: Played, fields: dict[str, Any]):
    session.refusal("invalid_memory", "remember", **{"content": "x", **fields})


def test_two_thousand_bytes_are_counted_without_the_blanks_around(session: Played):
    assert session.do("remember", content="  " + "ä" * 1_000 + "\n")["content"] == "ä" * 1_000


# -- forget ----------------------------------------------------------------------------------------------------------


def test_what_is_forgotten_is_not_listed_and_can_still_be_read(session: Played):
    remember(session, "old", "new")
    at = session.at
    forgotten = session.do("forget", memory_id="old", reason="not so any more", replacement_id="new")
    assert (forgotten["forgotten_at"], forgotten["forget_reason"], forgotten["replaced_by"]) == (
        at,
        "not so any more",
        "new",
    )
    assert ids(session) == ["new"]
    assert ids(session, include_forgotten=True) == ["old", "new"]
    assert session.ask("get_memory", memory_id="old") == forgotten


def test_what_is_remembered_again_is_forgotten_no_more(session: Played):
    remember(session, "a")
    session.do("forget", memory_id="a")
    remember(session, "a")
    assert session.ask("get_memory", memory_id="a")["forgotten_at"] is None


@pytest.mark.parametrize(
    ("code", "params"),
    [
        ("memory_not_found", {"memory_id": "unknown"}),
        ("invalid_memory", {"memory_id": 7}),
        ("already_forgotten", {"memory_id": "gone"}),
        ("replacement_not_found", {"memory_id": "a", "replacement_id": "unknown"}),
        ("replacement_not_found", {"memory_id": "a", "replacement_id": "gone"}),
        ("replacement_not_found", {"memory_id": "a", "replacement_id": "a"}),
        ("invalid_memory", {"memory_id": "a", "reason": "x" * 501}),
        ("invalid_memory", {"memory_id": "a", "reason": 7}),
    ],
)
def test_what_cannot_be_forgotten_is_refused(session: Played, code: str, params: dict[str, object]):
    remember(session, "a", "gone")
    session.do("forget", memory_id="gone")
    session.refusal(code, "forget", **params)


# -- uses ------------------------------------------------------------------------------------------------------------


def test_a_use_is_counted_in_one_op_and_a_size(session: Played):
    remember(session, "a", "b")
    session.do("record_recall", ids=["a"])
    at = session.at
    change = session.change("record_recall", ids=["b", "a"])
    assert [list(op.attrs) for op in change.ops] == [["memories"], ["sizes"]]  # type: ignore[union-attr]
    used = session.do("record_recall", ids=["b", "a"])
    assert [(one["id"], one["access_count"], one["last_accessed"]) for one in used] == [("b", 1, at), ("a", 2, at)]
    assert ids(session) == ["a", "b"]
    assert session.change("record_recall", ids=[]).ops == ()
    session.refusal("memory_not_found", "record_recall", ids=["a", "unknown"])
    session.refusal("invalid_memory", "record_recall", ids="a")


def test_the_list_asks_for_a_yes_or_a_no(session: Played):
    session.refusal("invalid_memory", "get_memories", include_forgotten=1)
    session.refusal("memory_not_found", "get_memory", memory_id="unknown")


# -- recall ----------------------------------------------------------------------------------------------------------


def test_a_recall_has_its_defaults_and_bounds():
    assert recall_wanted() == (None, 10, 0.5)
    assert recall_wanted(" tabs ", 50, 0, "hybrid") == ("tabs", 50, 0.0)
    assert recall_wanted("x" * 1_000, 1, 1.0, "semantic") == ("x" * 1_000, 1, 1.0)


@pytest.mark.parametrize(
    "wrong",
    [
        {"query": " "},
        {"query": 7},
        {"query": "x" * 1_001},
        {"limit": 0},
        {"limit": 51},
        {"limit": 1.5},
        {"min_confidence": 1.1},
        {"min_confidence": "high"},
        {"mode": "magic"},
        {"mode": None},
    ],
)
def test_a_recall_out_of_bounds_is_refused(wrong: dict[str, object]):
    with pytest.raises(InvalidRequest) as caught:
        recall_wanted(**wrong)
    assert caught.value.code == "invalid_recall"


# -- what is told ----------------------------------------------------------------------------------------------------


def signals(session: Played, name: str, **params: Any) -> list[tuple[str, dict[str, Any]]]:
    return told(session.change(name, **params).ops, "s")


def test_what_is_stored_forgotten_and_promoted_is_told(session: Played):
    assert signals(session, "remember", content="tabs", id="m", confidence=0.7) == [
        (
            "procession.memory.stored",
            {"memory_id": "m", "content": "tabs", "memory_type": "fact", "confidence": 0.7, "session_id": "s"},
        )
    ]
    remember(session, "m")
    assert signals(session, "forget", memory_id="m", reason="no") == [
        ("procession.memory.forgotten", {"memory_id": "m", "reason": "no", "session_id": "s"})
    ]
    decided = {"content": "x", "memory_type": "risk", "confidence": 1, "source_type": "user"}
    for name in ("a", "b"):
        session.do("add_agent_memory_decision", item={**decided, "id": name})
    assert signals(session, "promote") == [
        ("procession.memory.promoted", {"memory_ids": ["a", "b"], "count": 2, "session_id": "s"})
    ]


def test_what_neither_keeps_nor_forgets_is_not_told(session: Played):
    remember(session, "m")
    assert signals(session, "record_recall", ids=["m"]) == []  # told by whoever knows the query
    assert signals(session, "promote") == []
    assert signals(session, "update_context", key="user_intent", value="x") == []


# -- the cap ---------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.contract("1.5 long-term cap")
def test_of_more_than_ten_thousand_the_least_important_goes_and_never_the_new_one(session: Played):
    session.fill(
        "remember",
        (
            {"content": "x", "id": str(count), "confidence": 0.1 if count == 5_000 else 0.9, "memory_type": "risk"}
            for count in range(10_000)
        ),
    )
    session.do("remember", content="least of all", confidence=0, memory_type="unknown", id="new")
    assert len(session.state["memories"]) == 10_000
    assert "new" in session.state["memories"]
    assert "5000" not in session.state["memories"]


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> Played:
    monkeypatch.setattr(long_term, "MEMORIES_MAX", 3)
    return Played()


@pytest.mark.contract("1.5 long-term cap")
def test_forgotten_ones_go_first_the_one_forgotten_longest_ago_before_others(small: Played):
    remember(small, "a", "b", "c", confidence=1.0)
    small.do("forget", memory_id="c")
    small.do("forget", memory_id="b")
    remember(small, "d", confidence=0.0)
    assert list(small.state["memories"]) == ["a", "b", "d"]
    remember(small, "e", confidence=0.0)
    assert list(small.state["memories"]) == ["a", "d", "e"]
    remember(small, "f", confidence=1.0)
    assert list(small.state["memories"]) == ["a", "e", "f"]  # of equals the older


def test_one_that_takes_the_place_of_another_needs_no_room(small: Played):
    remember(small, "a", "b", "c")
    small.do("remember", content="anew", id="a")
    assert list(small.state["memories"]) == ["b", "c", "a"]


def test_what_is_replaced_is_not_counted_as_one_that_goes(small: Played):
    remember(small, "a", confidence=0.0)
    remember(small, "b", "c", confidence=1.0)
    for name in ("a", "d"):
        decided = {"content": "x", "memory_type": "risk", "confidence": 1, "source_type": "user", "id": name}
        small.do("add_agent_memory_decision", item=decided)
    small.do("promote")
    assert list(small.state["memories"]) == ["c", "a", "d"]


names = st.sampled_from("abcdefgh")
steps = st.lists(
    st.tuples(st.just("remember"), names, st.floats(0, 1))
    | st.tuples(st.just("forget"), names, st.none())
    | st.tuples(st.just("decide"), names, st.none())
    | st.tuples(st.just("promote"), st.integers(1, 3), st.none()),
    max_size=30,
)


@given(steps)
@settings(max_examples=examples(100), deadline=None)
def test_any_sequence_keeps_the_cap_and_what_was_just_kept(sequence: list[tuple[str, Any, Any]]):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(long_term, "MEMORIES_MAX", 4)
        session = Played()
        for what, which, confidence in sequence:
            waiting = [one["id"] for one in session.ask("get_pending_memories")]
            if what == "remember":
                session.do("remember", content="x", id=which, confidence=confidence)
                assert list(session.state["memories"])[-1] == which
            elif what == "forget" and which in ids(session):
                session.do("forget", memory_id=which)
            elif what == "decide":
                decided = {"content": "x", "memory_type": "risk", "confidence": 1, "source_type": "user", "id": which}
                session.do("add_agent_memory_decision", item=decided)
            elif what == "promote":
                count = session.do("promote", count_max=which)
                assert set(waiting[:count]) <= set(session.state["memories"])
            assert len(session.state["memories"]) <= 4
