"""R-34, R-66, R-73: one host has a folder, by its lock alone; what cannot be used is refused; what was borrowed is gone."""

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.runs import SOURCE, User, run_python
from helpers.waiting import wait_until
from procession.host import data_dir, paths
from procession.host.data_dir import DataDir
from procession.host.remove_tree import remove_tree
from procession.ipc.core.errors import AlreadyExists, InvalidRequest, StorageError

pytestmark = pytest.mark.process

RACES = 1_000 if os.environ.get("PROCESSION_SOAK") else 20

HOLD = """
import sys
from pathlib import Path
from procession.host.data_dir import DataDir
folder = DataDir.open(Path(sys.argv[1]) if sys.argv[1] else None)
print(folder.path, flush=True)
sys.stdin.read()
folder.close()
"""

RACE = """
import sys
from pathlib import Path
from procession.host.data_dir import DataDir
from procession.ipc.core.errors import AlreadyExists
for line in sys.stdin:
    word, _, place = line.strip().partition(" ")
    if word == "take":
        try:
            held = DataDir.open(Path(place))
            print("held", flush=True)
        except AlreadyExists as error:
            held = None
            print(error.code, error.message, flush=True)
    elif word == "drop":
        if held is not None:
            held.close()
        print("dropped", flush=True)
"""


def spawn(code: str, *args: str) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        [sys.executable, "-c", code, *args],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


@contextmanager
def holder(folder: Path | None) -> "Iterator[tuple[subprocess.Popen[str], Path]]":
    """A process that holds a folder (an ephemeral one of its own for None) until the block ends."""
    process = spawn(HOLD, str(folder or ""))
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process, Path(process.stdout.readline().strip())
    finally:
        process.stdin.close()
        process.stdout.close()
        process.wait(timeout=10)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- one host -----------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-34")
def test_a_second_host_is_refused_at_once_and_told_who_has_it(tmp_path: Path) -> None:
    with holder(tmp_path / "d") as (process, _):
        took_s = []
        for _ in range(5):
            began = time.monotonic()
            with pytest.raises(AlreadyExists) as caught:
                DataDir.open(tmp_path / "d")
            took_s.append(time.monotonic() - began)
            assert caught.value.code == "already_started"
            assert f"a host (pid {process.pid}) has this data directory" in str(caught.value)
        assert sorted(took_s)[2] < 0.2
        said = json.loads((tmp_path / "d" / "host.lock").read_text())
        assert said["pid"] == process.pid
        assert said["start_ticks"] > 0
        assert said["boot_id"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()


@pytest.mark.guarantee("R-34")
def test_the_same_process_is_refused_too(tmp_path: Path) -> None:
    first = DataDir.open(tmp_path / "d")
    with pytest.raises(AlreadyExists, match=f"pid {os.getpid()}"):
        DataDir.open(tmp_path / "d")
    first.close()
    DataDir.open(tmp_path / "d").close()


@pytest.mark.guarantee("R-34")
@pytest.mark.timeout(600)
def test_of_two_hosts_that_race_for_a_folder_exactly_one_has_it(tmp_path: Path) -> None:
    racers = [spawn(RACE), spawn(RACE)]
    try:
        for n in range(RACES):
            place = tmp_path / ("fresh" if n % 2 else f"new{n}")
            for racer in racers:
                ask(racer, f"take {place}")
            heard = [answer(racer) for racer in racers]
            assert sorted(words[0] for words in heard) == ["already_started", "held"], heard
            winner = racers[0 if heard[0][0] == "held" else 1]
            assert f"(pid {winner.pid})" in next(" ".join(words) for words in heard if words[0] != "held")
            for racer in racers:
                ask(racer, "drop")
                assert answer(racer) == ["dropped"]
    finally:
        for racer in racers:
            racer.communicate(timeout=10)


def ask(racer: "subprocess.Popen[str]", text: str) -> None:
    assert racer.stdin is not None
    racer.stdin.write(text + "\n")
    racer.stdin.flush()


def answer(racer: "subprocess.Popen[str]") -> list[str]:
    assert racer.stdout is not None
    return racer.stdout.readline().split()


# --- after a crash ------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-73")
def test_what_a_killed_host_left_is_replaced_because_its_lock_is_free(tmp_path: Path) -> None:
    with holder(tmp_path / "d") as (process, folder):
        (folder / "control" / "host.sock").write_bytes(b"")
        (folder / "control" / "token").write_bytes(b"stale")
        (folder / "sessions" / "kept").mkdir()
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=10)
        assert json.loads((folder / "host.lock").read_text())["pid"] == process.pid
        began = time.monotonic()
        ours = DataDir.open(folder)
        assert time.monotonic() - began < 0.2 * 3
    assert sorted(os.listdir(folder / "control")) == []
    assert (folder / "sessions" / "kept").is_dir()
    assert json.loads((folder / "host.lock").read_text())["pid"] == os.getpid()
    ours.close()


@pytest.mark.guarantee("R-73")
def test_what_a_living_host_has_is_never_replaced(tmp_path: Path) -> None:
    with holder(tmp_path / "d") as (_, folder):
        (folder / "control" / "host.sock").write_bytes(b"alive")
        with pytest.raises(AlreadyExists):
            DataDir.open(folder)
        assert (folder / "control" / "host.sock").read_bytes() == b"alive"


def test_a_lock_file_full_of_lies_stops_nobody(tmp_path: Path) -> None:
    (tmp_path / "host.lock").write_text(json.dumps({"kind": "procession host", "pid": 1}) + "garbage \0" * 1000)
    DataDir.open(tmp_path).close()
    assert (tmp_path / "host.lock").read_bytes() == b""


def test_a_forked_child_neither_holds_nor_removes_the_folder() -> None:
    folder = DataDir.open(None)
    pid = os.fork()
    if pid == 0:
        folder.close()  # not its to close
        folder.forget_after_fork()
        os._exit(0 if folder.path.is_dir() and folder.closed else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
    assert folder.path.is_dir()
    folder.close()
    assert not folder.path.exists()


# --- what it looks like -------------------------------------------------------------------------------------
def test_everything_in_it_is_private(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        folder = DataDir.open(tmp_path / "deep" / "er")
    finally:
        os.umask(before)
    places = [folder.path, folder.path / "control", folder.path / "sessions"]
    assert [mode_of(place) for place in places] == [0o700] * 3
    assert mode_of(folder.path / "host.lock") == 0o600
    assert repr(folder) == f"<DataDir {folder.path} durable>"
    folder.close()
    assert folder.path.is_dir()
    assert folder.closed


def test_an_ephemeral_folder_is_private_and_gone_at_close() -> None:
    folder = DataDir.open(None)
    assert mode_of(folder.path) == 0o700
    place = folder.session_folder("s1")
    place.mkdir()
    (place / "file").write_text("x")
    folder.close()
    folder.close()
    assert not folder.path.exists()


def test_the_next_host_clears_away_the_ephemeral_folder_of_a_killed_one_and_no_other() -> None:
    with holder(None) as (_, living), holder(None) as (killed, abandoned):
        killed.send_signal(signal.SIGKILL)
        killed.wait(timeout=10)
        bystander = living.parent / "procession-notes"
        bystander.mkdir()
        DataDir.open(None).close()
        assert not abandoned.exists()
        assert living.is_dir()
        assert bystander.is_dir()
        bystander.rmdir()


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/etc"])
def test_a_session_folder_is_inside(tmp_path: Path, name: str) -> None:
    folder = DataDir.open(tmp_path / "d")
    with pytest.raises(InvalidRequest):
        folder.session_folder(name)
    folder.close()


# --- what cannot be used ------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-66")
def test_a_file_is_no_folder(tmp_path: Path) -> None:
    (tmp_path / "f").write_text("x")
    for place in (tmp_path / "f", tmp_path / "f" / "below"):
        with pytest.raises(StorageError, match=str(place)):
            DataDir.open(place)


@pytest.mark.guarantee("R-66")
def test_a_folder_others_may_write_in_is_refused_with_what_to_do(tmp_path: Path) -> None:
    tmp_path.chmod(0o770)
    with pytest.raises(StorageError) as caught:
        DataDir.open(tmp_path)
    assert caught.value.code == "not_private"
    assert f"chmod go-w {tmp_path}" in str(caught.value)
    assert os.listdir(tmp_path) == []


OPEN = """
import sys
from pathlib import Path
from procession.host.data_dir import DataDir
from procession.ipc.core.errors import StorageError
try:
    DataDir.open(Path(sys.argv[1]))
except StorageError as error:
    print(error.code, error)
"""


@pytest.mark.guarantee("R-66")
def test_a_folder_that_is_read_only_is_refused_with_path_and_reason(plain_user: User) -> None:
    place = plain_user.home / "d"
    place.mkdir()
    os.chown(place, plain_user.uid, plain_user.gid)
    place.chmod(0o500)
    done = run_python(OPEN, user=plain_user, args=(str(place),))
    assert done.stdout.startswith("read_only"), done.stderr
    assert f"{place}/host.lock: Permission denied" in done.stdout
    place.chmod(0o700)


@pytest.mark.guarantee("R-66")
def test_a_folder_of_somebody_else_is_refused(plain_user: User) -> None:
    if not plain_user.is_somebody_else:
        pytest.skip("only root can make a folder of somebody else")
    with pytest.raises(StorageError) as caught:
        DataDir.open(plain_user.home)
    assert caught.value.code == "wrong_owner"
    assert f"{plain_user.home}: belongs to user {plain_user.uid}" in str(caught.value)


# --- removal ------------------------------------------------------------------------------------------------
def test_a_session_folder_is_removed_however_it_was_left(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    folder = DataDir.open(tmp_path / "d")
    place = folder.session_folder("s1")
    (place / "shut" / "in").mkdir(parents=True)
    (place / "shut" / "in" / "file").write_text("x")
    (place / "link").symlink_to(outside)
    (place / "loop").symlink_to(place)
    os.mkfifo(place / "fifo")
    (place / "shut" / "in").chmod(0)
    (place / "shut").chmod(0o400)
    assert folder.remove_session("s1")
    assert not place.exists()
    assert (outside / "precious").read_text() == "kept"
    assert folder.remove_session("s1")
    folder.close()


REMOVE = """
import os, sys
from procession.host.remove_tree import remove_tree
os.makedirs("t/shut/in"); open("t/shut/in/f", "w").close(); os.chmod("t/shut/in", 0); os.chmod("t/shut", 0o400)
fd = os.open(".", os.O_RDONLY)
print(remove_tree("t", fd), os.path.exists("t"))
"""


def test_a_plain_user_can_remove_folders_without_permissions(plain_user: User) -> None:
    done = run_python(REMOVE, user=plain_user, cwd=plain_user.home)
    assert done.stdout.split() == ["True", "False"], done.stderr


def test_a_tree_deeper_than_the_stack_is_removed(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    os.mkdir("t", dir_fd=here)
    below = os.open("t", os.O_RDONLY, dir_fd=here)
    for _ in range(3_000):
        os.mkdir("d", dir_fd=below)
        deeper = os.open("d", os.O_RDONLY, dir_fd=below)
        os.close(below)
        below = deeper
    os.close(below)
    assert remove_tree("t", here)
    os.close(here)
    assert os.listdir(tmp_path) == []


def test_what_cannot_be_removed_is_said_and_raises_nothing(tmp_path: Path) -> None:
    here = os.open(tmp_path, os.O_RDONLY)
    assert remove_tree("nothing", here)
    (tmp_path / "file").write_text("x")
    assert remove_tree("file", here)
    os.close(here)
    assert os.listdir(tmp_path) == []


def test_a_folder_swapped_for_a_link_during_the_removal_leads_nowhere(tmp_path: Path) -> None:
    """The removal holds descriptors: a link put in a folder's place is removed, not followed."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_text("kept")
    swapper = spawn(SWAP, str(tmp_path / "t"), str(outside))
    here = os.open(tmp_path, os.O_RDONLY)
    try:
        wait_until(lambda: (tmp_path / "t").exists(), "the swapper begins")
        for _ in range(200):
            remove_tree("t", here)
    finally:
        swapper.kill()
        swapper.communicate(timeout=10)
        os.close(here)
    assert (outside / "precious").read_text() == "kept"
    shutil.rmtree(tmp_path / "t", ignore_errors=True)


SWAP = """
import os, sys
top, outside = sys.argv[1:]
while True:
    try:
        os.makedirs(top + "/a", exist_ok=True)
        os.rename(top + "/a", top + "/b")
        os.symlink(outside, top + "/a")
        os.unlink(top + "/a")
        os.rmdir(top + "/b")
    except OSError:
        pass
"""


def test_constants_agree_with_what_clients_look_for() -> None:
    assert (data_dir.LOCK_NAME, data_dir.SESSIONS_FOLDER, paths.CONTROL_FOLDER) == ("host.lock", "sessions", "control")
