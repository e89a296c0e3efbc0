"""Reading the dead: whatever is only looked at is answered while there is no process, as it was before, and wakes nothing."""

import os
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from helpers.agents import Counter
from helpers.four_faces import FACES, play
from helpers.hosts import EventWatch
from procession import (
    AgentError,
    Host,
    InvalidRequest,
    JournalCorrupt,
    ProcessionError,
    Sandbox,
    Session,
    SessionNotRunning,
)
from procession.host.core.archive import decode_archive, encode_archive
from procession.host.storage.sqlite_store import DATABASE_NAME
from procession.ipc.core.values import encode_value

pytestmark = pytest.mark.process
OFF = Sandbox.off()

Look = Callable[[Any], Awaitable[Any]]
#: What changes nothing, and what it is to be asked of: the same questions before and after.
LOOKS: dict[str, Look] = {
    "get_state": lambda s: s.get_state(),
    "get_session": lambda s: s.get_session(),
    "query_state": lambda s: s.query_state("session.name"),
    "query_state_default": lambda s: s.query_state("no.such", default=7),
    "query_state_missing": lambda s: s.query_state("no.such"),
    "get_messages": lambda s: s.get_messages(),
    "get_messages_page": lambda s: s.get_messages(offset=1, limit=1),
    "get_messages_wrong": lambda s: s.get_messages(offset=-1),
    "get_todos": lambda s: s.get_todos(),
    "get_reasoning_steps": lambda s: s.get_reasoning_steps(),
    "get_tool_calls": lambda s: s.get_tool_calls(),
    "prompts": lambda s: s.prompts.get(),
    "context_all": lambda s: s.context.all(),
    "context_item": lambda s: s.context.item("primary_language"),
    "context_no_item": lambda s: s.context.item("current_file"),
    "context_illegal": lambda s: s.context.item("nonsense"),
    "memory_pending": lambda s: s.memory.pending(),
    "memory_all": lambda s: s.memory.all(),
    "memory_none": lambda s: s.memory.get("none"),
    "promotion_stats": lambda s: s.memory.promotion_stats(),
    "access_stats": lambda s: s.memory.access_stats("primary_language"),
    "file_was_read": lambda s: s.files.was_read("a.py"),
    "file_read_time": lambda s: s.files.read_time("a.py"),
    "committed_state": lambda s: s.committed_state(),
    "logs": lambda s: s.logs(),
    "signals": lambda s: s.signals(),
}


async def fill(session: Any) -> None:
    for number in range(3):
        await session.append_message("user", f"message {number}", mood="calm")
    await session.update_todos([{"content": "write tests", "status": "pending"}])
    await session.add_reasoning_step("think")
    await session.add_tool_call("exec", {"command": "ls"})
    await session.prompts.add("do it")
    await session.context.set("primary_language", "python")
    await session.memory.disable_promotion()  # which a stop would do, and that is a change
    await session.memory.add("tabs", "fact", 0.9, "user", importance_score=0.9)
    await session.memory.remember("spaces")
    await session.files.track_read("a.py")


async def told(look: Look, session: Any) -> object:
    """Return what a look gives: its answer, or its error's class, code and text."""
    try:
        return await look(session)
    except ProcessionError as error:
        return type(error), error.code, error.message, error.hint


async def all_of(session: Any) -> dict[str, object]:
    return {name: await told(look, session) for name, look in LOOKS.items()}


@pytest.mark.guarantee("R-33")
@pytest.mark.parametrize("phase", ["down", "hibernated", "stopped"])
@pytest.mark.parametrize("face", FACES)
def test_a_session_at_rest_answers_what_its_process_did(face: str, phase: str, tmp_path: Path) -> None:
    async def scenario(host: Any) -> None:
        session = await host.start_session(name="work")
        await fill(session)
        before = await all_of(session)
        assert isinstance(before["context_illegal"], tuple)
        ends: dict[str, Look] = {
            "down": lambda s: s.kill(),
            "hibernated": lambda s: s.hibernate(),
            "stopped": lambda s: s.stop(),
        }
        await ends[phase](session)
        status = await session.status()
        assert (status.phase, status.pid, status.incarnation) == (phase, None, 1)
        assert await all_of(session) == before
        assert await session.calls()
        assert (await session.last_report()) is not None
        assert [event.type for event in await session.events()][-1] == f"session.{phase}"
        assert (await session.status()).incarnation == 1
        if phase == "stopped":
            changes: list[Look] = [
                lambda s: s.append_message("user", "no"),
                lambda s: s.context.get("primary_language"),
            ]
            for change in changes:
                with pytest.raises(SessionNotRunning) as caught:
                    await change(session)
                assert caught.value.code == "stopped"
        else:
            assert await session.context.get("primary_language") == "python"  # a use, which is counted
            assert (await session.status()).incarnation == 2
            assert await told(LOOKS["get_messages"], session) == before["get_messages"]

    play(face, tmp_path, scenario)


def test_a_failed_session_can_be_read(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=OFF) as host:
        session = host.start_session(restart="temporary")
        session.append_message("user", "last words")
        with EventWatch(host) as events:
            os.kill(session.status().pid or 0, 9)
            events.wait("session.failed", session)
        assert [message.content for message in session.get_messages()] == ["last words"]
        assert session.status().phase == "failed"
        with pytest.raises(SessionNotRunning) as caught:
            session.append_message("user", "no")
        assert caught.value.code == "failed"


@pytest.mark.guarantee("R-33")
def test_a_reopened_host_s_sessions_are_read_without_being_started(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=OFF) as host:
        sessions = [host.start_session(name=f"work {number}") for number in range(4)]
        for session in sessions:
            session.append_message("user", session.name)
        numbers = [session.status().number for session in sessions]
    with Host(tmp_path / "data", sandbox=OFF) as host:
        for session, number in zip(sessions, numbers, strict=True):
            again = host.session(session.id)
            assert [message.content for message in again.get_messages()] == [session.name]
            assert (again.status().phase, again.status().incarnation, again.status().number) == ("down", 1, number)


def test_an_agent_of_ones_own_gives_its_state_and_refuses_the_rest_as_before(tmp_path: Path) -> None:
    with Host(sandbox=OFF) as host:
        session = host.start_session(agent="helpers.agents:Counter", import_paths=[Path(__file__).parents[2]])
        by_value = host.start_session(agent=Counter)
        for one in (session, by_value):
            one.call("counter.increment")
            before, refusal = one.get_state(), refused(one)
            one.stop()
            assert (one.get_state(), refused(one)) == (before, refusal)
            assert one.query_state("count") == 1


def refused(session: Session) -> tuple[str, tuple[str, ...]]:
    with pytest.raises(InvalidRequest) as caught:
        session.get_messages()
    return caught.value.code, caught.value.codes


def test_what_cannot_be_restored_says_so(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=OFF) as host:
        session = host.start_session()
        for number in range(3):
            session.append_message("user", str(number))
    spoil(tmp_path / "data")
    with Host(tmp_path / "data", sandbox=OFF) as host:
        session = host.session(session.id)
        for _ in range(2):
            with pytest.raises(JournalCorrupt) as caught:
                session.get_messages()
            assert caught.value.session == session.id
        with pytest.raises(JournalCorrupt):
            session.export(tmp_path / "a")
        with pytest.raises(JournalCorrupt):
            session.fork()
        assert not (tmp_path / "a").exists()
        assert session.status().phase == "down"
        with pytest.raises(SessionNotRunning):
            session.append_message("user", "no")
        assert session.status().phase == "failed"
        with pytest.raises(JournalCorrupt):
            session.get_messages()


def spoil(folder: Path) -> None:
    """Make all snapshots and records unreadable."""
    connection = sqlite3.connect(folder / DATABASE_NAME)
    with connection:
        for table in ("snapshots", "journal"):
            connection.execute(f"UPDATE {table} SET data = zeroblob(40)")
    connection.close()


def test_a_state_that_is_not_as_it_should_be_is_told_typed(tmp_path: Path) -> None:
    """Only an archive that somebody made by hand brings one."""
    with Host(sandbox=OFF) as host:
        path = host.start_session().export(tmp_path / "a")
        odd = decode_archive(path.read_bytes(), "a")._replace(state=encode_value({"session": {}, "messages": 3}))
        path.write_bytes(encode_archive(odd))
        session = host.import_session(path, start=False)
        with pytest.raises(AgentError) as caught:
            session.get_messages()
        assert caught.value.code == "session_bug"
        assert session.status().phase == "down"


@pytest.mark.parametrize("data_dir", [True, False])
def test_an_agent_that_has_yet_to_begin_has_no_state(tmp_path: Path, data_dir: bool) -> None:
    """Only an archive of one that never came up brings it: it begins when it is first called."""
    with Host(tmp_path / "data" if data_dir else None, sandbox=OFF) as host:
        path = host.start_session(agent=Counter, state={"count": 4}).export(tmp_path / "a")
        path.write_bytes(encode_archive(decode_archive(path.read_bytes(), "a")._replace(state=b"")))
        session = host.import_session(path, start=False, trust_code=True)
        with pytest.raises(SessionNotRunning) as caught:
            session.get_state()
        assert (caught.value.code, caught.value.session, session.status().phase) == ("at_rest", session.id, "down")
        assert session.call("counter.increment") == 5
