"""Contract 0.5 and 1.9: the session's state and its host's copy of it are one, step by step, through a death and a crowd."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable
from typing import Any, Final

import pytest

from helpers.hosts import pid_of
from procession import Host, InvalidRequest, NotDelivered, OutcomeUnknown, Session

pytestmark = pytest.mark.process

STEPS: Final = 200
THREADS, APPENDS = 8, 40
KEYS: Final = ("framework", "current_task", "discovered_patterns", "user_intent")


def word(rng: random.Random) -> str:
    return rng.choice(("", "a", "ä", "\N{GRINNING FACE}", " ")) + "x" * rng.randrange(1, 30)


def known(rng: random.Random, found: list[Any]) -> str:
    """Return the id of one that there is, or of none."""
    return str(rng.choice([one.id for one in found] or ["none"]))


Step = Callable[[Session, random.Random], object]

#: What a program may do to a session, also what is refused.
WALK: Final[tuple[Step, ...]] = (
    lambda s, rng: s.append_message(rng.choice(("user", "assistant", "nobody")), word(rng), mood=rng.random()),
    lambda s, rng: s.append_message("assistant", None, tool_calls=[{"id": word(rng)}]),
    lambda s, rng: s.prepend_message("system", [{"type": "text", "text": word(rng)}]),
    lambda s, rng: s.set_messages(s.get_messages()[rng.randrange(5) :]),
    lambda s, rng: s.clear_messages(),
    lambda s, rng: s.streaming.start(word(rng)),
    lambda s, rng: s.streaming.update(word(rng)),
    lambda s, rng: s.streaming.update(word(rng)),
    lambda s, rng: s.streaming.end(),
    lambda s, rng: s.streaming.cancel(),
    lambda s, rng: s.add_reasoning_step(word(rng), type="plan"),
    lambda s, rng: s.clear_reasoning_steps(),
    lambda s, rng: s.add_tool_call(word(rng), {"path": word(rng)}),
    lambda s, rng: s.update_tool_call(known(rng, s.get_tool_calls()), rng.choice(("running", "error", "completed"))),
    lambda s, rng: s.clear_tool_calls(),
    lambda s, rng: s.add_todo(word(rng)),
    lambda s, rng: s.update_todos([*s.get_todos()[1:], {"content": word(rng)}]),
    lambda s, rng: s.update_todo(known(rng, s.get_todos()), status=rng.choice(("in_progress", "never"))),
    lambda s, rng: s.complete_todo(known(rng, s.get_todos())),
    lambda s, rng: s.remove_todo(known(rng, s.get_todos())),
    lambda s, rng: s.prompts.add(word(rng)),
    lambda s, rng: s.prompts.set([word(rng) for _ in range(rng.randrange(4))]),
    lambda s, rng: s.files.track_read(f"src/{rng.randrange(5)}.py"),
    lambda s, rng: s.files.track_write(f"src/{rng.randrange(5)}.py"),
    lambda s, rng: s.files.clear(),
    lambda s, rng: s.context.set(rng.choice(KEYS), word(rng) * 300, source=rng.choice(("tool", "inferred"))),
    lambda s, rng: s.context.get(rng.choice(KEYS)),
    lambda s, rng: s.context.set_many({rng.choice(KEYS): None}),
    lambda s, rng: s.context.clear(),
    lambda s, rng: s.memory.add(word(rng), "fact", rng.random(), "tool", importance_score=rng.random()),
    lambda s, rng: s.memory.decide(word(rng), "decision", "high", "agent"),
    lambda s, rng: s.memory.clear_promoted([known(rng, s.memory.pending())]),
    lambda s, rng: s.memory.record_access(("memory", word(rng)), rng.choice(("read", "query", "lick"))),
    lambda s, rng: s.memory.set_promotion_interval(rng.randrange(3)),
    lambda s, rng: s.memory.disable_promotion(),
    lambda s, rng: s.memory.run_promotion_now(rng.random() * 1.2),
    lambda s, rng: s.memory.remember(word(rng), rng.choice(("fact", "gossip")), rng.random(), mood=word(rng)),
    lambda s, rng: s.memory.recall(rng.choice((None, "x", word(rng))), min_confidence=rng.random()),
    lambda s, rng: s.memory.forget(known(rng, s.memory.all(include_forgotten=True)), word(rng)),
    lambda s, rng: s.rename(word(rng)),
    lambda s, rng: s.set_config({"temperature": rng.choice((0, 1.5, 3))}),
    lambda s, rng: s.set_language(rng.choice(("rs", "ex", "cobol"))),
    lambda s, rng: s.set_connection_status(rng.choice(("connected", "error", "maybe"))),
    lambda s, rng: s.set_scroll_offset(rng.randrange(-1, 9)),
)


def one_state(session: Session) -> dict[str, Any]:
    """Return the state that the agent and its host agree on; with promotion off, so that it changes only when it is told to."""
    state = session.get_state()
    assert session.committed_state() == state
    return state


@pytest.mark.contract("0.5 a crash loses nothing", "1.9 one copy", "1.3 get_state")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_after_every_step_of_a_walk_both_copies_are_the_same(chat: Session, seed: int) -> None:
    rng = random.Random(seed)
    done = refused = 0
    chat.memory.disable_promotion()
    state = one_state(chat)
    for _ in range(STEPS):
        try:
            rng.choice(WALK)(chat, rng)
            done += 1
        except InvalidRequest:
            refused += 1
            assert one_state(chat) == state, "what was refused changed something"
        state = one_state(chat)
    assert done > STEPS // 2
    assert refused > STEPS // 20
    assert chat.status().incarnation == 1


def kill_process(session: Session) -> None:
    os.kill(pid_of(session), signal.SIGKILL)


@pytest.mark.contract("0.5 a crash loses nothing", "1.9 State crash")
def test_a_session_that_is_killed_goes_on_with_all_that_it_had(chat: Session) -> None:
    rng = random.Random(4)
    chat.memory.disable_promotion()
    for step in WALK:
        try:
            step(chat, rng)
        except InvalidRequest:
            continue
    chat.append_message("user", "before")
    before = one_state(chat)
    kill_process(chat)
    assert chat.committed_state() == before  # also while there is no process
    assert chat.get_state(timeout=20) == before
    assert chat.status().incarnation == 2
    chat.append_message("user", "after")
    assert [message.content for message in chat.get_messages()[-2:]] == ["before", "after"]


@pytest.mark.contract("0.5 a crash loses nothing", "1.3 append_message")
def test_nothing_acknowledged_is_lost_by_a_death_in_the_middle(chat: Session) -> None:
    acknowledged: list[str] = []
    unknown: list[str] = []
    ready, over = threading.Event(), threading.Event()

    def append() -> None:
        for number in range(10_000):
            if over.is_set():
                return
            try:
                chat.append_message("user", str(number), timeout=20)
                acknowledged.append(str(number))
            except OutcomeUnknown:
                unknown.append(str(number))
            except NotDelivered:
                continue
            if number == 50:
                ready.set()

    appending = threading.Thread(target=append)
    appending.start()
    assert ready.wait(20)
    for incarnation in (2, 3):
        kill_process(chat)
        chat.get_state(timeout=20)
        assert chat.status().incarnation == incarnation
    over.set()
    appending.join(20)
    assert not appending.is_alive()
    kept = [str(message.content) for message in chat.get_messages()]
    assert [text for text in kept if text not in unknown] == acknowledged
    assert len(kept) == len(set(kept)), "something was done twice"
    one_state(chat)


@pytest.mark.contract("1.3 append_message", "1.2 concurrent calls")
def test_of_what_many_threads_append_at_once_nothing_is_lost_and_the_order_is_one(chat: Session) -> None:
    begin = threading.Barrier(THREADS)
    failed: list[BaseException] = []

    def append(author: int) -> None:
        try:
            begin.wait()
            for number in range(APPENDS):
                chat.append_message("user", f"{author}:{number}", author=author)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=append, args=(author,)) for author in range(THREADS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert failed == []
    found = [str(message.content) for message in chat.get_messages()]
    assert len(found) == THREADS * APPENDS
    for author in range(THREADS):
        own = [text for text in found if text.startswith(f"{author}:")]
        assert own == [f"{author}:{number}" for number in range(APPENDS)]
    kept = one_state(chat)["messages"]
    assert [message["content"] for message in kept] == found


@pytest.mark.contract("0.5 a crash loses nothing", "1.3 get_state")
@pytest.mark.parametrize("end", ["stop", "kill"])
def test_the_committed_state_can_be_read_without_a_process(contract_host: Host, end: str) -> None:
    session = contract_host.start_session()
    session.append_message("user", "kept")
    before = one_state(session)
    getattr(session, end)()
    assert session.status().pid is None
    assert session.committed_state() == before
    contract_host.remove_session(session.id)


@pytest.mark.contract("0.4 one record", "1.9 consequences")
def test_the_record_outlives_its_process(contract_host: Host, chat: Session) -> None:
    chat.rename("renamed")
    chat.set_config({"model": "another"})
    kill_process(chat)
    record = chat.get_session(timeout=20)
    assert (record.name, record.config["model"]) == ("renamed", "another")
    assert contract_host.session("renamed").id == chat.id
