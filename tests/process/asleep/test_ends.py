"""What is left of a session after each of its ends, row by row of the table that docs/lifecycle.md shows."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.ends import ENDS, End, markdown
from helpers.hosts import EventWatch, pid_of
from helpers.sources import REPOSITORY
from procession import AlreadyExists, Host, Sandbox, Session, SessionLimitReached, SessionNotFound, SessionNotRunning

pytestmark = pytest.mark.process

OF_A_HOST_THAT_IS_OPEN = [end for end in ENDS if end.name != "close"]


def opened(folder: Path) -> Host:
    return Host(folder, sandbox=Sandbox.off(), max_sessions=2, hibernate_after=None)


def begun(host: Host, project: Path, end: End) -> Session:
    project.mkdir(exist_ok=True)
    session = host.start_session(project, name="one", restart="temporary" if end.name == "failed" else "transient")
    session.append_message("user", "kept")
    return session


def _die(host: Host, session: Session, until: str) -> None:
    with EventWatch(host) as watch:
        os.kill(pid_of(session), signal.SIGKILL)
        watch.wait(until, session)


CARRIED_OUT: dict[str, Callable[[Host, Session], object]] = {
    "close": lambda host, session: None,
    "stop": lambda host, session: session.stop(),
    "kill": lambda host, session: session.kill(),
    "restart": lambda host, session: session.restart(),
    "hibernate": lambda host, session: session.hibernate(),
    "remove": lambda host, session: host.remove_session(session.id),
    "crash": lambda host, session: _die(host, session, "session.ready"),
    "failed": lambda host, session: _die(host, session, "session.failed"),
}


def phase_of(host: Host, session: Session) -> str | None:
    return {one.id: one.phase for one in host.list_sessions(all=True)}.get(session.id)


def texts(session: Session) -> list[object]:
    return [message.content for message in session.get_messages()]


def check_call(session: Session, end: End) -> None:
    """Call it: it wakes, or refuses, as its row says."""
    if end.wakes:
        session.append_message("user", "more")
        assert (session.status().phase, texts(session)) == ("ready", ["kept", "more"])
    else:
        with pytest.raises(SessionNotFound if end.phase is None else SessionNotRunning) as refused:
            session.append_message("user", "more")
        assert refused.value.ran == "no"


@pytest.mark.parametrize("end", OF_A_HOST_THAT_IS_OPEN, ids=lambda end: end.name)
def test_what_is_left(end: End, tmp_path: Path) -> None:
    with opened(tmp_path / "data") as host:
        session = begun(host, tmp_path / "project", end)
        CARRIED_OUT[end.name](host, session)

        assert phase_of(host, session) == end.phase
        assert (session.id in {one.id for one in host.list_sessions()}) is end.listed

        other = host.start_session()
        if end.slot:
            host.remove_session(host.start_session().id)
        else:
            with pytest.raises(SessionLimitReached):
                host.start_session()
        host.remove_session(other.id)

        if end.folder:
            named = host.get_or_start_session("one", tmp_path / "project")
            assert (named.id == session.id, texts(named)) == (False, [])
            host.remove_session(named.id)
        else:
            assert host.get_or_start_session("one").id == session.id
            with pytest.raises(AlreadyExists) as refused:
                host.start_session(tmp_path / "project")
            assert (refused.value.code, refused.value.session) == ("project_already_open", session.id)

        if end.readable:
            state = session.committed_state()
            assert state is not None
            assert [message["content"] for message in state["messages"]] == ["kept"]
        else:
            with pytest.raises(SessionNotFound):
                session.committed_state()
        assert phase_of(host, session) == end.phase, "to look at it changed what it is"

        check_call(session, end)


@pytest.mark.parametrize("end", OF_A_HOST_THAT_IS_OPEN, ids=lambda end: end.name)
def test_who_is_brought_back(end: End, tmp_path: Path) -> None:
    with opened(tmp_path / "data") as host:
        session = begun(host, tmp_path / "project", end)
        CARRIED_OUT[end.name](host, session)
        if end.resumes:
            assert host.resume_session(session.id) == session
            assert (phase_of(host, session), texts(session)) == ("ready", ["kept"])
        else:
            with pytest.raises(SessionNotFound):
                host.resume_session(session.id)


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.name)
def test_what_a_host_finds_that_is_opened_again(end: End, tmp_path: Path) -> None:
    with opened(tmp_path / "data") as host:
        session = begun(host, tmp_path / "project", end)
        CARRIED_OUT[end.name](host, session)
    with opened(tmp_path / "data") as host:
        assert phase_of(host, session) == end.reopened
        if end.reopened is None:
            assert list((tmp_path / "data").glob(f"sessions/{session.id}*")) == []
            return
        again = host.session(session.id)
        assert (again.name, again.status().project) == ("one", str(tmp_path / "project"))
        state = again.committed_state()
        assert state is not None
        assert [message["content"] for message in state["messages"]] == ["kept"]
        if end.reopened in ("stopped", "failed"):
            check_call(again, end)
            host.resume_session(session.id)
        again.append_message("user", "more")
        assert texts(again) == ["kept", "more"]


def test_the_page_shows_this_very_table() -> None:
    text = (REPOSITORY / "docs/lifecycle.md").read_text(encoding="utf-8")
    assert markdown() in text, "write docs/lifecycle.md anew from helpers.ends.markdown()"
