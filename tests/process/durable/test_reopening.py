"""A host that is opened again on its folder finds its sessions as they were: closed, stopped, failed, or killed with it."""

from pathlib import Path

import pytest

from helpers.hosts import EventWatch
from procession import Host, InvalidRequest, Sandbox, Session, SessionNotFound, SessionNotRunning

pytestmark = pytest.mark.process


def durable(folder: Path, **options: object) -> Host:
    return Host(folder, sandbox=Sandbox.off(), **options)  # type: ignore[arg-type]


def texts(session: Session) -> list[object]:
    return [message.content for message in session.get_messages()]


@pytest.mark.guarantee("R-33")
def test_what_was_acknowledged_is_there_after_reopening(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    with durable(folder) as host:
        session = host.start_session(tmp_path / "project", name="work")
        for number in range(600):  # more than one snapshot
            session.append_message("user", f"message {number}")
        session.update_todos([{"content": "write tests", "status": "pending"}])
        session.rename("better work")
        before = session.get_state()
    with durable(folder) as host:
        again = host.session(session.id)
        status = again.status()
        assert (status.phase, status.name, status.project) == ("down", "better work", str(tmp_path / "project"))
        assert host.list_sessions()[0].id == session.id
        assert again.committed_state() == before
        assert again.status().phase == "down"
        assert again.get_state() == before
        assert again.append_message("user", "one more").content == "one more"
        assert texts(again) == [f"message {number}" for number in range(600)] + ["one more"]


def test_each_end_is_kept(folder: Path) -> None:
    with durable(folder) as host:
        stopped, killed, removed, up = (
            host.start_session(name=name) for name in ("stopped", "killed", "removed", "up")
        )
        for session in (stopped, killed, removed, up):
            session.append_message("user", session.name)
        stopped.stop()
        killed.kill()
        host.remove_session(removed.id)
    with durable(folder) as host:
        assert {one.name: one.phase for one in host.list_sessions(all=True)} == {
            "stopped": "stopped",
            "killed": "down",
            "up": "down",
        }
        with pytest.raises(SessionNotFound):
            host.session(removed.id)
        assert not (folder / "sessions" / removed.id).exists()
        with pytest.raises(SessionNotRunning):
            host.session("stopped").append_message("user", "no")
        assert texts(host.resume_session("stopped")) == ["stopped"]
        assert texts(host.session("killed")) == ["killed"]


def test_sessions_that_were_up_are_started_at_once_by_a_host_that_is_to(folder: Path) -> None:
    with durable(folder) as host:
        up, stopped = host.start_session(name="up"), host.start_session(name="stopped")
        up.append_message("user", "still here")
        stopped.stop()
    with durable(folder, restore="eager") as host:
        up = host.session(up.id)
        with EventWatch(host) as events:
            if up.status().phase != "ready":
                events.wait("session.ready", up)
        assert (up.status().phase, host.session(stopped.id).status().phase) == ("ready", "stopped")
        assert texts(up) == ["still here"]


def test_numbers_of_events_are_never_used_twice(folder: Path) -> None:
    last = 0
    for _ in range(3):
        with durable(folder) as host:
            numbers = [event.number for event in host.events()]
            assert min(numbers) > last
            last = max(numbers)


def test_what_cannot_be_asked_for_is_refused(folder: Path) -> None:
    for wrong in ({"durability": "always"}, {"restore": "never"}):
        with pytest.raises(InvalidRequest):
            durable(folder, **wrong)
    with Host(sandbox=Sandbox.off()) as host:
        with pytest.raises(InvalidRequest) as caught:
            host.start_session(durability="sync")
        assert caught.value.code == "not_durable"
        session = host.start_session()
        with pytest.raises(InvalidRequest) as caught:
            session.using(durability="batch").append_message("user", "x")
        assert caught.value.code == "not_durable"
        assert session.using(durability="memory").append_message("user", "x").content == "x"


def test_grants_and_last_words_outlive_the_host(folder: Path) -> None:
    with durable(folder) as host:
        session = host.start_session()
        session.grant_tier("privileged")
        session.exec(["sh", "-c", "echo the last words"])
        session.kill()
        report = session.last_report()
    with durable(folder) as host:
        again = host.session(session.id)
        assert again.permissions().tier == "privileged"
        assert again.last_report() == report
        assert b"the last words" in b"".join(chunk.data for chunk in again.logs())
