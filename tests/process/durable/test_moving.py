"""A session as a file, and as another session: exported, imported and forked, with its state and what is true of the new one."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.agents import Counter
from helpers.hosts import EventWatch
from helpers.waiting import wait_until
from procession import (
    AlreadyExists,
    Host,
    HostLost,
    InvalidRequest,
    PermissionDenied,
    Sandbox,
    Session,
    SessionNotFound,
    StartFailed,
)
from procession.api.core import plans
from procession.host import moving
from procession.host.copy_tree import Copied
from procession.ipc.core.backend import Item
from procession.ipc.core.errors import CallCancelled, CallTimedOut
from procession.ipc.core.operations import ForkBody
from procession.ipc.core.records import Event

pytestmark = pytest.mark.process
OFF = Sandbox.off()


@pytest.fixture(params=["ephemeral", "durable"])
def host(request: pytest.FixtureRequest, folder: Path) -> Iterator[Host]:
    """Return a host that keeps nothing on disk, and one that does."""
    with Host(folder if request.param == "durable" else None, sandbox=OFF) as opened:
        yield opened


def texts(session: Session) -> list[object]:
    return [message.content for message in session.get_messages()]


def fill(session: Session) -> None:
    session.append_message("user", "one")
    session.append_message("assistant", "two")
    session.update_todos([{"content": "write tests", "status": "pending"}])
    session.context.set("primary_language", "python")
    session.memory.remember("tabs, not spaces")


OWN = {"session", "session_id"}


def rest_of(session: Session) -> dict[str, object]:
    """Return the state but for what says which session it is."""
    return {name: value for name, value in session.get_state().items() if name not in OWN}


# --- export and import ------------------------------------------------------------------------------------------------
def test_an_imported_session_has_the_state_and_says_who_it_is_itself(host: Host, tmp_path: Path) -> None:
    (tmp_path / "project").mkdir()
    session = host.start_session(tmp_path / "project", name="work", language="go", config={"temperature": 0.25})
    fill(session)
    path = session.export(tmp_path / "work.procession")
    assert path == tmp_path / "work.procession"
    assert path.stat().st_mode & 0o777 == 0o600
    assert os.listdir(tmp_path / "project") == []
    session.append_message("user", "after it")

    again = host.import_session(path)
    assert again.id != session.id
    assert rest_of(again)["messages"] != rest_of(session)["messages"]
    assert texts(again) == ["one", "two"]
    record, status = again.get_session(), again.status()
    assert (record.id, record.name, record.project_path) == (again.id, "work", status.project)
    assert again.get_state()["session_id"] == again.id
    assert (record.language, record.config["temperature"]) == ("go", 0.25)
    assert status.project is not None
    assert Path(status.project).parent == host.data_dir / "sessions"
    assert abs(record.created_at.timestamp() - status.created_at) < 5
    again.append_message("user", "three")
    assert texts(again) == ["one", "two", "three"]
    assert texts(session) == ["one", "two", "after it"]
    assert [one.content for one in again.memory.recall("tabs")] == ["tabs, not spaces"]


@pytest.mark.parametrize("phase", ["ready", "down", "stopped", "failed"])
def test_a_session_is_exported_in_whichever_phase_it_is(host: Host, tmp_path: Path, phase: str) -> None:
    session = host.start_session(name="work", restart="temporary" if phase == "failed" else "transient")
    fill(session)
    before = rest_of(session)
    if phase == "down":
        session.kill()
    elif phase == "stopped":
        session.stop()
    elif phase == "failed":
        with EventWatch(host) as events:
            os.kill(session.status().pid or 0, 9)
            events.wait("session.failed", session)
    path = session.export(tmp_path / "a")
    assert session.status().phase == phase
    assert rest_of(host.import_session(path)) == before


def test_a_session_moves_to_another_host(tmp_path: Path) -> None:
    (tmp_path / "here").mkdir()
    with Host(tmp_path / "one", sandbox=OFF) as first:
        session = first.start_session(name="work", durability="sync")
        fill(session)
        before = rest_of(session)
        session.export(tmp_path / "a")
        ident = session.id
    for data_dir in (tmp_path / "two", None):
        with Host(data_dir, sandbox=OFF) as second:
            again = second.import_session(
                tmp_path / "a", session_id=ident, name="moved", project=tmp_path / "here", start=data_dir is None
            )
            status = again.status()
            assert (again.id, status.name, status.project) == (ident, "moved", str(tmp_path / "here"))
            assert status.phase == ("ready" if data_dir is None else "down")
            assert rest_of(again) == before
            with pytest.raises(AlreadyExists) as caught:
                second.import_session(tmp_path / "a", session_id=ident)
            assert caught.value.code == "session_exists"
    with Host(tmp_path / "two", sandbox=OFF) as again_second:
        again = again_second.session("moved")
        assert rest_of(again) == before
        again.append_message("user", "three")
        assert texts(again) == ["one", "two", "three"]


def test_an_agent_of_ones_own_goes_on_where_it_was(host: Host, tmp_path: Path) -> None:
    session = host.start_session(agent=Counter, state={"notes": ["first"]})
    for _ in range(3):
        session.call("counter.increment")
    session.call("counter.cron", {"cron": "0 0 1 1 *"})
    wait_until(lambda: bool(session.agent_status().jobs), "its job")
    path = session.export(tmp_path / "a")
    with pytest.raises(PermissionDenied, match="would run code") as caught:
        host.import_session(path)
    assert caught.value.code == "untrusted_code"
    assert str(path) in str(caught.value)
    again = host.import_session(path, trust_code=True)
    assert (again.get_state()["count"], again.get_state()["notes"]) == (3, ["first"])
    assert again.call("counter.increment") == 4
    assert not again.agent_status().jobs  # they are the first one's, and would run twice
    again.kill()
    assert again.call("counter.increment") == 5


def test_what_is_no_archive_is_refused_by_name(host: Host, tmp_path: Path) -> None:
    good = host.start_session().export(tmp_path / "good").read_bytes()
    listed = len(host.list_sessions(all=True))
    for name, data, code in (
        ("empty", b"", "not_an_archive"),
        ("text", b"hello" * 100, "not_an_archive"),
        ("torn", good[:-1], "archive_damaged"),
        ("flipped", good[:-9] + bytes([good[-9] ^ 1]) + good[-8:], "archive_damaged"),
    ):
        path = tmp_path / name
        path.write_bytes(data)
        with pytest.raises(InvalidRequest, match=f"^{path}: ") as caught:
            host.import_session(path)
        assert caught.value.code == code
    for path, code in ((tmp_path / "none", "path_not_found"), (tmp_path, "path_not_file")):
        with pytest.raises(InvalidRequest) as caught:
            host.import_session(path)
        assert caught.value.code == code
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(InvalidRequest):
        host.import_session(tmp_path / "fifo")
    assert len(host.list_sessions(all=True)) == listed


def test_an_export_replaces_a_file_only_when_it_is_to(host: Host, tmp_path: Path) -> None:
    session = host.start_session()
    path = tmp_path / "a"
    path.write_text("mine")
    with pytest.raises(AlreadyExists, match="is there already") as caught:
        session.export(path)
    assert (caught.value.code, path.read_text()) == ("file_exists", "mine")
    assert session.export(path, overwrite=True) == path
    assert path.read_bytes().startswith(b"\x89procession")
    with pytest.raises(InvalidRequest, match="there is no folder"):
        session.export(tmp_path / "none" / "a")
    assert sorted(os.listdir(tmp_path)) == sorted({"a", *(["data"] if (tmp_path / "data").exists() else [])})


# --- fork -------------------------------------------------------------------------------------------------------------
def test_a_fork_is_a_session_of_its_own(host: Host) -> None:
    session = host.start_session(name="work")
    fill(session)
    fork = session.fork()
    assert rest_of(fork) == rest_of(session)
    assert fork.id != session.id
    assert fork.status().name == f"work-{fork.id[:8]}" == fork.get_session().name
    assert fork.status().project != session.status().project
    fork.append_message("user", "fork")
    session.append_message("user", "first")
    assert (texts(fork)[2:], texts(session)[2:]) == (["fork"], ["first"])
    host.remove_session(session.id)
    fork.kill()
    assert texts(fork)[2:] == ["fork"]
    assert texts(fork.fork(name="second"))[2:] == ["fork"]


def test_a_fork_at_an_earlier_change_has_the_state_of_then(folder: Path) -> None:
    with Host(folder, sandbox=OFF) as host:
        session = host.start_session()
        numbers = []
        for number in range(5):
            session.append_message("user", str(number))
            numbers.append(session.status().number)
        assert numbers == [1, 2, 3, 4, 5]
        assert texts(session.fork(at=2)) == ["0", "1"]
        assert texts(session.fork(at=5)) == ["0", "1", "2", "3", "4"]
        assert texts(session.fork(at=0)) == []
        for at in (6, 10**6):
            with pytest.raises(InvalidRequest) as caught:
                session.fork(at=at)
            assert caught.value.code == "sequence_gone"
        with pytest.raises(InvalidRequest) as caught:
            session.fork(at=-1)
        assert caught.value.code == "invalid_sequence"
        session.stop()
        assert texts(session.fork(at=1)) == ["0"]


def test_without_a_journal_there_is_only_now() -> None:
    with Host(sandbox=OFF) as host:
        session = host.start_session()
        session.append_message("user", "one")
        assert texts(session.fork(at=session.status().number)) == ["one"]
        with pytest.raises(InvalidRequest) as caught:
            session.fork(at=0)
        assert caught.value.code == "sequence_gone"


def test_a_project_is_copied_only_when_it_is_to(host: Host, tmp_path: Path) -> None:
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    (project / "src" / "a.py").write_text("print(1)")
    (project / "link").symlink_to("src/a.py")
    session = host.start_session(project)
    assert os.listdir(session.fork().status().project or "") == []
    for target in (None, tmp_path / "made"):
        fork = session.fork(project=target, copy_project=True)
        copy = Path(fork.status().project or "")
        assert (copy / "src" / "a.py").read_text() == "print(1)"
        assert (copy / "link").readlink() == Path("src/a.py")
        assert fork.exec(["cat", "link"]).stdout == b"print(1)"
        assert fork.get_session().project_path == str(copy)
        (copy / "src" / "a.py").write_text("print(2)")
    assert (project / "src" / "a.py").read_text() == "print(1)"
    with pytest.raises(AlreadyExists) as caught:
        session.fork(project=tmp_path / "made", copy_project=True)
    assert caught.value.code == "folder_not_empty"
    with pytest.raises(AlreadyExists) as caught:
        session.fork(project=project)
    assert caught.value.code == "project_already_open"


AGENT = """
from pydantic import BaseModel
from procession.agent import Agent

class State(BaseModel):
    count: int = 0

class Brittle(Agent[State]):
    pass
"""


def test_a_session_that_does_not_start_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    project, code = tmp_path / "project", tmp_path / "code"
    for place in (project, code, tmp_path / "there"):
        place.mkdir()
    (project / "a").write_text("x")
    (code / "brittle.py").write_text(AGENT)
    with Host(folder, sandbox=OFF) as host:
        session = host.start_session(project, agent="brittle:Brittle", import_paths=[code])
        path = session.export(tmp_path / "a")
        before = sorted(os.listdir(folder / "sessions"))
        (code / "brittle.py").write_text("raise ValueError('it broke')")
        for target in (None, tmp_path / "made", tmp_path / "there"):
            with pytest.raises(StartFailed, match="it broke"):
                session.fork(project=target, copy_project=True)
        with pytest.raises(StartFailed, match="it broke"):
            host.import_session(path, trust_code=True)
        wait_until(lambda: not (tmp_path / "made").exists(), "the copy's end")
        wait_until(lambda: not os.listdir(tmp_path / "there"), "the copy's end in a folder that was there")
        assert (tmp_path / "there").exists()
        wait_until(lambda: sorted(os.listdir(folder / "sessions")) == before, "the end of the private ones")
        assert host.list_sessions(all=True)[0].id == session.id
        assert len(host.list_sessions(all=True)) == 1


def test_a_copy_that_is_cancelled_or_late_leaves_nothing(folder: Path, tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for number in range(2000):
        (project / str(number)).write_text("x")
    with Host(folder, sandbox=OFF) as host:
        session = host.start_session(project)
        backend = host._link.backend
        outcomes: list[object] = []
        over = threading.Event()

        def done(outcome: object) -> None:
            outcomes.append(outcome)
            over.set()

        target = tmp_path / "copy"
        plan = plans.fork_session(session.id, ForkBody(project=str(target), copy_project=True))
        backend.submit(plan.request, done).cancel()
        assert over.wait(20)
        assert isinstance(outcomes[0], CallCancelled)
        plan.request.timeout_s = 1e-6
        with pytest.raises(CallTimedOut, match="nothing was made") as caught:
            backend.call(plan.request)
        assert caught.value.ran == "no"
        assert not target.exists()
        assert len(host.list_sessions(all=True)) == 1


def test_a_host_that_closes_ends_a_copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    begun = threading.Event()

    def copy_for_ever(*_: object, look: Callable[[Copied], None], **__: object) -> None:
        until = time.monotonic() + 20
        while time.monotonic() < until:
            begun.set()
            look(Copied())

    monkeypatch.setattr(moving, "copy_tree", copy_for_ever)
    outcomes: list[object] = []
    with Host(tmp_path / "data", sandbox=OFF) as host:
        plan = plans.fork_session(host.start_session(tmp_path).id, ForkBody(copy_project=True))
        host._link.backend.submit(plan.request, outcomes.append)
        assert begun.wait(20)
    (outcome,) = outcomes
    assert isinstance(outcome, HostLost)
    assert (outcome.code, outcome.ran) == ("closed", "no")


def test_whoever_asks_is_told_how_far_a_copy_is(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(moving, "TELL_PERIOD_S", 0.0)
    project = tmp_path / "project"
    project.mkdir()
    for number in range(20):
        (project / str(number)).write_text("four")
    told: list[Item] = []
    with Host(folder, sandbox=OFF) as host, Host.connect(folder, sandbox=OFF) as client:
        plan = plans.fork_session(host.start_session(project).id, ForkBody(copy_project=True))
        plan.request.on_item = told.append
        client._link.backend.call(plan.request)
    events = [item for item in told if isinstance(item, Event)]
    assert {event.type for event in events} == {"session.copying"}
    assert events[-1].data["entries"] == 20
    assert [event.data["bytes"] for event in events] == sorted(event.data["bytes"] for event in events)  # type: ignore[type-var]


def test_a_tool_that_was_under_way_is_told_to_the_fork_as_left(host: Host, tmp_path: Path) -> None:
    session = host.start_session()
    os.mkfifo(tmp_path / "fifo")
    call = threading.Thread(target=session.call_tool, args=("exec", {"command": ["cat", str(tmp_path / "fifo")]}))
    call.start()
    wait_until(lambda: any(call.status == "running" for call in session.get_tool_calls()), "a call that runs")
    fork = session.fork()
    wait_until(lambda: fork.get_tool_calls()[-1].status != "running", "the end of the call in the fork")
    assert fork.get_tool_calls()[-1].status == "error"
    assert session.get_tool_calls()[-1].status == "running"
    with open(tmp_path / "fifo", "w"):
        pass
    call.join(20)
    assert session.get_tool_calls()[-1].status == "completed"


def test_a_fork_keeps_what_its_handle_knows_but_no_call_id(host: Host) -> None:
    session = host.start_session()
    session.append_message("user", "one")
    fork = session.using(call_id="mine").fork()
    fork.append_message("user", "two")
    fork.append_message("user", "three")
    assert texts(fork) == ["one", "two", "three"]


# --- ends of the command line -------------------------------------------------------------------------------------------
def test_a_client_s_path_is_its_own_machine_s(folder: Path, tmp_path: Path) -> None:
    with Host(folder, sandbox=OFF) as host, Host.connect(folder, sandbox=OFF) as client:
        session = host.start_session(name="work")
        fill(session)
        os.chdir(tmp_path)
        path = client.session("work").export("relative")
        assert path == tmp_path / "relative"
        assert texts(client.import_session("relative", name="other")) == ["one", "two"]
        assert rest_of(client.session("work").fork()) == rest_of(session)
        with pytest.raises(SessionNotFound):
            client.session("none")
