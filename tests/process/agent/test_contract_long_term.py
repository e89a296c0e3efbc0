"""Contract 1.5: what a code session keeps for long, how it is recalled and forgotten, and when it promotes by itself."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator, Sequence
from itertools import islice

import pytest

from helpers.agents import Counter
from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import Host, InvalidRequest, Memory, PendingMemory, Session

pytestmark = pytest.mark.process


def refused(code: str, work, *args, **kwargs) -> None:
    with pytest.raises(InvalidRequest) as caught:
        work(*args, **kwargs)
    assert (caught.value.code, caught.value.ran) == (code, "no")


def ids(found: Sequence[Memory | PendingMemory]) -> list[str]:
    return [memory.id for memory in found]


def remember(session: Session, **contents: str) -> None:
    for name, content in contents.items():
        session.memory.remember(content, id=name)


def wait_for_kept(session: Session, *names: str) -> None:
    """Wait until the session has kept exactly these by itself."""
    wait_until(lambda: sorted(ids(session.memory.all())) == sorted(names), f"{names} are kept")


# --- remember, recall, forget -----------------------------------------------------------------------------------------
@pytest.mark.contract("1.5 remember")
def test_what_is_remembered_is_kept_as_it_was_said(chat: Session) -> None:
    made = chat.memory.remember("  tabs, not spaces ", "convention", "high", source_type="user", id="m", seen="twice")
    assert (made.id, made.content, made.memory_type, made.confidence) == ("m", "tabs, not spaces", "convention", 0.9)
    assert (made.source_type, made.metadata, made.access_count, made.last_accessed) == (
        "user",
        {"seen": "twice"},
        0,
        None,
    )
    usual = chat.memory.remember("x")
    assert (usual.memory_type, usual.confidence, usual.source_type) == ("fact", 0.8, "agent")
    assert chat.memory.all() == [made, usual]
    assert chat.memory.get("m") == made
    refused("memory_not_found", chat.memory.get, "unknown")
    assert chat.memory.remember("x" * 2_000).content == "x" * 2_000
    for wrong in (("",), (" ",), ("x" * 2_001,), ("x", "gossip"), ("x", "fact", 2)):
        refused("invalid_memory", chat.memory.remember, *wrong)


@pytest.mark.contract("1.5 recall")
def test_any_word_finds_a_memory_and_what_has_more_of_them_comes_first(chat: Session) -> None:
    remember(
        chat,
        indent="the project indents with tabs",
        parser="the parser is written by hand",
        tests="tests of the parser run with make check",
        other="nothing of that",
    )
    found = chat.memory.recall("how do the PARSER's tests run?")
    assert ids(found)[:2] == ["tests", "parser"]
    assert found[0].score == 1.0
    assert [one.score for one in found] == sorted((one.score or 0.0 for one in found), reverse=True)
    assert ids(chat.memory.recall("tab")) == ["indent"]  # as in tabs
    assert ids(chat.memory.recall("arse")) == ["tests", "parser"]  # a part of a word, when nothing has it whole
    assert chat.memory.recall("zebra") == []


@pytest.mark.contract("1.5 recall")
def test_without_a_query_the_latest_come_and_a_limit_holds(chat: Session) -> None:
    remember(chat, **{f"m{number}": f"thing {number}" for number in range(60)})
    assert ids(chat.memory.recall()) == [f"m{number}" for number in range(59, 49, -1)]
    assert [one.score for one in chat.memory.recall(limit=1)] == [None]
    assert len(chat.memory.recall("thing")) == 10
    assert len(chat.memory.recall("thing", 50)) == 50
    for mode in ("text", "semantic", "hybrid"):
        assert ids(chat.memory.recall("7", mode=mode)) == ["m7"]


@pytest.mark.contract("1.5 recall")
def test_what_is_not_sure_enough_is_left_out(chat: Session) -> None:
    for confidence in (0.2, 0.5, 0.9):
        chat.memory.remember("tabs", confidence=confidence, id=str(confidence))
    assert sorted(ids(chat.memory.recall("tabs"))) == ["0.5", "0.9"]
    assert ids(chat.memory.recall("tabs", min_confidence=0.6)) == ["0.9"]
    assert ids(chat.memory.recall(min_confidence=0, limit=2)) == ["0.9", "0.5"]


@pytest.mark.contract("1.5 recall")
def test_a_recall_is_a_use_of_what_it_gives_and_of_nothing_else(chat: Session) -> None:
    remember(chat, tabs="tabs", spaces="spaces")
    (first,) = chat.memory.recall("tabs")
    (second,) = chat.memory.recall("tabs")
    assert (first.access_count, second.access_count) == (1, 2)
    assert first.last_accessed is not None
    assert second.last_accessed is not None
    assert first.last_accessed <= second.last_accessed
    assert chat.memory.get("tabs").access_count == 2
    assert chat.memory.get("spaces").last_accessed is None


@pytest.mark.contract("1.5 recall")
def test_a_query_is_words_and_no_syntax(chat: Session) -> None:
    remember(chat, tabs="tabs AND spaces", half="half a pair \ud800 here", japanese="日本語のテスト", sign="a => b")
    for query in ('tabs" OR x', "NEAR(tabs)", "content:tabs", "tabs*", "-tabs", "^tabs", "tabs NOT spaces", "'tabs"):
        assert ids(chat.memory.recall(query)) == ["tabs"], query
    assert ids(chat.memory.recall("half \ud800")) == ["half"]
    assert ids(chat.memory.recall("テスト")) == ["japanese"]
    assert ids(chat.memory.recall("=>")) == ["sign"]
    assert chat.memory.recall('"') == []
    assert ids(chat.memory.recall(" ".join(f"w{number}" for number in range(200)) + " tabs")) == ["tabs"]
    for wrong in ({"query": " "}, {"query": "x" * 1_001}, {"limit": 0}, {"limit": 51}, {"mode": "magic"}):
        refused("invalid_recall", chat.memory.recall, **wrong)
    refused("invalid_recall", chat.memory.recall, min_confidence=1.1)
    refused("invalid_parameters", chat._act, "recall", depth=3)


@pytest.mark.contract("1.5 forget")
def test_what_is_forgotten_is_recalled_no_more_and_can_still_be_read(chat: Session) -> None:
    remember(chat, old="tabs are used", new="spaces are used", gone="nothing is used")
    assert sorted(ids(chat.memory.recall("used"))) == ["gone", "new", "old"]
    forgotten = chat.memory.forget("old", "decided otherwise", "new")
    assert (forgotten.forget_reason, forgotten.replaced_by) == ("decided otherwise", "new")
    assert forgotten.forgotten_at is not None
    chat.memory.forget("gone")
    assert ids(chat.memory.recall("used")) == ids(chat.memory.recall()) == ids(chat.memory.all()) == ["new"]
    assert ids(chat.memory.all(include_forgotten=True)) == ["old", "new", "gone"]
    assert chat.memory.get("old") == forgotten
    refused("already_forgotten", chat.memory.forget, "old")
    refused("memory_not_found", chat.memory.forget, "unknown")
    refused("replacement_not_found", chat.memory.forget, "new", replacement_id="unknown")
    refused("invalid_memory", chat.memory.forget, "new", "x" * 501)
    remember(chat, old="tabs again")
    assert ids(chat.memory.recall("tabs")) == ["old"]


@pytest.mark.contract("1.5 recall", "0.5 a crash loses nothing")
def test_memories_survive_the_death_of_the_process_and_are_found_again(chat: Session) -> None:
    remember(chat, tabs="tabs are used", spaces="spaces are used")
    chat.memory.forget("spaces")
    chat.memory.recall("tabs")
    os.kill(pid_of(chat), signal.SIGKILL)
    (found,) = chat.memory.recall("used", timeout=20)
    assert (found.id, found.access_count, chat.status().incarnation) == ("tabs", 2, 2)


@pytest.mark.contract("1.5 recall")
def test_what_changed_since_the_last_recall_is_found_as_it_is_now(chat: Session) -> None:
    remember(chat, m="tabs")
    assert ids(chat.memory.recall("tabs")) == ["m"]
    remember(chat, m="spaces")
    assert (chat.memory.recall("tabs"), ids(chat.memory.recall("spaces"))) == ([], ["m"])


def test_who_follows_is_told_what_is_stored_recalled_forgotten_and_promoted(chat: Session) -> None:
    with chat.signals(follow=True) as told:
        remember(chat, m="tabs")
        chat.memory.recall("tabs")
        chat.memory.forget("m", "no")
        chat.memory.decide("keep this", "decision", 0.9, "agent", id="decided")
        wait_for_kept(chat, "decided")
        of_memory = (one for one in told if one.type.startswith("procession.memory."))
        found = {one.type.rpartition(".")[2]: one.data for one in islice(of_memory, 4)}
    assert {data.pop("session_id") for data in found.values()} == {chat.id}
    assert found == {
        "stored": {"memory_id": "m", "content": "tabs", "memory_type": "fact", "confidence": 0.8},
        "recalled": {"query": "tabs", "results": ["m"], "count": 1},
        "forgotten": {"memory_id": "m", "reason": "no"},
        "promoted": {"memory_ids": ["decided"], "count": 1},
    }


def test_only_a_code_session_recalls(contract_host: Host) -> None:
    session = contract_host.start_session(agent=Counter)
    refused("unknown_action", session.memory.recall)
    contract_host.remove_session(session.id)


# --- promotion by itself ----------------------------------------------------------------------------------------------
@pytest.fixture
def quick(contract_host: Host) -> Iterator[Session]:
    """A code session that promotes 50 ms after there is something to promote."""
    session = contract_host.start_session(config={"promotion_interval_ms": 50})
    yield session
    contract_host.remove_session(session.id)


def add(session: Session, name: str, score: float = 0.7) -> None:
    session.memory.add(name, "fact", 0.9, "tool", importance_score=score, id=name)


@pytest.mark.contract("1.5 promotion")
def test_what_is_important_enough_is_promoted_after_the_interval_and_a_session_with_nothing_else_rests(
    quick: Session,
) -> None:
    add(quick, "kept")
    add(quick, "below", 0.59)
    wait_for_kept(quick, "kept")
    assert list(quick.query_state("pending_memories.items")) == ["below"]
    runs = quick.memory.promotion_stats().runs
    add(quick, "second")
    wait_for_kept(quick, "kept", "second")
    assert quick.memory.promotion_stats().runs == runs + 1  # no run for nothing between the two
    assert ids(quick.memory.recall("second")) == ["second"]


@pytest.mark.contract("1.5 promotion", "1.3 set_promotion_interval")
def test_a_new_interval_holds_from_now_on(chat: Session) -> None:
    add(chat, "kept")
    assert ids(chat.memory.pending()) == ["kept"]
    chat.memory.set_promotion_interval(10)
    wait_for_kept(chat, "kept")


@pytest.mark.contract("1.5 promotion", "1.3 enable_promotion / disable_promotion")
def test_a_session_that_is_not_to_promote_does_so_once_it_is_to(quick: Session) -> None:
    quick.memory.disable_promotion()
    add(quick, "kept")
    quick.memory.decide("decided", "decision", 0.9, "agent", id="decided")
    assert ids(quick.memory.pending()) == ["decided", "kept"]
    assert quick.memory.all() == []
    quick.memory.enable_promotion()
    wait_for_kept(quick, "kept", "decided")


@pytest.mark.contract("1.5 promotion", "1.3 add_agent_memory_decision")
def test_a_decision_of_the_agent_is_promoted_at_once_and_with_it_what_waits(contract_host: Host, chat: Session) -> None:
    add(chat, "waits")
    chat.memory.decide("keep this", "decision", 0.9, "agent", id="decided")
    wait_for_kept(chat, "waits", "decided")
    assert chat.memory.pending() == []
    told = {event.type for event in contract_host.events() if event.session == chat.id}
    assert "session.ready" in told
    assert "session.notice" not in told  # no error, and no signal that nobody takes


@pytest.mark.contract("1.5 promotion", "1.3 add_pending_memory")
def test_when_five_hundred_wait_the_most_important_are_promoted_at_once(chat: Session) -> None:
    for number in range(500):
        add(chat, f"m{number}", 0.9 if number >= 480 else 0.7)
    wait_for_kept(chat, *(f"m{number}" for number in range(480, 500)))
    assert len(chat.memory.pending()) == 480


@pytest.mark.contract("1.5 promotion")
def test_what_waits_when_the_session_stops_is_promoted_from_a_lower_threshold_on(contract_host: Host) -> None:
    session = contract_host.start_session()
    for name, score in (("high", 0.9), ("low", 0.4), ("below", 0.39)):
        add(session, name, score)
    session.stop()
    state = session.committed_state()
    assert state is not None
    assert sorted(state["memories"]) == ["high", "low"]
    assert list(state["pending_memories"]["items"]) == ["below"]
    contract_host.remove_session(session.id)


@pytest.mark.contract("1.5 promotion")
def test_what_waits_through_a_death_is_promoted_by_the_next_process(quick: Session) -> None:
    quick.memory.set_promotion_interval(500)
    add(quick, "kept")
    os.kill(pid_of(quick), signal.SIGKILL)
    wait_for_kept(quick, "kept")
    assert quick.status().incarnation == 2


@pytest.mark.contract("1.5 promotion")
def test_an_item_of_the_context_is_promoted_as_well_and_its_next_value_too(quick: Session) -> None:
    for framework in ("django", "flask"):
        quick.context.set("framework", framework, source="tool", confidence=1.0)
        wait_until(lambda: quick.context.item("framework").promoted_at is not None, "it is promoted")
    assert [memory.content for memory in quick.memory.all()] == ["django", "flask"]


@pytest.mark.contract("1.5 promotion")
def test_after_a_start_a_stop_costs_no_run(contract_host: Host) -> None:
    session = contract_host.start_session()
    session.append_message("user", "x")
    session.stop()
    state = session.committed_state()
    assert state is not None
    assert state["promotion_stats"]["runs"] == 0
    contract_host.remove_session(session.id)
