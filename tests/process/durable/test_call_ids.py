"""A call that comes again with the id it had is answered as it was, and not run again: within one host, and over its death."""

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.host_program import HostProgram
from procession import CallTimedOut, Host, InvalidRequest, Sandbox, Session, SessionDied, ToolRaised

pytestmark = pytest.mark.process


def count(path: str) -> int:
    with open(path, "a+b") as file:
        file.write(b"x")
        return file.tell()


def fail(path: str) -> None:
    count(path)
    raise ValueError("no")


def die(path: str) -> None:
    count(path)
    import os
    import signal

    os.kill(os.getppid(), signal.SIGKILL)  # its keeper: the session cannot prove the run ended, and gives itself up
    os._exit(1)


def wait_for(path: str) -> str:
    count(path + ".begun")
    with open(path, "rb") as fifo:
        return fifo.read().decode()


@pytest.fixture(params=["ephemeral", "durable"])
def host(request: pytest.FixtureRequest, folder: Path) -> Iterator[Host]:
    """Return a host that keeps nothing on disk, and one that does."""
    with Host(folder if request.param == "durable" else None, sandbox=Sandbox.off()) as opened:
        yield opened


@pytest.fixture
def session(host: Host) -> Session:
    return host.start_session()


@pytest.mark.guarantee("R-54")
def test_the_same_id_is_run_once_and_answered_twice(session: Session, tmp_path: Path) -> None:
    once = session.using(call_id="one")
    assert once == session
    path = str(tmp_path / "runs")
    assert [once.run(count, path) for _ in range(3)] == [1, 1, 1]
    assert session.using(call_id="two").run(count, path) == 2
    assert session.run(count, path) == 3
    first = session.using(call_id="message").append_message("user", "hello")
    assert session.using(call_id="message").append_message("user", "hello") == first
    assert len(session.get_messages()) == 1


@pytest.mark.guarantee("R-54")
def test_a_failure_is_an_outcome_too_and_what_did_not_run_is_not(session: Session, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    for _ in range(2):
        with pytest.raises(ToolRaised, match="no"):
            session.using(call_id="fails").run(fail, path)
    assert (tmp_path / "runs").read_text() == "x"
    with pytest.raises(InvalidRequest):
        session.using(call_id="late").append_message("nobody", "hello")
    assert session.using(call_id="late").append_message("user", "hello").content == "hello"


@pytest.mark.guarantee("R-54")
def test_a_call_that_its_process_did_not_survive_is_not_run_again(session: Session, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    told = []
    for _ in range(2):
        with pytest.raises((SessionDied, ToolRaised, Exception)) as caught:
            session.using(call_id="dies").run(die, path)
        told.append((type(caught.value), str(caught.value)))
    assert told[0] == told[1]
    assert (tmp_path / "runs").read_text() == "x"


@pytest.mark.guarantee("R-54")
def test_one_that_comes_while_the_first_is_under_way_gets_the_same_answer(session: Session, tmp_path: Path) -> None:
    import os

    path = str(tmp_path / "fifo")
    os.mkfifo(path)
    same = session.using(call_id="same")
    futures = [same.submit(wait_for, path) for _ in range(4)]
    answers: list[str] = []
    thread = threading.Thread(target=lambda: answers.append(same.run(wait_for, path)))
    thread.start()
    with pytest.raises(CallTimedOut):
        same.run(wait_for, path, timeout=0.2)
    with open(path, "wb") as fifo:
        fifo.write(b"done")
    assert [future.result(timeout=20) for future in futures] == ["done"] * 4
    thread.join(20)
    assert answers == ["done"]
    assert (tmp_path / "fifo.begun").read_text() == "x"


def test_an_id_means_one_call(session: Session) -> None:
    session.using(call_id="mine").append_message("user", "hello")
    with pytest.raises(InvalidRequest) as caught:
        session.using(call_id="mine").run(len, ())
    assert (caught.value.code, caught.value.ran) == ("call_id_reused", "no")
    for wrong in ("", "x" * 201, 7):
        with pytest.raises(InvalidRequest):
            session.using(call_id=wrong)  # type: ignore[arg-type]


@pytest.mark.guarantee("R-30")
@pytest.mark.guarantee("R-54")
def test_a_new_host_knows_what_the_one_that_was_killed_had_answered(program: HostProgram, tmp_path: Path) -> None:
    path = str(tmp_path / "runs")
    with program.up() as host:
        session = host.start_session(name="work")
        first = session.using(call_id="message").append_message("user", "hello")
        assert session.using(call_id="run").run(count, path) == 1
        program.kill()
    with program.up() as host:
        session = host.session("work")
        assert session.using(call_id="message").append_message("user", "hello") == first
        assert session.using(call_id="run").run(count, path) == 1
        assert [message.content for message in session.get_messages()] == ["hello"]
