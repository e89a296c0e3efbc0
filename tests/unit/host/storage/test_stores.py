"""What every store does, on disk and in memory alike: the one suite that port.py's adapters are held to."""

import random
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from helpers.journals import SESSION, sample
from procession.host.core.journal import restore
from procession.host.core.journal_entries import (
    Append,
    DeleteCast,
    DeleteSession,
    Item,
    PutCast,
    PutNote,
    PutOutcome,
    PutSession,
    PutSnapshot,
    Rows,
)
from procession.host.storage.memory_store import MemoryStore
from procession.host.storage.port import Store
from procession.host.storage.sqlite_store import SqliteStore
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT
from procession.ipc.core.errors import StorageError

Reopen = Callable[[], Store]


@pytest.fixture(params=["sqlite", "memory"])
def reopened(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Reopen]:
    """Return what closes the store and opens it again; the first call opens it."""
    opened: list[Store] = []

    def reopen() -> Store:
        if opened:
            opened[-1].close()
        if request.param == "sqlite":
            opened.append(SqliteStore.open(tmp_path))
        elif opened:
            assert isinstance(opened[-1], MemoryStore)
            opened[-1].reopen()
        else:
            opened.append(MemoryStore())
        return opened[-1]

    yield reopen
    opened[-1].close()


@pytest.fixture
def store(reopened: Reopen) -> Store:
    return reopened()


def _appends(first: int, last: int, session: str = SESSION) -> list[Item]:
    return [Append(session, number, b"%d;" % number) for number in range(first, last + 1)]


def _numbers(rows: Rows) -> list[int]:
    """Return the numbers of all records, having checked that the bytes are theirs."""
    found: list[int] = []
    for first, last, data in rows.journal:
        assert data == b"".join(b"%d;" % number for number in range(first, last + 1))
        found += range(first, last + 1)
    return found


def test_a_new_store_is_empty(store: Store):
    assert store.sessions() == []
    assert store.casts() == []
    assert store.rows(SESSION) == Rows((), ())
    assert store.outcome(SESSION, "c") is None
    assert store.note("n") is None


def test_what_was_written_is_read_again_in_order(reopened: Reopen):
    store = reopened()
    store.write(_appends(1, 3), sync=False)
    store.write([PutSession(SESSION, b"data"), PutNote("n", b"note"), *_appends(4, 4)], sync=True)
    for number in (5, 6):
        assert _numbers(store.rows(SESSION)) == list(range(1, number))
        assert store.sessions() == [(SESSION, b"data")]
        assert store.note("n") == b"note"
        store.write(_appends(number, number), sync=False)
        store = reopened()
    assert _numbers(store.rows(SESSION)) == [1, 2, 3, 4, 5, 6]


def test_the_records_of_one_session_in_one_write_are_one_row(store: Store):
    mixed: list[Item] = []
    for number in range(1, 6):
        mixed += [
            *_appends(number, number),
            *_appends(number, number, "other"),
            PutOutcome(SESSION, f"c{number}", 1.0, b""),
        ]
    store.write(mixed, sync=False)
    assert [row[:2] for row in store.rows(SESSION).journal] == [(1, 5)]
    assert _numbers(store.rows("other")) == [1, 2, 3, 4, 5]
    store.write(_appends(6, 6), sync=False)
    assert [row[:2] for row in store.rows(SESSION).journal] == [(1, 5), (6, 6)]


def test_numbers_with_a_gap_are_not_put_into_one_row(store: Store):
    store.write([*_appends(1, 2), *_appends(5, 6)], sync=False)
    assert [row[:2] for row in store.rows(SESSION).journal] == [(1, 2), (5, 6)]


def test_two_snapshots_are_kept_and_the_records_that_the_older_one_needs(store: Store):
    store.write(_appends(1, 10), sync=False)
    store.write([PutSnapshot(SESSION, 10, b"ten")], sync=False)
    assert _numbers(store.rows(SESSION)) == list(range(1, 11))  # until there are two, all is kept
    store.write(_appends(11, 15), sync=False)
    store.write(_appends(16, 25), sync=False)
    store.write([PutSnapshot(SESSION, 20, b"twenty")], sync=False)
    rows = store.rows(SESSION)
    assert rows.snapshots == ((20, b"twenty"), (10, b"ten"))
    assert _numbers(rows) == list(range(11, 26))
    store.write([PutSnapshot(SESSION, 25, b"twenty-five"), *_appends(26, 27)], sync=False)
    rows = store.rows(SESSION)
    assert rows.snapshots == ((25, b"twenty-five"), (20, b"twenty"))
    assert _numbers(rows) == list(range(16, 28))  # the row that the older one stands in the middle of


def test_a_snapshot_of_the_same_number_takes_the_place_of_the_first(store: Store):
    store.write(
        [PutSnapshot(SESSION, 0, b"a"), PutSnapshot(SESSION, 4, b"b"), PutSnapshot(SESSION, 4, b"c")], sync=False
    )
    assert store.rows(SESSION).snapshots == ((4, b"c"), (0, b"a"))


def test_a_deleted_session_is_gone_and_its_id_can_be_used_again(reopened: Reopen):
    store = reopened()
    for session in (SESSION, "other"):
        everything = [
            *_appends(1, 3, session),
            PutSession(session, b"data"),
            PutSnapshot(session, 3, b"snapshot"),
            PutOutcome(session, "c", 1.0, b"outcome"),
            PutCast(session, "k", 1, b"cast"),
        ]
        store.write(everything, sync=False)
    store.write([DeleteSession(SESSION)], sync=True)
    store = reopened()
    assert store.rows(SESSION) == Rows((), ())
    assert store.outcome(SESSION, "c") is None
    assert store.sessions() == [("other", b"data")]
    assert store.casts() == [("other", b"cast")]
    assert store.outcome("other", "c") == b"outcome"
    store.write([*_appends(1, 1), PutSession(SESSION, b"again")], sync=False)
    assert _numbers(store.rows(SESSION)) == [1]
    assert store.sessions() == [("other", b"data"), (SESSION, b"again")]


def test_sessions_are_listed_in_the_order_in_which_they_came(store: Store):
    names = [f"s-{number}" for number in (3, 1, 2)]
    store.write([PutSession(name, b"1") for name in names], sync=False)
    store.write([PutSession(names[0], b"2")], sync=False)
    assert [name for name, _ in store.sessions()] == names


def test_casts_come_in_their_order_until_they_are_deleted(reopened: Reopen):
    store = reopened()
    store.write([PutCast(SESSION, f"k{order}", order, b"%d" % order) for order in (2, 10, 1)], sync=False)
    store.write(
        [PutCast(SESSION, "k2", 2, b"two"), DeleteCast(SESSION, "k10"), DeleteCast(SESSION, "none")], sync=False
    )
    assert reopened().casts() == [(SESSION, b"1"), (SESSION, b"two")]


def test_an_outcome_is_kept_for_an_hour_of_later_ones(store: Store):
    store.write([PutOutcome(SESSION, f"c{n}", float(n), b"%d" % n) for n in range(5)], sync=False)
    store.write([PutOutcome(SESSION, "c2", 5.0, b"again")], sync=False)
    assert store.outcome(SESSION, "c2") == b"again"
    store.write([PutOutcome(SESSION, "late", OUTCOME_KEPT_S + 3.5, b"late")], sync=False)
    kept = [n for n in range(5) if store.outcome(SESSION, f"c{n}") is not None]
    assert kept == [2, 4]
    store.write([PutOutcome(SESSION, "later", 3 * OUTCOME_KEPT_S, b"later")], sync=False)
    assert store.outcome(SESSION, "late") is None
    assert store.outcome(SESSION, "later") == b"later"


def test_no_more_outcomes_of_a_session_are_kept_than_the_bound(store: Store):
    store.write([PutOutcome("other", "c", 0.0, b"theirs")], sync=False)
    many = [PutOutcome(SESSION, f"c{n}", n / 1000, b"%d" % n) for n in range(OUTCOMES_KEPT + 10)]
    for start in range(0, len(many), 1000):
        store.write(many[start : start + 1000], sync=False)
    assert store.outcome(SESSION, "c9") is None
    assert store.outcome(SESSION, "c10") == b"10"
    assert store.outcome("other", "c") == b"theirs"


def test_a_repair_takes_the_place_of_all_rows(reopened: Reopen):
    store = reopened()
    store.write([*_appends(1, 4), *_appends(1, 2, "other")], sync=False)
    store.write(_appends(5, 8), sync=False)
    rows = store.rows(SESSION).journal
    store.replace_journal(SESSION, [rows[0], (5, 6, b"5;6;")], b"7;8;", "torn")
    store = reopened()
    assert _numbers(store.rows(SESSION)) == [1, 2, 3, 4, 5, 6]
    store.write(_appends(7, 7), sync=False)
    assert _numbers(store.rows(SESSION)) == [1, 2, 3, 4, 5, 6, 7]
    assert _numbers(store.rows("other")) == [1, 2]


def test_a_write_that_fails_leaves_nothing_and_is_the_last(store: Store):
    store.write(_appends(1, 2), sync=False)
    with pytest.raises(StorageError) as caught:
        store.write([PutNote("n", b"new"), *_appends(1, 1)], sync=False)
    assert caught.value.code == "storage_failed"
    for attempt in (lambda: store.write(_appends(3, 3), sync=False), store.sync, store.tidy):
        with pytest.raises(StorageError) as caught:
            attempt()
        assert caught.value.code == "storage_failed"
    assert _numbers(store.rows(SESSION)) == [1, 2]
    assert store.note("n") is None


def test_a_closed_store_refuses_and_can_be_closed_again(store: Store):
    store.close()
    store.close()
    with pytest.raises(StorageError):
        store.write(_appends(1, 1), sync=False)


def test_a_store_is_read_while_it_is_written(store: Store):
    """Reads from any thread see a prefix, and all whose write has returned."""
    returned = 0
    problems: list[str] = []
    stop = threading.Event()

    def read() -> None:
        while not stop.is_set():
            least = returned
            numbers = _numbers(store.rows(SESSION))
            if numbers != list(range(1, len(numbers) + 1)) or len(numbers) < least:
                problems.append(f"{numbers[:3]}... {len(numbers)} after {least}")

    readers = [threading.Thread(target=read) for _ in range(2)]
    for reader in readers:
        reader.start()
    for number in range(1, 200):
        store.write(_appends(number, number), sync=number % 50 == 0)
        returned = number
        store.tidy()
    stop.set()
    for reader in readers:
        reader.join()
    assert not problems


def test_any_writes_give_the_state_that_apply_gives(reopened: Reopen, soak_factor: int):
    """Random groups, snapshots, tidying and reopening: what is read is what was written."""
    store = reopened()
    for seed in range(5 * soak_factor):
        rng = random.Random(seed)
        session = f"s-{seed}"
        journal = sample(rng.randint(1, 80), rng)
        number = 0
        store.write([PutSnapshot(session, *journal.snapshot(0))], sync=False)
        while number < journal.last:
            upto = min(journal.last, number + rng.choice((1, 1, 2, 8)))
            group: list[Item] = [journal.append(n, session) for n in range(number + 1, upto + 1)]
            number = upto
            if rng.random() < 0.3:
                group.insert(rng.randrange(len(group) + 1), PutOutcome(session, f"c{number}", 1.0 * number, b"o"))
            if rng.random() < 0.2:
                group.append(PutSnapshot(session, *journal.snapshot(number)))
            store.write(group, sync=rng.random() < 0.1)
            if rng.random() < 0.05:
                store = reopened()
        restored = restore(store.rows(session))
        assert (restored.number, restored.fold.state) == (number, journal.states[number]), seed
        assert not restored.notes


def test_size_grows_with_what_is_kept(store: Store):
    before = store.size_bytes()
    store.write([PutSnapshot(SESSION, 1, bytes(100_000))], sync=True)
    assert store.size_bytes() >= before + 100_000


# --- the fake's own -----------------------------------------------------------------------------------------
def test_a_crash_of_the_fake_loses_what_was_not_synced():
    store = MemoryStore()
    store.write(_appends(1, 2), sync=True)
    store.write(_appends(3, 4), sync=False)
    store.crash()
    assert _numbers(store.rows(SESSION)) == [1, 2]


def test_a_crash_of_the_fake_by_chance_leaves_a_prefix_of_whole_writes():
    found = set()
    for seed in range(50):
        store = MemoryStore()
        store.write(_appends(1, 2), sync=True)
        store.write([*_appends(3, 4), PutNote("n", b"4")], sync=False)
        store.write([*_appends(5, 6), PutNote("n", b"6")], sync=False)
        store.crash(random.Random(seed))
        numbers = _numbers(store.rows(SESSION))
        assert store.note("n") == {2: None, 4: b"4", 6: b"6"}[len(numbers)]
        found.add(len(numbers))
        store.write(_appends(numbers[-1] + 1, numbers[-1] + 1), sync=True)
    assert found == {2, 4, 6}
