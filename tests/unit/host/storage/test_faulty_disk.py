"""SQLite on a disk that loses power, fails or is full: what was acknowledged is there, and what is there is a prefix.

Below the store is the real SQLite, below that a VFS of the tests (helpers/faulty_vfs.py). A power cut is rebuilt from what was
written and synced until then, so that thousands of them need one run of the store.
"""

import itertools
import os
import random
import shutil
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Literal

import pytest

from helpers.faulty_vfs import (
    FULL,
    IOERR_FSYNC,
    IOERR_TRUNCATE,
    IOERR_WRITE,
    Fault,
    FaultyDisk,
    faulty_disk,
    library_problem,
    write_image,
)
from helpers.journals import SESSION, Sample, sample
from procession.host.core.journal import restore
from procession.host.core.journal_entries import Item, PutNote, PutOutcome, PutSession, PutSnapshot
from procession.host.journal import PROBE_PERIOD_S, Journal
from procession.host.storage import sqlite_store
from procession.host.storage.reserve import RESERVE_NAME
from procession.host.storage.sqlite_store import DATABASE_NAME, SqliteStore
from procession.ipc.core.errors import DiskFull, ProcessionError, StorageError

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(library_problem()), reason=library_problem() or "there is a libsqlite3 to put it in"),
]

CUTS = 200
WAIT_S = 20.0


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Iterator[FaultyDisk]:
    with faulty_disk() as disk:
        monkeypatch.setattr(os, "fsync", disk.fsync)
        monkeypatch.setattr(os, "rename", disk.rename)
        yield disk


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    """Return a folder in memory where there is one: what a power cut left is read thousands of times."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if os.access(shared, os.W_OK) else tmp_path) as folder:
        yield Path(folder)


@pytest.fixture(scope="module")
def records() -> Sample:
    return sample(400, random.Random(1))


def _open(disk: FaultyDisk, folder: Path) -> SqliteStore:
    return SqliteStore.open(folder, vfs=disk.vfs, fdatasync=disk.fdatasync)


def _restored(folder: Path, records: Sample) -> int:
    """Open what is there with a good disk, check that the session's state is one that was; return its number."""
    store = SqliteStore.open(folder)
    try:
        rows = store.rows(SESSION)
        if rows == ((), (), ""):
            return 0
        restored = restore(rows)
        assert (restored.notes, restored.repair) == ((), None)
        assert restored.fold.state == records.states[restored.number]
        assert store.note("number") == (b"%d" % restored.number if restored.number else None)
        return restored.number
    finally:
        store.close()


def _groups(records: Sample, rng: random.Random) -> Iterator[tuple[int, list[Item]]]:
    """Make groups of records, with a note of the last number, and a snapshot now and then."""
    number = 0
    while number < records.last:
        upto = min(records.last, number + rng.choice((1, 1, 1, 2, 5)))
        group: list[Item] = [PutSnapshot(SESSION, *records.snapshot(0))] if not number else []
        group += [records.append(n) for n in range(number + 1, upto + 1)]
        number = upto
        group.append(PutNote("number", b"%d" % number))
        if rng.random() < 0.3:
            group.append(PutOutcome(SESSION, f"c{number}", 1.0 * number, bytes(rng.randrange(3000))))
        if rng.random() < 0.1:
            group.append(PutSnapshot(SESSION, *records.snapshot(number)))
        yield number, group


def _acknowledged(disk: FaultyDisk, length: int) -> int:
    return max((event.data for event in disk.log[:length] if event.op == "mark"), default=0)


# --- power cuts ---------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-63")
@pytest.mark.guarantee("R-29")
def test_after_a_power_cut_what_was_synced_is_there_and_the_rest_is_a_prefix(
    disk: FaultyDisk, records: Sample, tmp_path: Path, memory: Path, monkeypatch: pytest.MonkeyPatch, soak_factor: int
):
    monkeypatch.setattr(sqlite_store, "WAL_TIDY_PAGES", 40)  # many checkpoints, and WALs that begin anew
    rng = random.Random(63)
    store = _open(disk, tmp_path)
    began = len(disk.log)
    for number, group in _groups(records, rng):
        sync = rng.random() < 0.2
        store.write(group, sync=sync)
        if sync:
            disk.mark(number)
        if rng.random() < 0.2:
            store.tidy()
    ended = len(disk.log)
    store.close()
    assert sum(event.op == "sync" and event.name == DATABASE_NAME for event in disk.log[began:ended]) > 3
    lost = 0
    for _ in range(CUTS * soak_factor):
        length = rng.randrange(began, ended + 1)
        folder = Path(tempfile.mkdtemp(dir=memory))
        write_image(disk.image(length, rng), folder)
        found = _restored(folder, records)
        assert found >= _acknowledged(disk, length), f"cut after {length} events"
        lost += found < records.last
        shutil.rmtree(folder)
    assert lost  # the cuts did cut


@pytest.mark.guarantee("R-63")
def test_a_power_cut_while_a_store_is_made_leaves_none_or_a_whole_one(
    disk: FaultyDisk, records: Sample, tmp_path: Path, memory: Path, soak_factor: int
):
    rng = random.Random(64)
    store = _open(disk, tmp_path)
    opened = len(disk.log)
    store.write([records.append(1), PutNote("number", b"1")], sync=True)
    disk.mark(1)
    ended = len(disk.log)
    store.close()
    for length, _ in itertools.product(range(ended + 1), range(2 * soak_factor)):
        folder = Path(tempfile.mkdtemp(dir=memory))
        write_image(disk.image(length, rng), folder)
        found = SqliteStore.open(folder)  # whatever it was: it opens
        assert found.note("number") in ((b"1",) if length == ended else (None, b"1") if length > opened else (None,))
        found.close()
        shutil.rmtree(folder)


@pytest.mark.guarantee("R-29")
def test_a_wal_cut_at_any_byte_has_each_record_absent_or_whole(
    records: Sample, tmp_path: Path, memory: Path, soak_factor: int
):
    """As a death of the host or of the machine in the middle of a write leaves it."""
    store = SqliteStore.open(tmp_path)
    wal = tmp_path / f"{DATABASE_NAME}-wal"
    ends = [(wal.stat().st_size, 0)]
    store.write([PutSnapshot(SESSION, *records.snapshot(0))], sync=False)
    for number in range(1, 9):
        store.write([records.append(number), PutNote("number", b"%d" % number)], sync=False)
        ends.append((wal.stat().st_size, number))
    files = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith(DATABASE_NAME)}
    store.close()
    content = files[wal.name]
    folder = memory / "cut"
    for size in range(
        ends[0][0], len(content) + 1, 1 if soak_factor > 1 else 257
    ):  # in every frame, at other places of each
        folder.mkdir()
        write_image({DATABASE_NAME: files[DATABASE_NAME], wal.name: content[:size]}, folder)
        expected = max(number for end, number in ends if end <= size)
        assert _restored(folder, records) == expected
        shutil.rmtree(folder)


@pytest.mark.guarantee("R-16")
@pytest.mark.guarantee("R-31")
def test_a_power_cut_at_any_point_of_a_snapshot_leaves_the_old_one_and_its_records_or_the_new(
    disk: FaultyDisk, records: Sample, tmp_path: Path, memory: Path, soak_factor: int
):
    rng = random.Random(31)
    store = _open(disk, tmp_path)
    store.write([PutSnapshot(SESSION, *records.snapshot(0)), *map(records.append, range(1, 101))], sync=False)
    store.write([PutSnapshot(SESSION, *records.snapshot(100)), *map(records.append, range(101, 201))], sync=False)
    store.write([PutNote("number", b"200")], sync=True)
    began = len(disk.log)
    store.write([PutSnapshot(SESSION, *records.snapshot(200))], sync=True)
    disk.fault = None
    store._checkpoint(store._tidier)
    ended = len(disk.log)
    store.close()
    assert ended - began >= 10
    newest = set()
    for length, _ in itertools.product(range(began, ended + 1), range(2 * soak_factor)):
        folder = Path(tempfile.mkdtemp(dir=memory))
        write_image(disk.image(length, rng), folder)
        assert _restored(folder, records) == 200
        found = SqliteStore.open(folder)
        newest.add(tuple(number for number, _ in found.rows(SESSION).snapshots))
        found.close()
        shutil.rmtree(folder)
    assert newest == {(100, 0), (200, 100)}


# --- the n-th fault -----------------------------------------------------------------------------------------
RUN = 24
FAULTS: list[tuple[Literal["write", "sync", "truncate"], int]] = [
    ("write", IOERR_WRITE),
    ("write", FULL),
    ("sync", IOERR_FSYNC),
    ("truncate", IOERR_TRUNCATE),
]


@pytest.mark.guarantee("R-16")
@pytest.mark.guarantee("R-61")
@pytest.mark.parametrize("persistent", [False, True], ids=["once", "from then on"])
@pytest.mark.parametrize(("op", "code"), FAULTS, ids=[f"{op}-{code}" for op, code in FAULTS])
def test_the_nth_fault_of_a_run_loses_nothing_that_was_acknowledged(
    disk: FaultyDisk,
    records: Sample,
    memory: Path,
    monkeypatch: pytest.MonkeyPatch,
    soak_factor: int,
    op: Literal["write", "sync", "truncate"],
    code: int,
    persistent: bool,
):
    """For n = 1, 2, ... until a run has no n-th operation left: opening, records, snapshots, checkpoints, closing."""
    monkeypatch.setattr(sqlite_store, "WAL_TIDY_PAGES", 10)
    monkeypatch.setattr(sqlite_store, "WAL_PAGES_MAX", 20)
    for nth in itertools.count(1, 1 if soak_factor > 1 or op != "write" else 5):
        folder = memory / f"{nth}"
        folder.mkdir()
        disk.fault = fault = Fault(op, code, nth=nth, persistent=persistent)
        acknowledged = _run(disk, folder, records)
        struck = fault.seen >= nth
        disk.fault = None
        assert _restored(folder, records) >= acknowledged, f"fault {nth}"
        assert struck or acknowledged == RUN
        shutil.rmtree(folder)
        if not struck:
            break
    assert nth > (1 if op == "truncate" else 10)


def _run(disk: FaultyDisk, folder: Path, records: Sample) -> int:
    """Write RUN records with all that goes with them, until something fails; return the last acknowledged."""
    acknowledged = 0
    try:
        store = _open(disk, folder)
    except ProcessionError:
        return 0
    try:
        store.write([PutSnapshot(SESSION, *records.snapshot(0)), PutSession(SESSION, b"data")], sync=True)
        for number in range(1, RUN + 1):
            group: list[Item] = [records.append(number), PutNote("number", b"%d" % number)]
            if number % 8 == 0:
                group.append(PutSnapshot(SESSION, *records.snapshot(number)))
            try:
                store.write(group, sync=number % 4 == 0)
            except DiskFull:
                store.write(group, sync=True)  # once more: nothing of it is there, and it may go now
            acknowledged = number
            if number % 5 == 0:
                store.tidy()
    except StorageError:
        pass
    finally:
        store.close()
    return acknowledged


# --- errors of the disk -------------------------------------------------------------------------------------
class Told:
    """Hears of submissions."""

    def __init__(self) -> None:
        self.errors: list[ProcessionError | None] = []
        self._changed = threading.Condition()

    def __call__(self, error: ProcessionError | None) -> None:
        with self._changed:
            self.errors.append(error)
            self._changed.notify_all()

    def wait(self, count: int) -> list[ProcessionError | None]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.errors) >= count, WAIT_S), self.errors
            return list(self.errors)


@pytest.fixture
def journal(disk: FaultyDisk, tmp_path: Path) -> Iterator[Callable[[], Journal]]:
    opened: list[Journal] = []

    def open_journal() -> Journal:
        opened.append(Journal(_open(disk, tmp_path), on_event=lambda *_: None, on_recovered=lambda: None))
        return opened[-1]

    yield open_journal
    for one in opened:
        assert one.close()


@pytest.mark.guarantee("R-61")
def test_after_an_fsync_that_failed_nothing_is_acknowledged_and_nothing_written(
    disk: FaultyDisk, journal: Callable[[], Journal], records: Sample, tmp_path: Path
):
    kept, failed, later = Told(), Told(), Told()
    one = journal()
    one.submit([PutSnapshot(SESSION, *records.snapshot(0)), records.append(1), PutNote("number", b"1")], "sync", kept)
    assert kept.wait(1) == [None]
    disk.fault = Fault("sync", IOERR_FSYNC)  # once: whoever tried again would be told that all is well
    one.submit([records.append(2), PutNote("number", b"2")], "sync", failed)
    assert [error and error.code for error in failed.wait(1)] == ["storage_failed"]
    assert one.health == "failed"
    writes = len(disk.log)
    for number in range(3, 13):
        one.submit([records.append(number)], "memory" if number % 2 else "sync", later)
    assert [error and error.code for error in later.wait(10)] == ["storage_failed"] * 10
    assert one.close()
    assert len(disk.log) == writes  # no checkpoint either: what the disk gives back may not be what was written
    assert _restored(tmp_path, records) >= 1


@pytest.mark.guarantee("R-61")
@pytest.mark.parametrize("suffix", [DATABASE_NAME, "-wal"])
def test_a_checkpoint_that_cannot_sync_is_as_bad(disk: FaultyDisk, tmp_path: Path, suffix: str):
    """SQLite's own checkpoints would say nothing, and what they copied could be lost without anybody knowing."""
    store = _open(disk, tmp_path)
    store.write([PutNote("n", bytes(2 * sqlite_store.WAL_TIDY_PAGES * 4096))], sync=True)
    disk.fault = Fault("sync", IOERR_FSYNC, suffix=suffix)
    with pytest.raises(StorageError) as caught:
        store.tidy()
    assert caught.value.code == "storage_failed"
    with pytest.raises(StorageError):
        store.write([PutNote("n", b"")], sync=False)
    store.close()


@pytest.mark.guarantee("R-62")
def test_a_checkpoint_that_has_no_room_can_wait(disk: FaultyDisk, tmp_path: Path):
    store = _open(disk, tmp_path)
    store.write([PutNote("n", bytes(2 * sqlite_store.WAL_TIDY_PAGES * 4096))], sync=True)
    disk.fault = Fault("write", FULL, suffix=DATABASE_NAME, persistent=True)
    store.tidy()
    store.write([PutNote("n", b"after")], sync=True)
    disk.fault = None
    store.tidy()
    assert store.note("n") == b"after"
    store.close()


@pytest.mark.guarantee("R-62")
@pytest.mark.parametrize("what", ["append", "snapshot"])
def test_a_full_disk_is_told_and_gone_on_from(
    disk: FaultyDisk, journal: Callable[[], Journal], records: Sample, tmp_path: Path, what: str
):
    kept, refused, again = Told(), Told(), Told()
    one = journal()
    one.submit([PutSnapshot(SESSION, *records.snapshot(0)), records.append(1)], "batch", kept)
    assert kept.wait(1) == [None]
    disk.fault = Fault("write", FULL, persistent=True)
    items: list[Item] = [records.append(2)] if what == "append" else [PutSnapshot(SESSION, *records.snapshot(1))]
    one.submit(items, "batch", refused)
    assert isinstance(refused.wait(1)[0], DiskFull)
    assert isinstance(one.refusal(), DiskFull)
    assert not (tmp_path / RESERVE_NAME).exists()  # given up, so that there is room for last words
    disk.fault = None
    freed = time.monotonic()
    while one.refusal() is not None:
        assert time.monotonic() < freed + 5
        threading.Event().wait(PROBE_PERIOD_S / 50)
    assert (tmp_path / RESERVE_NAME).exists()
    one.submit([*items, PutNote("number", b"%d" % (2 if what == "append" else 1))], "sync", again)
    assert again.wait(1) == [None]
    assert one.close()
    assert _restored(tmp_path, records) == (2 if what == "append" else 1)


@pytest.mark.guarantee("R-65")
def test_on_a_disk_that_syncs_in_a_second_only_those_wait_who_asked_for_it(
    disk: FaultyDisk, journal: Callable[[], Journal], records: Sample
):
    durable, quick = Told(), Told()
    one = journal()
    one.submit([records.append(1)], "batch", quick)
    quick.wait(1)
    disk.sync_s, syncs = 1.0, disk.syncs
    began = time.monotonic()
    for number in range(100):
        one.submit([PutNote(f"n{number}", b"")], "sync", durable)
    for number in range(2, 202):
        one.submit([records.append(number)], "batch" if number % 2 else "memory", quick)
    quick.wait(201)
    assert durable.errors == []  # all the others were told within that second
    assert durable.wait(100) == [None] * 100
    assert disk.syncs - syncs <= 4
    assert time.monotonic() - began >= 1.0
    disk.sync_s = 0.0


# --- the helper itself --------------------------------------------------------------------------------------
def test_the_disk_of_the_tests_loses_and_tears_what_was_not_synced(disk: FaultyDisk, tmp_path: Path):
    store = _open(disk, tmp_path)
    store.write([PutNote("n", bytes(5000))], sync=True)
    sure = len(disk.log)
    store.write([PutNote("n", b"\xff" * 5000)], sync=False)
    wal = f"{DATABASE_NAME}-wal"
    images = {disk.image(len(disk.log), random.Random(seed))[wal] for seed in range(200)}
    assert len(images) > 20
    synced = disk.image(sure, random.Random(0))[wal]
    assert all(image.startswith(synced) for image in images)
    assert any(0 < image.count(b"\xff" * 512) < 9 for image in images)
    store.close()
