"""R-42: a host without a free descriptor lets clients in, answers, refuses starts, goes on with its sessions, and stops."""

import os
import resource
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from helpers.cli import procession
from helpers.host_program import HostProgram
from helpers.hosts import SLACK
from helpers.waiting import wait_until
from procession import Host, ProcessionError, Sandbox, StartFailed
from procession.host.fd_reserve import RESERVED_FDS

pytestmark = [pytest.mark.process, pytest.mark.slow, pytest.mark.timeout(120)]

RECOVERY_S = 1.0


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    made = HostProgram(tmp_path / "data")
    made.folder.mkdir(mode=0o700)
    yield made
    made.close()


def open_in(pid: int) -> set[int]:
    return {int(name) for name in os.listdir(f"/proc/{pid}/fd")}


@contextmanager
def none_left(program: HostProgram) -> Iterator[None]:
    """Have the limit of a host be what it has open, and clients take the numbers that are free below it."""
    pid = program.pid
    soft, hard = resource.prlimit(pid, resource.RLIMIT_NOFILE)
    held = open_in(pid)
    limit = max(held) + 1
    with ExitStack() as crowd:
        for _ in range(limit - len(held)):
            crowd.enter_context(Host.connect(program.folder, sandbox=Sandbox.off()))
        resource.prlimit(pid, resource.RLIMIT_NOFILE, (limit, hard))
        assert len(open_in(pid)) >= limit
        try:
            yield
        finally:
            if program.is_running:
                resource.prlimit(pid, resource.RLIMIT_NOFILE, (soft, hard))


@pytest.mark.guarantee("R-42")
def test_a_host_that_ran_out_of_descriptors_can_be_looked_at_and_used_and_recovers(program: HostProgram) -> None:
    with program.up() as host:
        session = host.start_session(name="works")
        assert session.run(len, "warm") == 4
        session.append_message("user", "before")
        held = open_in(program.pid)
        with none_left(program):
            for verb in ("ps", "status", "stats", "events"):
                done = procession(verb, "--data-dir", program.folder)
                assert done.code == 0, (verb, done.err)
            for _ in range(3):
                with Host.connect(program.folder, sandbox=Sandbox.off()) as client:
                    assert client.statistics().running == 1
                    with pytest.raises(StartFailed) as caught:
                        client.start_session()
                    assert (caught.value.phase, caught.value.ran) == ("resources", "no")
                    assert client.session("works").append_message("user", "meanwhile").content == "meanwhile"
                assert session.run(len, "abc") == 3
        began = time.monotonic()
        started = host.start_session()
        assert time.monotonic() - began <= RECOVERY_S * SLACK
        assert started.run(len, "abc") == 3
        host.remove_session(started.id)
        wait_until(lambda: len(open_in(program.pid)) <= len(held), "nothing is held for good", timeout_s=10)
        assert session.status().incarnation == 1
        assert [event for event in host.events() if event.type == "host.bug"] == []
        assert len(session.get_messages()) == 4


@pytest.mark.guarantee("R-42")
@pytest.mark.parametrize("how", ["down", "SIGTERM"])
def test_a_host_that_ran_out_of_descriptors_stops_in_order(program: HostProgram, how: str) -> None:
    with program.up() as host:
        session = host.start_session(name="works")
        session.append_message("user", "kept")
        with none_left(program):
            if how == "down":
                done = procession("down", "--data-dir", program.folder)
                assert done.code == 0, done.err
                assert program.wait() == 0
            else:
                assert program.down() == 0
    with program.up() as host:
        assert [message.content for message in host.session("works").get_messages()] == ["kept"]


def connect(program: HostProgram) -> Host | None:
    try:
        return Host.connect(program.folder, sandbox=Sandbox.off())
    except ProcessionError:
        return None


def test_a_crowd_that_took_the_last_ones_is_let_in_when_there_are_more(program: HostProgram) -> None:
    with program.up() as host:
        with ExitStack() as clients, none_left(program):
            crowd = [
                clients.enter_context(one) for _ in range(RESERVED_FDS - 2) if (one := connect(program)) is not None
            ]
            assert len(crowd) >= 2
            assert all(client.statistics().pid == program.pid for client in [host, *crowd])
        with Host.connect(program.folder, sandbox=Sandbox.off()) as client:
            assert client.statistics().pid == program.pid
