"""A host runs no session before the last process of the host that had its folder is gone; the kernel says when (R-32, R-26)."""

import fcntl
import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.host_program import HostProgram
from helpers.hosts import kill, tree_below, wait_gone
from helpers.proc import ProcessSeen
from helpers.stopping import stop_process
from procession import Host, Sandbox, Session, StorageError
from procession.host import presence

pytestmark = pytest.mark.process

HELD_BY_A_CHILD = """
import os, sys
fd = os.open(sys.argv[1], os.O_RDWR | os.O_CREAT, 0o600)
import fcntl; fcntl.flock(fd, fcntl.LOCK_EX)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def program(tmp_path: Path) -> Iterator[HostProgram]:
    made = HostProgram(tmp_path / "data")
    made.folder.mkdir(mode=0o700)
    yield made
    made.close()


def open_files(pid: int | str = "self") -> list[str]:
    """Return what a process has open; the folder that is being read is not there any more when it is looked at."""
    found = (f"/proc/{pid}/fd/{number}" for number in os.listdir(f"/proc/{pid}/fd"))
    return [os.readlink(path) for path in found if os.path.lexists(path)]


def is_free(place: Path) -> bool:
    with place.open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def stay(place: str) -> None:
    with open(place, "w") as file:
        file.write("\n".join([str(os.getpid()), *open_files()]))
    print("up", flush=True)
    time.sleep(60)  # payload: a run that is there to be looked at


@pytest.mark.guarantee("R-32")
def test_every_process_of_ours_holds_it_and_no_code_of_the_users(tmp_path: Path) -> None:
    with Host(sandbox=Sandbox.off()) as host:
        session = host.start_session()
        place = host.data_dir / presence.PRESENCE_NAME
        up = threading.Event()
        session.submit(stay, str(tmp_path / "seen"), timeout=60, on_output=lambda _: up.set())
        assert up.wait(20)
        worker, *files = (tmp_path / "seen").read_text().split("\n")
        holders = {seen.pid for seen in tree_below(os.getpid()) if seen.pid != int(worker)}
        assert len(holders) >= 4  # zygote, keeper, session, keeper of the run
        assert {pid for pid in holders if str(place) in open_files(pid)} == holders
        assert str(place) not in open_files(worker)
        assert str(place) not in files
        assert presence.PRESENCE_NAME.encode() not in session.exec(["ls", "-l", "/proc/self/fd"]).stdout
        assert presence.PRESENCE_NAME not in str(session.run_code("import os; os.system('ls -l /proc/self/fd')").stdout)
        assert not is_free(place)


def test_what_a_preload_started_does_not_hold_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "child_preload.py").write_text(
        "import os, time\nif os.fork() == 0:\n    time.sleep(60)\n    os._exit(0)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    with Host(sandbox=Sandbox.off(), preload=["child_preload"]) as host:
        host.start_session()
        place = host.data_dir / presence.PRESENCE_NAME
        left = [seen for seen in tree_below(os.getpid()) if str(place) not in open_files(seen.pid)]
        assert len(left) == 1, "the preload's child"
        kill(left[0].pid)


def tree_of(program: HostProgram, session: Session) -> list[ProcessSeen]:
    """Return all processes of a host program, with those of a run under way."""
    up = threading.Event()
    session.submit(stay, str(program.folder.parent / "seen"), timeout=60, on_output=lambda _: up.set())
    assert up.wait(20)
    return tree_below(program.pid)


@pytest.mark.guarantee("R-26", "R-32")
@pytest.mark.parametrize("stopped", [False, True], ids=["running", "stopped"])
def test_the_next_host_waits_for_what_a_killed_one_left(program: HostProgram, stopped: bool) -> None:
    """stopped: all but the host. Its death wakes the zygote, which ends the others."""
    with program.up() as host:
        session = host.start_session(name="work")
        session.append_message("user", "kept")
        tree = tree_of(program, session)
        assert len(tree) >= 5
        if stopped:
            stop_process(next(seen.pid for seen in tree if seen.parent == program.pid))
        program.kill()
    with Host(program.folder, sandbox=Sandbox.off()) as host:
        wait_gone(tree, timeout_s=0.1)
        assert [message.content for message in host.session("work").get_messages()] == ["kept"]


@pytest.mark.guarantee("R-32")
def test_a_process_that_stays_is_named_and_the_host_does_not_open(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(presence.take, "__defaults__", (0.3,))
    folder = tmp_path / "data"
    Host(folder, sandbox=Sandbox.off()).close()
    with subprocess.Popen(
        [sys.executable, "-c", HELD_BY_A_CHILD, str(folder / presence.PRESENCE_NAME)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as other:
        assert other.stdout is not None
        assert other.stdin is not None
        assert other.stdout.readline() == b"held\n"
        with pytest.raises(StorageError, match=f"1 processes \\(pids {other.pid}\\)") as caught:
            Host(folder, sandbox=Sandbox.off())
        assert caught.value.code == "processes_left"
        began = time.monotonic()
        monkeypatch.setattr(presence.take, "__defaults__", (20.0,))
        threading.Timer(0.2, other.stdin.close).start()
        with Host(folder, sandbox=Sandbox.off()) as host:
            took = time.monotonic() - began
            assert host.start_session().echo(b"in") == b"in"
        assert 0.15 <= took <= 10, "it is let in when the other is gone, and not a look later"
