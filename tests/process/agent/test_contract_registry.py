"""Contract 1.8 and 1.9: which sessions a host has, what may not be there twice, and how one is found."""

from __future__ import annotations

import os
import signal
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel

from helpers.hosts import pid_of
from helpers.waiting import wait_until
from procession import (
    AlreadyExists,
    Host,
    InvalidRequest,
    NotDelivered,
    Sandbox,
    Session,
    SessionLimitReached,
    SessionNotFound,
    SessionNotRunning,
)
from procession.agent import Agent, Change, Schedule, action

pytestmark = pytest.mark.process

SESSIONS_MAX = 3


class Nothing(BaseModel):
    pass


class Leaver(Agent[Nothing]):
    """Ends its process in order, with no word to its host."""

    @action("leaver.leave")
    def leave(self) -> Change:
        return Change().asking(Schedule(50, "leaver.exit"))

    @action("leaver.exit")
    def exit(self) -> Change:
        os._exit(0)


@pytest.fixture(scope="module")
def small_host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off(), max_sessions=SESSIONS_MAX, hibernate_after=None) as opened:
        opened.remove_session(opened.start_session().id)  # its zygote is the fixture's, not the first test's
        yield opened


@pytest.fixture
def host(small_host: Host) -> Iterator[Host]:
    """A host without sessions."""
    yield small_host
    for one in small_host.list_sessions(all=True):
        small_host.remove_session(one.id)


def start_at_once(host: Host, count: int, **given: object) -> tuple[list[Session], list[NotDelivered]]:
    """Start that many sessions at the same time."""
    begin = threading.Barrier(count)
    started: list[Session] = []
    refused: list[NotDelivered] = []

    def start() -> None:
        begin.wait()
        try:
            started.append(host.start_session(**given))  # type: ignore[arg-type]
        except NotDelivered as error:
            refused.append(error)

    threads = [threading.Thread(target=start) for _ in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert len(started) + len(refused) == count
    return started, refused


# --- what may be there ------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.8 max_sessions", "1.8 register")
def test_no_more_sessions_run_than_the_host_may_have_however_many_are_started_at_once(host: Host) -> None:
    started, refused = start_at_once(host, 4 * SESSIONS_MAX)
    assert len(started) == SESSIONS_MAX
    for error in refused:
        assert isinstance(error, SessionLimitReached)
        assert (error.code, error.ran) == ("session_limit_reached", "no")
        assert str(SESSIONS_MAX) in str(error)
    assert len(host.list_sessions(all=True)) == SESSIONS_MAX
    host.stop_session(started[0].id)
    host.start_session()


@pytest.mark.contract("1.8 register", "0.7 paths")
def test_a_folder_has_one_session_however_many_are_started_in_it_at_once(host: Host, tmp_path: Path) -> None:
    started, refused = start_at_once(host, SESSIONS_MAX, project=tmp_path)
    assert len(started) == 1
    for error in refused:
        assert isinstance(error, AlreadyExists)
        assert (error.code, error.ran, error.session) == ("project_already_open", "no", started[0].id)
        assert started[0].id in error.hint
        assert "exclusive=False" in error.hint
    assert len(host.list_sessions(all=True)) == 1


@pytest.mark.contract("1.8 register", "0.7 paths")
def test_who_wants_a_folder_for_itself_is_refused_one_that_others_share(host: Host, tmp_path: Path) -> None:
    sharing = host.start_session(tmp_path, exclusive=False)
    with pytest.raises(AlreadyExists) as caught:
        host.start_session(tmp_path)
    assert (caught.value.code, caught.value.session) == ("project_already_open", sharing.id)
    host.start_session(tmp_path, exclusive=False)


@pytest.mark.contract("1.8 register")
def test_an_id_is_there_once_however_often_it_is_given_at_once(host: Host) -> None:
    given = str(uuid.uuid4())
    started, refused = start_at_once(host, SESSIONS_MAX, session_id=given)
    assert [session.id for session in started] == [given]
    assert {error.code for error in refused} == {"session_exists"}


@pytest.mark.contract("1.8 register")
def test_the_limit_is_told_before_the_id_and_the_id_before_the_folder(host: Host, tmp_path: Path) -> None:
    first = host.start_session(tmp_path)
    with pytest.raises(AlreadyExists) as caught:
        host.start_session(tmp_path, session_id=first.id)
    assert caught.value.code == "session_exists"
    for _ in range(SESSIONS_MAX - 1):
        host.start_session()
    with pytest.raises(SessionLimitReached):
        host.start_session(tmp_path, session_id=first.id)


@pytest.mark.contract("1.9 start_session")
def test_a_start_that_failed_takes_no_slot_no_folder_and_no_id(host: Host, tmp_path: Path) -> None:
    given = str(uuid.uuid4())
    with pytest.raises(InvalidRequest):
        host.start_session(tmp_path, session_id=given, language="cobol")
    assert host.list_sessions(all=True) == []
    assert host.start_session(tmp_path, session_id=given).id == given


# --- the end ----------------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.9 stop_session", "1.8 unregister / clear")
def test_a_stopped_session_is_over_its_folder_is_free_and_it_can_come_back(host: Host, tmp_path: Path) -> None:
    session = host.start_session(tmp_path, name="comes back")
    session.append_message("user", "kept")
    host.stop_session(session.id)
    assert host.list_sessions() == []
    with pytest.raises(SessionNotRunning):
        session.append_message("user", "no more")
    assert [message.content for message in session.get_messages()] == ["kept"]
    with pytest.raises(SessionNotFound):
        host.get_session_by_path(tmp_path)
    with pytest.raises(SessionNotFound):
        host.lookup_by_name("comes back")
    assert host.get_session(session.id) == session
    assert [message.content for message in host.resume_session(session.id).get_messages()] == ["kept"]
    assert host.get_session_by_path(tmp_path) == session


@pytest.mark.contract("1.9 consequences", "0.14 ids, limits and paths")
def test_a_session_that_died_for_good_keeps_its_folder_until_it_is_removed(host: Host, tmp_path: Path) -> None:
    session = host.start_session(tmp_path, restart="temporary")
    os.kill(pid_of(session), signal.SIGKILL)
    wait_until(lambda: session.status().phase == "failed", "it is known to be dead")
    assert host.get_session_by_path(tmp_path) == session
    with pytest.raises(AlreadyExists):
        host.start_session(tmp_path)
    host.remove_session(session.id)
    with pytest.raises(SessionNotFound):
        session.get_state()
    assert host.start_session(tmp_path).get_state()["messages"] == []


@pytest.mark.contract("0.14 ids, limits and paths", "1.8 max_sessions")
def test_a_session_that_failed_has_given_its_slot_back_and_takes_one_to_come_back(host: Host, tmp_path: Path) -> None:
    failed = host.start_session(tmp_path, restart="temporary")
    os.kill(pid_of(failed), signal.SIGKILL)
    wait_until(lambda: failed.status().phase == "failed", "it is known to be dead")
    others = [host.start_session() for _ in range(SESSIONS_MAX)]
    for come_back in (failed.restart, lambda: host.resume_session(failed.id)):
        with pytest.raises(SessionLimitReached):
            come_back()
    assert failed.status().phase == "failed"
    others[0].stop()
    failed.restart()
    assert (failed.status().phase, host.get_session_by_path(tmp_path)) == ("ready", failed)
    with pytest.raises(SessionLimitReached):
        host.resume_session(others[0].id)


@pytest.mark.contract("0.14 ids, limits and paths", "1.8 max_sessions")
def test_a_session_that_was_killed_wakes_as_soon_as_the_host_has_a_slot_for_it(host: Host) -> None:
    killed = host.start_session()
    killed.append_message("user", "kept")
    killed.kill()
    others = [host.start_session() for _ in range(SESSIONS_MAX)]
    for _ in range(2):
        with pytest.raises(SessionLimitReached) as caught:
            killed.append_message("user", "not yet")
        assert (caught.value.ran, caught.value.session, killed.status().phase) == ("no", killed.id, "down")
    others[0].stop()
    killed.append_message("user", "now")
    assert [message.content for message in killed.get_messages()] == ["kept", "now"]


@pytest.mark.contract("0.5 a crash loses nothing", "1.9 consequences")
def test_a_session_that_ends_by_itself_is_over_and_its_folder_is_free(host: Host, tmp_path: Path) -> None:
    first = host.start_session(tmp_path, agent=Leaver)
    first.call("leaver.leave")
    wait_until(lambda: first.status().phase == "stopped", "it ended in order")
    second = host.start_session(tmp_path)
    for come_back in (first.restart, lambda: host.resume_session(first.id)):
        with pytest.raises(AlreadyExists) as caught:
            come_back()
        assert (caught.value.code, caught.value.session) == ("project_already_open", second.id)
    second.stop()
    assert host.resume_session(first.id) == host.get_session_by_path(tmp_path)


@pytest.mark.contract("1.9 session_running?", "1.9 find_session_pid / list_session_pids")
def test_whether_a_session_runs_is_in_its_status(host: Host) -> None:
    session = host.start_session()
    assert (session.status().phase, session.status().pid is not None) == ("ready", True)
    session.stop()
    assert (session.status().phase, session.status().pid) == ("stopped", None)


# --- how one is found -------------------------------------------------------------------------------------------------
@pytest.mark.contract("1.8 lookup", "1.9 get_session, get_session_by_path", "3 addressing")
def test_a_session_is_found_by_its_whole_id_in_any_spelling(host: Host) -> None:
    session = host.start_session(name="by id")
    assert host.get_session(session.id) == host.get_session(session.id.upper()) == session
    assert host.get_session(session.id).name == "by id"
    with pytest.raises(SessionNotFound) as caught:
        host.get_session(str(uuid.uuid4()))
    assert caught.value.code == "not_found"
    for given, code in (
        ("by id", "invalid_session_id"),
        (session.id[:8], "invalid_session_id"),
        (None, "invalid_session"),
    ):
        with pytest.raises(InvalidRequest) as refused:
            host.get_session(given)  # type: ignore[arg-type]
        assert refused.value.code == code


@pytest.mark.contract("1.8 lookup_by_path", "1.9 get_session, get_session_by_path")
def test_a_session_is_found_by_every_name_of_its_folder(
    host: Host, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project, other, link = (tmp_path / name for name in ("project", "other", "link"))
    project.mkdir()
    other.mkdir()
    link.symlink_to(project)
    session = host.start_session(link)
    monkeypatch.chdir(tmp_path)
    for path in (project, link, str(project) + "/", "project", f"{tmp_path}/./link"):
        assert host.get_session_by_path(path) == session
    host.start_session(project, exclusive=False)
    assert host.get_session_by_path(project) == session  # the oldest
    for nobodys in (other, tmp_path / "none"):
        with pytest.raises(SessionNotFound):
            host.get_session_by_path(nobodys)
    for given, code in (
        (None, "missing_project_path"), (3, "invalid_project_path"),
        ("project/../project", "path_traversal_detected"),
    ):  # fmt: skip
        with pytest.raises(InvalidRequest) as caught:
            host.get_session_by_path(given)  # type: ignore[arg-type]
        assert caught.value.code == code


@pytest.mark.contract("1.8 lookup_by_path")
def test_a_session_whose_folder_is_gone_hides_no_other(host: Host, tmp_path: Path) -> None:
    gone, there = tmp_path / "gone", tmp_path / "there"
    gone.mkdir()
    there.mkdir()
    host.start_session(gone)
    session = host.start_session(there)
    gone.rmdir()
    assert host.get_session_by_path(there) == session


@pytest.mark.contract("1.8 lookup_by_name", "3 addressing")
def test_of_several_of_one_name_the_oldest_is_found(host: Host) -> None:
    first, second = host.start_session(name="twin"), host.start_session(name="twin")
    assert host.lookup_by_name("twin") == first
    with pytest.raises(InvalidRequest) as caught:
        host.session("twin")
    assert caught.value.code == "ambiguous_name"
    first.rename("other")
    assert host.lookup_by_name("twin") == second
    assert host.lookup_by_name("other") == first
    for given in (second.id, "Twin", "twin "):
        with pytest.raises(SessionNotFound):
            host.lookup_by_name(given)


@pytest.mark.contract("1.8 lookup_by_name")
def test_a_partition_finds_its_own(host: Host) -> None:
    tenant = host.partition("tenant")
    theirs = tenant.start_session(name="shared name")
    with pytest.raises(SessionNotFound):
        host.lookup_by_name("shared name")
    ours = host.start_session(name="shared name")
    assert tenant.lookup_by_name("shared name") == theirs
    assert host.lookup_by_name("shared name") == ours
    assert tenant.get_session(theirs.id) == theirs
    with pytest.raises(SessionNotFound):
        tenant.get_session(ours.id)


@pytest.mark.contract("1.8 list_all", "1.8 list_ids / count / session_exists?", "1.8 get_default_session_id")
def test_sessions_are_listed_in_the_order_in_which_they_were_created(host: Host) -> None:
    assert host.list_sessions(all=True) == []
    started = [host.start_session(name=name) for name in "cab"]
    host.stop_session(started[1].id)
    assert [one.id for one in host.list_sessions()] == [started[0].id, started[2].id]
    assert [one.id for one in host.list_sessions(all=True)] == [one.id for one in started]
    created = [one.created_at for one in host.list_sessions(all=True)]
    assert created == sorted(created)
