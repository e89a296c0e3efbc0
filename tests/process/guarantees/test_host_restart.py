"""R-75: the host and everything it runs is started again in place: same pid, same sessions, same state, and clients go on."""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.cli import procession
from helpers.host_program import HostProgram
from helpers.hosts import SLACK, tree_below, wait_gone
from helpers.waiting import wait_until
from procession import AsyncHost, Host, HostLost, PermissionDenied, ProcessionError, Sandbox, Session

pytestmark = [pytest.mark.process, pytest.mark.slow]

DOWNTIME_S = 1.0


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    made = HostProgram(tmp_path / "data")
    made.folder.mkdir(mode=0o700)
    yield made
    made.close()


def texts(session: Session) -> list[str]:
    return [str(message.content) for message in session.get_messages()]


def restart(program: HostProgram) -> str:
    done = procession("restart", "--host", "--data-dir", program.folder)
    assert done.code == 0, done.err
    return done.out


def seconds_in(told: str) -> float:
    return float(told.rsplit("after ", 1)[1].split(" s", maxsplit=1)[0])


@pytest.mark.guarantee("R-75")
def test_sessions_go_on_where_they_were_within_a_second(program: HostProgram) -> None:
    with program.up() as host:
        sessions = [host.start_session(name=f"s{number}") for number in range(5)]
        stopped = host.start_session(name="stopped")
        stopped.stop()
        for session in sessions:
            session.append_message("user", session.name)
        pid, before = program.pid, tree_below(program.pid)
        began = [host.statistics().uptime_s]
        told = restart(program)
        assert told.startswith(f"host restarted: pid {pid}, 5 sessions up again after ")
        assert seconds_in(told) <= DOWNTIME_S * SLACK
        assert host.statistics().uptime_s < seconds_in(told) + 20 + began[0]
        assert (program.pid, host.pid) == (pid, pid)
        wait_gone(before, timeout_s=0.1)
        assert {one.name: one.phase for one in host.list_sessions(all=True)} == {
            **{session.name: "ready" for session in sessions},
            "stopped": "stopped",
        }
        assert [texts(session) for session in sessions] == [[session.name] for session in sessions]
    assert program.down() == 0


def note(place: str, text: str) -> None:
    with open(place, "a") as file:
        file.write(f"{text}\n")


@pytest.mark.guarantee("R-75")
def test_clients_that_keep_calling_see_no_restart(program: HostProgram, tmp_path: Path) -> None:
    """What was under way has the time to end, what comes meanwhile waits: every run is done once, and its caller told so."""
    with program.up() as host:
        session = host.start_session(name="busy")
        told: list[str] = []
        errors: list[ProcessionError] = []
        enough = threading.Event()

        def call(client: int) -> None:
            for number in range(10_000):
                text = f"{client}.{number}"
                try:
                    session.run(note, str(tmp_path / "notes"), text)
                    told.append(text)
                except ProcessionError as error:
                    errors.append(error)
                if enough.is_set():
                    return

        clients = [threading.Thread(target=call, args=(number,)) for number in range(4)]
        for client in clients:
            client.start()

        def wait_for_more(count: int) -> None:
            wait_until(lambda: len(told) >= count, "calls are answered", timeout_s=20)

        for _ in range(2):
            wait_for_more(len(told) + 20)
            restart(program)
        wait_for_more(len(told) + 20)
        enough.set()
        for client in clients:
            client.join(30)
        assert errors == []
        assert sorted((tmp_path / "notes").read_text().split()) == sorted(told)


@pytest.mark.guarantee("R-75")
def test_a_client_in_a_loop_goes_on_too(program: HostProgram) -> None:
    async def main() -> list[str]:
        async with AsyncHost.connect(program.folder, sandbox=Sandbox.off()) as host:
            session = await host.start_session(name="work")
            await session.append_message("user", "before")
            await host.restart_host()
            for number in range(50):
                await session.append_message("user", f"{number}")
            assert (await host.statistics()).running == 1
            return [str(message.content) for message in await session.get_messages()]

    with program.up():
        pid = program.pid
        assert asyncio.run(main()) == ["before", *map(str, range(50))]
        assert program.pid == pid


def test_a_client_finds_the_host_that_somebody_started_again(program: HostProgram) -> None:
    with program.up() as host:
        session = host.start_session(name="work")
        session.append_message("user", "kept")
        program.kill()
        with pytest.raises(HostLost):  # it may not have heard of it yet, and what was sent may have run
            session.get_messages()
        with pytest.raises(HostLost) as caught:
            session.get_messages()
        assert (caught.value.ran, caught.value.code) == ("no", "no_host")
        with program.up():
            assert texts(session) == ["kept"]
            done = [session.submit(len, "abc") for _ in range(3)]
            assert [one.result(20) for one in done] == [3, 3, 3]


def stay(seconds: float) -> str:
    print("up", flush=True)
    time.sleep(seconds)  # payload: a run that a restart finds under way
    return "stayed"


@pytest.mark.guarantee("R-75")
def test_a_run_under_way_has_a_moment_and_is_then_ended(program: HostProgram) -> None:
    with program.up() as host:
        session = host.start_session(name="work")
        short = session.submit(stay, 0.2)
        long = session.submit(stay, 60, timeout=100)
        session.ping()
        restart(program)
        assert short.result(20) == "stayed"
        with pytest.raises(ProcessionError) as caught:
            long.result(20)
        assert caught.value.ran in ("maybe", "yes")
        assert session.run(len, "again") == 5


def test_a_stop_that_comes_meanwhile_wins(program: HostProgram) -> None:
    with program.up() as host:
        host.start_session(name="work")
        host.restart_host()
        os.kill(program.pid, signal.SIGTERM)
        assert program.wait() in (0, -signal.SIGTERM)


def test_a_detached_host_keeps_its_pid(tmp_path: Path) -> None:
    up = procession("up", "-d", "--data-dir", tmp_path / "data")
    assert up.code == 0, up.err
    try:
        with Host.connect(tmp_path / "data", sandbox=Sandbox.off()) as host:
            pid = host.pid
            host.start_session(name="work").append_message("user", "kept")
            done = procession("restart", "--host", "--data-dir", tmp_path / "data")
            assert done.out.startswith(f"host restarted: pid {pid}, 1 session up again")
            assert texts(host.session("work")) == ["kept"]
            assert host.pid == pid
            again = procession("restart", "--host", "--data-dir", tmp_path / "data")  # its command line did not grow
            assert again.out.startswith(f"host restarted: pid {pid}, 1 session up again")
    finally:
        assert procession("down", "--data-dir", tmp_path / "data").code == 0


def test_who_may_not_be_restarted_says_so(tmp_path: Path) -> None:
    with Host(tmp_path / "data", sandbox=Sandbox.off()) as host:
        with pytest.raises(PermissionDenied, match="belongs to the program with pid"):
            host.restart_host()
        refused = procession("restart", "--host", "--data-dir", tmp_path / "data")
        assert refused.code == 5, refused.err
        assert host.start_session().echo(b"still here") == b"still here"
    assert procession("restart", "--host", "--data-dir", tmp_path / "data").code == 4
    assert procession("restart", "--data-dir", tmp_path / "data").code in (1, 2)
