"""Commands that a session keeps running, as it does a server of tools: started again by its policy, ended with everything."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.hosts import kill, pid_of
from helpers.waiting import wait_until
from procession import Host, InvalidRequest, Process, Sandbox, Session

pytestmark = pytest.mark.process

#: Leaves a process in a session of its own, notes both pids, and waits to be told how to end: a leak with a server before it.
LEAKY = """
import os, sys
told_r, told_w = os.pipe()
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.write(told_w, str(os.getpid()).encode())
        os.execvp("sleep", ["sleep", "600"])
    os._exit(0)
os.wait()
with open("pids", "a") as file:
    file.write(f"{os.getpid()} {int(os.read(told_r, 20))}\\n")
word = sys.stdin.readline().strip()
if word == "crash":
    os.abort()
sys.exit(int(word or 0))
"""


@pytest.fixture(scope="module")
def host() -> Iterator[Host]:
    with Host(sandbox=Sandbox.off()) as opened:
        opened.remove_session(opened.start_session().id)
        yield opened


@pytest.fixture
def session(host: Host) -> Iterator[Session]:
    made = host.start_session()
    yield made
    host.remove_session(made.id)


def noted(session: Session) -> list[tuple[int, int]]:
    """Return what each life of the server has noted: its pid, and that of the process it left."""
    file = Path(session.status().project or "") / "pids"
    lines = file.read_text().splitlines() if file.exists() else []
    return [(int(line.split()[0]), int(line.split()[1])) for line in lines if len(line.split()) == 2]


def is_gone(pid: int) -> bool:
    return not os.path.exists(f"/proc/{pid}")


def lives(session: Session, count: int) -> list[tuple[int, int]]:
    wait_until(lambda: len(noted(session)) == count, f"life {count} of the server")
    return noted(session)


@pytest.mark.guarantee("R-72")
def test_a_server_that_crashes_and_leaks_is_started_again_and_leaves_nothing(host: Host, session: Session) -> None:
    server = session.start([sys.executable, "-c", LEAKY], restart="transient")
    ((first, leaked),) = lives(session, 1)
    server.write("crash\n")
    (_, (second, leaked_too)) = lives(session, 2)
    assert is_gone(first)
    assert is_gone(leaked)
    wait_until(lambda: server.status().pid == second, "its session knows the new one")
    info = server.status()
    assert (info.running, info.restarts) == (True, 1)
    assert any(event.type == "session.notice" and "SIGABRT" in str(event.data) for event in session.events())
    pid = pid_of(session)
    kill(pid)
    wait_until(lambda: is_gone(second) and is_gone(leaked_too), "nothing of it is left", timeout_s=1.0)
    assert session.processes() == []


@pytest.mark.parametrize(
    ("restart", "word", "again"), [("transient", "0", 0), ("permanent", "0", 1), ("temporary", "crash", 0)]
)
def test_the_policy_says_which_end_is_the_end(session: Session, restart: str, word: str, again: int) -> None:
    server = session.start([sys.executable, "-c", LEAKY], restart=restart)  # type: ignore[arg-type]
    lives(session, 1)
    server.write(f"{word}\n")
    if again:
        lives(session, 2)
        assert server.status().restarts == 1
    else:
        assert not server.wait(10).running


def test_an_end_that_somebody_asks_for_is_for_good(session: Session) -> None:
    server = session.start([sys.executable, "-c", LEAKY], restart="permanent")
    ((pid, leaked),) = lives(session, 1)
    assert not server.terminate().running
    assert is_gone(pid)
    assert is_gone(leaked)
    assert server.status().restarts == 0


def test_one_that_crashes_again_and_again_is_given_up_and_says_so(session: Session) -> None:
    server: Process = session.start(["sh", "-c", "kill -SEGV $$"], restart="permanent")
    info = server.wait(30)
    assert (info.running, info.restarts, info.report is not None and info.report.signal) == (False, 5, "SIGSEGV")
    told = [str(event.data) for event in session.events() if event.type == "session.notice"]
    assert sum("process_restarting" in text for text in told) == 5
    assert sum("process_given_up" in text for text in told) == 1


def test_a_program_that_is_gone_when_it_is_to_be_started_again_is_given_up(session: Session, tmp_path: Path) -> None:
    program = tmp_path / "server"
    program.write_text('#!/bin/sh\nrm -- "$0"\nexit 3\n')
    program.chmod(0o755)
    info = session.start([str(program)], restart="permanent").wait(30)
    assert not info.running
    assert info.restarts == 5


def test_input_and_output_go_to_the_life_that_there_is(session: Session) -> None:
    server = session.start(["sh", "-c", "read word; echo got $word; exit 1"], restart="transient")
    for number, word in enumerate(("one", "two")):
        wait_until(lambda number=number: server.status().restarts == number and server.status().pid, "it is there")  # type: ignore[misc, arg-type]
        server.write(f"{word}\n")
    wait_until(lambda: b"".join(chunk.data for chunk in server.logs()) == b"got one\ngot two\n", "both were heard")
    server.kill()


def test_a_policy_that_there_is_not_is_refused(session: Session) -> None:
    with pytest.raises(InvalidRequest, match="restart"):
        session.start(["true"], restart="always")  # type: ignore[arg-type]


def test_stopping_the_session_ends_a_server_that_would_come_again(host: Host, session: Session) -> None:
    session.start([sys.executable, "-c", LEAKY], restart="permanent")
    ((pid, leaked),) = lives(session, 1)
    receipt = session.stop()
    assert receipt.left == 0
    assert is_gone(pid)
    assert is_gone(leaked)
    host.resume_session(session.id)
    os.kill(os.getpid(), signal.SIGCONT)  # we are here, and so is it, with nothing of before
    assert session.processes() == []
