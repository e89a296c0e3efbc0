"""The journal by itself in a process that is killed, and on a disk that is full: what it acknowledged is there afterwards.

The process is this file run as a program. It prints a line for each acknowledgement: what a caller would have been told.
"""

import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers.journals import SESSION, sample
from helpers.runs import User, run_python
from procession.host.core.journal import restore
from procession.host.core.journal_entries import Item, PutNote, PutOutcome, PutSnapshot
from procession.host.journal import Journal
from procession.host.storage.sqlite_store import SqliteStore
from procession.ipc.core.errors import DiskFull, ProcessionError
from procession.ipc.core.operations import Durability

pytestmark = pytest.mark.process

RECORDS = 48
RUN_S = 30.0
EXIT_KILLED = -9

JOURNAL_POINTS = ["before_append", "mid_append", "after_append", "after_sync", "mid_snapshot", "after_snapshot"]
MAKING_POINTS = ["mid_rename", "after_rename"]

OPEN = """
import sys
from pathlib import Path
from procession.host.storage.sqlite_store import SqliteStore
from procession.ipc.core.errors import ProcessionError
try:
    SqliteStore.open(Path(sys.argv[1]))
except ProcessionError as refusal:
    print(type(refusal).__name__, refusal.code, refusal)
"""


def _run(folder: Path, mode: str, point: str = "", *, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PROCESSION_KILL_POINT": point} if point else dict(os.environ)
    environment["PYTHONPATH"] = str(Path(__file__).parents[1])
    command = [*before, sys.executable, __file__, mode, str(folder)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=RUN_S, check=False)


def _check(folder: Path, printed: str) -> int:
    """Check what a killed run left: a state that was, all that was acknowledged, and outcomes of what is there."""
    acknowledged = [int(line) for line in printed.split()]
    assert acknowledged == list(range(1, len(acknowledged) + 1))
    store = SqliteStore.open(folder)
    try:
        restored = restore(store.rows(SESSION))
        assert (restored.notes, restored.repair) == ((), None)
        assert restored.number >= len(acknowledged)
        if restored.number:
            assert restored.fold.state == sample(RECORDS).states[restored.number]
            assert store.note("number") == b"%d" % restored.number
            assert store.outcome(SESSION, f"c{restored.number}") is not None
            assert store.outcome(SESSION, f"c{restored.number + 1}") is None
        return len(acknowledged)
    finally:
        store.close()


@pytest.mark.guarantee("R-29")
@pytest.mark.guarantee("R-16")
@pytest.mark.guarantee("R-31")
@pytest.mark.parametrize("level", ["batch", "sync"])
@pytest.mark.parametrize("point", JOURNAL_POINTS)
def test_a_journal_killed_at_a_point_has_all_that_it_acknowledged(
    tmp_path: Path, point: str, level: str, soak_factor: int
):
    deaths = 0
    for nth in range(1, 40 if soak_factor > 1 else 4):
        folder = tmp_path / f"{nth}"
        folder.mkdir()
        done = _run(folder, level, f"{point}:{nth}")
        assert done.returncode in (0, EXIT_KILLED), done.stderr
        deaths += done.returncode == EXIT_KILLED
        acknowledged = _check(folder, done.stdout)
        assert (acknowledged == RECORDS) == (done.returncode == 0)
    assert deaths or (point == "after_sync" and level == "batch")  # nobody waits for a sync there


@pytest.mark.guarantee("R-63")
@pytest.mark.parametrize("point", MAKING_POINTS)
def test_a_store_whose_making_was_killed_is_made_again(tmp_path: Path, point: str):
    done = _run(tmp_path, "batch", point)
    assert done.returncode == EXIT_KILLED, done.stderr
    done = _run(tmp_path, "batch")
    assert done.returncode == 0, done.stderr
    assert _check(tmp_path, done.stdout) == RECORDS
    assert not list(tmp_path.glob("*.draft*"))


@pytest.mark.guarantee("R-62")
def test_a_journal_on_a_full_file_system_goes_on_when_there_is_room(tmp_path: Path):
    """On a tmpfs of 4 MiB, in a mount namespace of its own; what fills it is taken away in the middle."""
    mount = "mount -t tmpfs -o size=4m,mode=0700 none " + str(tmp_path) + ' && exec "$@"'
    done = _run(tmp_path, "full", before=("unshare", "--mount", "sh", "-c", mount, "sh"))
    if "procession" not in done.stdout:
        pytest.skip(f"no file system can be mounted here: {done.stderr.strip()[-200:]}")
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["procession", "full", "recovered", "kept"]


@pytest.mark.guarantee("R-66")
@pytest.mark.parametrize(("mode", "what"), [(0o500, "folder"), (0o400, "file")])
def test_a_folder_or_file_that_may_not_be_written_is_refused_by_name(plain_user: User, mode: int, what: str):
    folder = plain_user.home / "data"
    folder.mkdir()
    SqliteStore.open(folder).close()
    place = folder if what == "folder" else folder / "journal.db"
    for path in (folder, *folder.iterdir()):
        os.chown(path, plain_user.uid, plain_user.gid)
    place.chmod(mode)
    done = run_python(OPEN, user=plain_user, args=(str(folder),))
    assert done.stdout == f"StorageError read_only {place}: Permission denied\n", done.stderr
    place.chmod(0o700)


# --- the program --------------------------------------------------------------------------------------------
def _append(folder: Path, level: Durability) -> None:
    """Submit records one by one, with what the host writes beside them, and print those that are acknowledged."""
    journal = Journal(SqliteStore.open(folder), on_event=print, on_recovered=lambda: None)
    records = sample(RECORDS)
    journal.submit([PutSnapshot(SESSION, *records.snapshot(0))], "memory")
    for number in range(1, RECORDS + 1):
        items: list[Item] = [
            records.append(number),
            PutNote("number", b"%d" % number),
            PutOutcome(SESSION, f"c{number}", 1.0, b"answer"),
        ]
        _wait(journal, items, level)
        os.write(1, b"%d\n" % number)
        if number % 12 == 0:
            journal.submit([PutSnapshot(SESSION, *records.snapshot(number))], "memory")
    assert journal.close()


def _wait(journal: Journal, items: list[Item], level: Durability) -> ProcessionError | None:
    told = threading.Event()
    heard: list[ProcessionError | None] = []

    def done(error: ProcessionError | None) -> None:
        heard.append(error)
        told.set()

    journal.submit(items, level, done)
    assert told.wait(RUN_S)
    return heard[0]


def _fill(folder: Path) -> None:
    recovered = threading.Event()
    journal = Journal(SqliteStore.open(folder), on_event=lambda *_: None, on_recovered=recovered.set)
    ballast = folder / "ballast"
    ballast.write_bytes(bytes(1_500_000))
    print("procession")
    records = sample(RECORDS)
    kept = 0
    while _wait(journal, [PutNote(f"n{kept}", bytes(50_000))], "sync") is None:
        kept += 1
    assert isinstance(journal.refusal(), DiskFull)
    assert isinstance(_wait(journal, [records.append(1)], "batch"), DiskFull)
    print("full")
    ballast.unlink()
    assert recovered.wait(5)
    print("recovered")
    assert _wait(journal, [records.append(1)], "sync") is None
    assert journal.close()
    store = SqliteStore.open(folder)
    assert all(store.note(f"n{number}") == bytes(50_000) for number in range(kept))
    assert restore(store.rows(SESSION)).number == 1
    store.close()
    print("kept")


if __name__ == "__main__":
    programs: dict[str, Callable[[Path], None]] = {
        "batch": lambda folder: _append(folder, "batch"),
        "sync": lambda folder: _append(folder, "sync"),
        "full": _fill,
    }
    programs[sys.argv[1]](Path(sys.argv[2]))
