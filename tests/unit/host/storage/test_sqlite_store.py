"""What only the store on disk has: a file that is made, refused, migrated, damaged, and kept small."""

import sqlite3
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from helpers.journals import SESSION, sample
from procession.host.core.journal import encode_snapshot, restore
from procession.host.core.journal_entries import Append, DeleteSession, PutNote, PutOutcome, PutSession, PutSnapshot
from procession.host.core.snapshot_policy import SnapshotPolicy
from procession.host.storage import schema, sqlite_write
from procession.host.storage.reserve import RESERVE_BYTES, RESERVE_NAME
from procession.host.storage.sqlite_store import DATABASE_NAME, SqliteStore
from procession.ipc.core.bounds import MiB
from procession.ipc.core.errors import JournalCorrupt, ProcessionError, StorageError


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SqliteStore]:
    store = SqliteStore.open(tmp_path)
    yield store
    store.close()


def _refusal(folder: Path) -> ProcessionError:
    with pytest.raises(ProcessionError) as caught:
        SqliteStore.open(folder)
    return caught.value


# --- files --------------------------------------------------------------------------------------------------
def test_its_files_are_for_their_owner_alone(store: SqliteStore, tmp_path: Path):
    store.write([PutNote("n", b"1")], sync=True)
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()}
    assert modes == dict.fromkeys((DATABASE_NAME, f"{DATABASE_NAME}-wal", f"{DATABASE_NAME}-shm", RESERVE_NAME), 0o600)
    assert (tmp_path / RESERVE_NAME).stat().st_blocks * 512 >= RESERVE_BYTES


def test_a_closed_store_is_one_file_and_the_reserve(store: SqliteStore, tmp_path: Path):
    store.write([Append(SESSION, 1, b"1")], sync=False)
    store.close()
    assert {path.name for path in tmp_path.iterdir()} == {DATABASE_NAME, RESERVE_NAME}


@pytest.mark.guarantee("R-66")
def test_what_is_no_file_or_not_there_is_refused_with_its_path(tmp_path: Path):
    (tmp_path / DATABASE_NAME).mkdir()
    assert str(tmp_path / DATABASE_NAME) in str(_refusal(tmp_path))
    assert isinstance(_refusal(tmp_path / "none"), StorageError)
    (tmp_path / "link").mkdir()
    (tmp_path / "link" / DATABASE_NAME).symlink_to(tmp_path / "elsewhere")
    assert "link" in str(_refusal(tmp_path / "link"))
    assert not (tmp_path / "elsewhere").exists()


@pytest.mark.guarantee("R-18")
@pytest.mark.parametrize(
    "content",
    [b"no database" * 100, b"SQLite format 3\0", b"SQLite format 3\0" + bytes(8192), b"x", bytes(4096)],
    ids=["text", "a magic alone", "a magic and zeroes", "one byte", "zeroes"],
)
def test_a_file_that_is_no_database_is_refused_and_kept(tmp_path: Path, content: bytes):
    place = tmp_path / DATABASE_NAME
    place.write_bytes(content)
    refusal = _refusal(tmp_path)
    assert isinstance(refusal, JournalCorrupt)
    assert str(place) in str(refusal)
    assert place.read_bytes() == content
    assert [path.name for path in tmp_path.iterdir()] == [DATABASE_NAME]


def test_a_database_of_another_program_is_refused_and_kept(tmp_path: Path):
    other = sqlite3.connect(tmp_path / DATABASE_NAME)
    other.execute("CREATE TABLE t (a)")
    other.close()
    before = (tmp_path / DATABASE_NAME).read_bytes()
    assert "another program" in str(_refusal(tmp_path))
    assert (tmp_path / DATABASE_NAME).read_bytes() == before


# --- versions -----------------------------------------------------------------------------------------------
def _filled(folder: Path) -> None:
    store = SqliteStore.open(folder)
    store.write([Append(SESSION, 1, b"1"), PutSession(SESSION, b"data")], sync=False)
    store.close()


def test_a_file_of_a_later_version_is_refused_before_anything_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    _filled(tmp_path)
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, ("CREATE TABLE later (a)",)))
    SqliteStore.open(tmp_path).close()
    monkeypatch.undo()
    before = (tmp_path / DATABASE_NAME).read_bytes()
    refusal = _refusal(tmp_path)
    assert refusal.code == "newer_data"
    assert "schema 2, this one knows 1" in str(refusal)
    assert (tmp_path / DATABASE_NAME).read_bytes() == before


def test_a_migration_brings_what_was_kept_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _filled(tmp_path)
    second = ("ALTER TABLE notes ADD COLUMN at REAL", "UPDATE sessions SET data = CAST(data || '!' AS BLOB)")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    for _ in range(2):  # it is done once
        store = SqliteStore.open(tmp_path)
        found = (store.sessions(), store.rows(SESSION).journal)
        store.close()
        assert found == ([(SESSION, b"data!")], ((1, 1, b"1"),))


def test_a_migration_that_fails_leaves_the_file_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    _filled(tmp_path)
    before = (tmp_path / DATABASE_NAME).read_bytes()
    second = ("UPDATE sessions SET data = x'00'", "ALTER TABLE no_such_table ADD COLUMN a")
    monkeypatch.setattr(schema, "MIGRATIONS", (*schema.MIGRATIONS, second))
    assert isinstance(_refusal(tmp_path), StorageError)
    monkeypatch.undo()
    store = SqliteStore.open(tmp_path)
    assert store.sessions() == [(SESSION, b"data")]
    store.close()
    assert (tmp_path / DATABASE_NAME).read_bytes() == before


# --- damage -------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-60")
def test_damage_to_the_pages_of_one_session_leaves_the_others_readable(tmp_path: Path):
    journal = sample(200)
    store = SqliteStore.open(tmp_path)
    names = [f"s-{number}" for number in range(8)]
    for name in names:
        store.write([PutSession(name, b"data"), PutSnapshot(name, *journal.snapshot(0))], sync=False)
        store.write([Append(name, 1, journal.frames[0])], sync=False)
        for number in range(2, 201):
            store.write([journal.append(number, name)], sync=False)
    store.close()
    place = tmp_path / DATABASE_NAME
    content = bytearray(place.read_bytes())
    at = content.find(journal.frames[99])  # of one session, somewhere in the middle of its records
    page = at // schema.PAGE_BYTES * schema.PAGE_BYTES
    content[page : page + schema.PAGE_BYTES] = b"\xa5" * schema.PAGE_BYTES
    place.write_bytes(content)

    store = SqliteStore.open(tmp_path)
    damaged = [name for name in names if store.rows(name).unreadable]
    assert 1 <= len(damaged) <= 2  # a page may have the end of one session and the beginning of the next
    for name in names:
        if name in damaged:
            with pytest.raises(JournalCorrupt, match=r"malformed; the state can be read up to record \d+"):
                restore(store.rows(name))
        else:
            assert restore(store.rows(name)).fold.state == journal.states[200]
    store.close()


@pytest.mark.guarantee("R-18")
def test_damage_to_a_snapshot_is_found_and_the_one_before_it_is_taken(tmp_path: Path):
    journal = sample(20)
    store = SqliteStore.open(tmp_path)
    text = encode_snapshot(20, b"state" * 4000)
    store.write([journal.append(n) for n in range(1, 21)], sync=False)
    store.write([PutSnapshot(SESSION, *journal.snapshot(8)), PutSnapshot(SESSION, 20, text)], sync=False)
    store.close()
    place = tmp_path / DATABASE_NAME
    content = place.read_bytes()
    at = content.index(b"statestate", content.index(text[:100]) + 2000)
    place.write_bytes(content[:at] + b"STATE" + content[at + 5 :])
    store = SqliteStore.open(tmp_path)
    restored = restore(store.rows(SESSION))
    assert (restored.snapshot, restored.fold.state) == (8, journal.states[20])
    store.close()


@pytest.mark.slow
# --- sizes --------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-64")
@pytest.mark.parametrize("state_bytes", [10_000, 2 * MiB], ids=["a small state", "a large one"])
@pytest.mark.parametrize("record_bytes", [100, 20_000])
def test_a_session_takes_no_more_than_three_snapshots_and_8_mib(
    store: SqliteStore, state_bytes: int, record_bytes: int
):
    data = encode_snapshot(0, bytes(state_bytes))
    policy = SnapshotPolicy()
    number, largest = 0, 0
    while number < 12 * MiB // (record_bytes + 400):
        number += 1
        store.write([Append(SESSION, number, bytes(record_bytes))], sync=False)
        if policy.add(record_bytes):
            store.write([PutSnapshot(SESSION, number, data)], sync=False)
            policy.begin(state_bytes)
        if number % 10 == 0:
            store.tidy()
            largest = max(largest, store.size_bytes())
    assert largest <= 3 * len(data) + 8 * MiB
    assert sum(row[1] - row[0] + 1 for row in store.rows(SESSION).journal) <= 2 * 4096 + 10


@pytest.mark.guarantee("R-64")
def test_a_wal_that_nobody_tidies_stays_small(store: SqliteStore, tmp_path: Path):
    for number in range(1, 4000):
        store.write([Append(SESSION, number, bytes(2000))], sync=False)
    assert (tmp_path / f"{DATABASE_NAME}-wal").stat().st_size <= 5 * MiB


def test_room_that_is_free_goes_back_to_the_file_system(store: SqliteStore):
    for number in range(10):
        store.write([PutSnapshot(f"s-{number}", 0, bytes(1 * MiB))], sync=False)
    store.tidy()
    before = store.size_bytes()
    for number in range(10):
        store.write([DeleteSession(f"s-{number}")], sync=False)
    for number in range(10):
        store.write([PutNote("n", b"%d" % number)], sync=False)
    store.close()
    assert store.size_bytes() < before / 4


def test_outcomes_are_bounded_by_their_bytes(store: SqliteStore, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(sqlite_write, "OUTCOME_BYTES_KEPT", 10_000)
    for number in range(100):
        store.write([PutOutcome(SESSION, f"c{number}", 1.0, bytes(1000))], sync=False)
    assert [number for number in range(100) if store.outcome(SESSION, f"c{number}")] == list(range(90, 100))
    store.write([PutOutcome(SESSION, "large", 1.0, bytes(10_000))], sync=False)
    assert store.outcome(SESSION, "c99") is None
    assert store.outcome(SESSION, "large") is not None


def test_text_that_no_database_holds_is_an_error_of_ours(store: SqliteStore):
    with pytest.raises(StorageError, match="UnicodeEncodeError"):
        store.write([PutSession("\ud800", b"")], sync=False)
