"""The journal's threads: what is acknowledged when, in which order, and what becomes of everyone when the disk does not."""

import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from helpers.journals import SESSION, sample
from helpers.waiting import wait_until
from procession.host.core.group_commit import GROUP_ITEMS_MAX
from procession.host.core.journal import Restored
from procession.host.core.journal_entries import (
    Append,
    DeleteSession,
    Item,
    PutNote,
    PutOutcome,
    PutSession,
    PutSnapshot,
)
from procession.host.journal import PROBE_PERIOD_S, QUEUE_BYTES_MAX, SYNC_AFTER_S, Journal
from procession.host.storage.memory_store import MemoryStore
from procession.host.storage.port import Store
from procession.host.storage.sqlite_store import SqliteStore
from procession.ipc.core.errors import DiskFull, JournalCorrupt, ProcessionError, StorageError
from procession.ipc.core.operations import Durability

LEVELS: tuple[Durability, ...] = ("memory", "batch", "sync")
WAIT_S = 20.0


class Told:
    """Hears of submissions: which, in which order, with what error."""

    def __init__(self) -> None:
        self.heard: list[tuple[object, ProcessionError | None]] = []
        self._changed = threading.Condition()

    def about(self, what: object) -> Callable[[ProcessionError | None], None]:
        def done(error: ProcessionError | None) -> None:
            with self._changed:
                self.heard.append((what, error))
                self._changed.notify_all()

        return done

    def wait(self, count: int = 1) -> list[tuple[object, ProcessionError | None]]:
        with self._changed:
            assert self._changed.wait_for(lambda: len(self.heard) >= count, WAIT_S), self.heard
            return list(self.heard)

    @property
    def names(self) -> list[object]:
        return [what for what, _ in self.heard]


class Gate(MemoryStore):
    """A store whose writes and syncs wait for the test."""

    def __init__(self) -> None:
        super().__init__()
        self.groups: list[int] = []
        self.may_write = threading.Event()
        self.may_sync = threading.Event()
        self.may_sync_once = threading.Semaphore(0)
        self.writing = threading.Semaphore(0)
        self.syncing = threading.Semaphore(0)
        self.may_write.set()
        self.may_sync.set()

    def write(self, items, *, sync):
        self.writing.release()
        assert self.may_write.wait(WAIT_S)
        self.groups.append(len(items))
        super().write(items, sync=sync)

    def sync(self):
        self.syncing.release()
        if not self.may_sync.is_set():
            assert self.may_sync_once.acquire(timeout=WAIT_S)
        super().sync()

    def release_syncs(self) -> None:
        self.may_sync.set()
        self.may_sync_once.release(10)


@contextmanager
def opened(store: Store) -> Iterator[tuple[Journal, list[tuple[str, dict[str, object]]]]]:
    events: list[tuple[str, dict[str, object]]] = []
    journal = Journal(
        store,
        on_event=lambda kind, data: events.append((kind, dict(data))),
        on_recovered=lambda: events.append(("recovered", {})),
    )
    try:
        yield journal, events
    finally:
        assert journal.close()


def _append(number: int, session: str = SESSION) -> Append:
    return Append(session, number, b"%d;" % number)


class Manual:
    """A journal without threads, on a clock of its own."""

    def __init__(self, store: Store) -> None:
        self.now = 100.0
        self.events: list[str] = []
        self.journal = Journal(
            store,
            on_event=lambda kind, _: self.events.append(kind),
            on_recovered=lambda: self.events.append("recovered"),
            monotonic=lambda: self.now,
            threaded=False,
        )

    def run(self, seconds: float = 0.0) -> None:
        self.now += seconds
        while self.journal.step():
            pass


# --- levels and order ---------------------------------------------------------------------------------------
@pytest.mark.parametrize("level", LEVELS)
def test_what_was_submitted_is_kept_and_told(tmp_path: Path, level: Durability):
    told = Told()
    with opened(SqliteStore.open(tmp_path)) as (journal, _):
        for number in range(1, 101):
            journal.submit([_append(number)], level, told.about(number))
        assert told.wait(100) == [(number, None) for number in range(1, 101)]
    store = SqliteStore.open(tmp_path)
    assert sum(row[1] - row[0] + 1 for row in store.rows(SESSION).journal) == 100
    store.close()


def test_batch_is_told_when_written_and_sync_when_on_disk():
    store, told = MemoryStore(), Told()
    manual = Manual(store)
    for level in LEVELS:
        manual.journal.submit([_append(1, level)], level, told.about(level))
    assert manual.journal.step()
    assert told.names == ["memory", "batch"]
    assert store.syncs == 0
    assert manual.journal.step()
    assert (told.names, store.syncs) == (["memory", "batch", "sync"], 1)


def test_batch_is_on_disk_within_50_ms_and_memory_makes_no_sync():
    store = MemoryStore()
    manual = Manual(store)
    manual.journal.submit([_append(1)], "memory")
    manual.run()
    assert manual.journal.due_in_s() is None
    manual.journal.submit([_append(2)], "batch")
    manual.run()
    assert manual.journal.due_in_s() == pytest.approx(SYNC_AFTER_S)
    assert SYNC_AFTER_S < 0.05
    manual.run(SYNC_AFTER_S / 2)
    manual.journal.submit([_append(3)], "batch")
    manual.run()
    assert store.syncs == 0
    manual.run(SYNC_AFTER_S / 2)
    assert store.syncs == 1
    assert manual.journal.due_in_s() is None
    store.crash()
    assert store.rows(SESSION).journal[-1][1] == 3


def test_those_of_one_session_are_told_in_order_whatever_their_levels():
    told = Told()
    store = Gate()
    store.may_sync.clear()
    with opened(store) as (journal, _):
        journal.submit([_append(1)], "sync", told.about("sync"))
        journal.submit([_append(2)], "batch", told.about("batch after it"))
        journal.submit([PutNote("n", b"")], "memory", told.about("note"))
        journal.submit([_append(1, "other")], "batch", told.about("other's"))
        assert [what for what, _ in told.wait(2)] == ["note", "other's"]
        store.release_syncs()
        assert [what for what, _ in told.wait(4)][2:] == ["sync", "batch after it"]


@pytest.mark.guarantee("R-65")
def test_a_sync_that_is_slow_holds_up_nobody_who_did_not_ask_for_it():
    """Order forced, not timed: the sync is held until all the others have been told."""
    told, slow = Told(), Told()
    store = Gate()
    store.may_sync.clear()
    with opened(store) as (journal, _):
        journal.submit([_append(1, "durable")], "sync", slow.about("sync"))
        assert store.syncing.acquire(timeout=WAIT_S)
        for number in range(1, 51):
            journal.submit([_append(number)], "batch" if number % 2 else "memory", told.about(number))
        told.wait(50)
        assert slow.heard == []
        store.release_syncs()
        slow.wait(1)


def test_a_sync_serves_only_what_was_written_before_it_began():
    told = Told()
    store = Gate()
    store.may_sync.clear()
    with opened(store) as (journal, _):
        journal.submit([_append(1)], "sync", told.about("before"))
        assert store.syncing.acquire(timeout=WAIT_S)
        journal.submit([_append(1, "other")], "sync", told.about("during"))
        written = threading.Event()
        journal.barrier(written.set)
        assert written.wait(WAIT_S)
        store.may_sync_once.release()
        assert [what for what, _ in told.wait(1)] == ["before"]
        assert store.syncing.acquire(timeout=WAIT_S)
        again = threading.Event()
        journal.barrier(again.set)
        assert again.wait(WAIT_S)
        assert told.names == ["before"]
        store.release_syncs()
        assert [what for what, _ in told.wait(2)] == ["before", "during"]


@pytest.mark.guarantee("R-65")
def test_a_hundred_that_wait_for_the_disk_share_a_few_syncs():
    told = Told()
    store = Gate()
    store.may_sync.clear()
    with opened(store) as (journal, _):
        for number in range(1, 101):
            journal.submit([_append(number)], "sync", told.about(number))
        assert store.syncing.acquire(timeout=WAIT_S)
        reached = threading.Event()
        journal.barrier(reached.set)
        assert reached.wait(WAIT_S)  # all are written now; one sync is under way, for the first of them
        store.release_syncs()
        assert [error for _, error in told.wait(100)] == [None] * 100
        assert store.syncs <= 3


def test_what_waits_is_written_in_groups_that_are_bounded():
    store = Gate()
    store.may_write.clear()
    with opened(store) as (journal, _):
        journal.submit([_append(1)], "batch")
        assert store.writing.acquire(timeout=WAIT_S)
        for number in range(2, 2 * GROUP_ITEMS_MAX + 102):
            journal.submit([_append(number)], "batch")
        journal.submit([PutNote("large", bytes(5_000_000))], "batch")
        journal.submit([PutNote("small", b"")], "batch")
        assert journal.waiting_bytes > 5_000_000
        assert journal.has_room
        journal.submit([PutNote("larger", bytes(QUEUE_BYTES_MAX))], "batch")
        assert not journal.has_room
        store.may_write.set()
        reached = threading.Event()
        journal.barrier(reached.set)
        assert reached.wait(WAIT_S)
        assert store.groups == [1, GROUP_ITEMS_MAX, GROUP_ITEMS_MAX, 100, 1, 1, 1]
        assert journal.waiting_bytes == 0


def test_submissions_from_many_threads_keep_each_thread_s_order(tmp_path: Path):
    told = Told()
    with opened(SqliteStore.open(tmp_path)) as (journal, _):

        def submit(name: str) -> None:
            for number in range(1, 101):
                journal.submit([_append(number, name)], LEVELS[number % 3], told.about((name, number)))

        threads = [threading.Thread(target=submit, args=(f"s-{n}",)) for n in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        heard = told.wait(400)
    assert all(error is None for _, error in heard)
    for name in ("s-0", "s-1", "s-2", "s-3"):
        assert [what[1] for what, _ in heard if what[0] == name] == list(range(1, 101))  # type: ignore[index]


def _raise(_: ProcessionError | None) -> None:
    raise ZeroDivisionError("in a callback")


def test_a_callback_that_raises_stops_nothing():
    told = Told()
    with opened(MemoryStore()) as (journal, events):
        journal.submit([_append(1)], "batch", _raise)
        journal.submit([_append(2)], "batch", told.about(2))
        told.wait()
    assert events == [("journal.callback_failed", {"error": "ZeroDivisionError: in a callback"})]


# --- reading ------------------------------------------------------------------------------------------------
def _answer(ask: Callable[[Callable[[Restored | ProcessionError], None]], None]) -> Restored | ProcessionError:
    answers: list[Restored | ProcessionError] = []
    came = threading.Event()

    def done(found: Restored | ProcessionError) -> None:
        answers.append(found)
        came.set()

    ask(done)
    assert came.wait(WAIT_S)
    return answers[0]


def test_a_load_sees_what_was_submitted_before_it(tmp_path: Path):
    journal_sample = sample(50)
    with opened(SqliteStore.open(tmp_path)) as (journal, _):
        journal.submit([PutSnapshot(SESSION, *journal_sample.snapshot(0))], "memory")
        for number in range(1, 51):
            journal.submit([journal_sample.append(number)], "memory")
        found = _answer(lambda done: journal.load(SESSION, done))
        assert isinstance(found, Restored)
        assert found.fold.state == journal_sample.states[50]
        found = _answer(lambda done: journal.read(SESSION, 20, done))
        assert isinstance(found, Restored)
        assert found.fold.state == journal_sample.states[20]
        found = _answer(lambda done: journal.read(SESSION, 51, done))
        assert isinstance(found, ProcessionError)
        assert (found.code, found.session) == ("sequence_gone", SESSION)


@pytest.mark.guarantee("R-59")
def test_a_torn_end_is_cut_off_on_disk_before_the_next_record(tmp_path: Path):
    records = sample(12)
    store = SqliteStore.open(tmp_path)
    first, last, data = records.row(5, 10)
    torn = (first, last, data[:-5] + bytes(5))
    store.write([PutSnapshot(SESSION, *records.snapshot(0)), *(records.append(n) for n in range(1, 5))], sync=False)
    store.replace_journal(SESSION, [records.row(1, 4), torn], b"", "made by a test")
    with opened(store) as (journal, events):
        read = _answer(lambda done: journal.read(SESSION, None, done))
        assert isinstance(read, Restored)
        assert read.repair is not None
        assert store.rows(SESSION).journal[-1] == torn  # who only reads repairs nothing
        loaded = _answer(lambda done: journal.load(SESSION, done))
        assert isinstance(loaded, Restored)
        assert (loaded.number, loaded.fold.state) == (9, records.states[9])
        assert store.rows(SESSION).journal[-1] == records.row(5, 9)
        aside = torn[2][len(records.row(5, 9)[2]) :]
        assert events == [
            ("journal.repaired", {"session": SESSION, "bytes": len(aside), "why": loaded.notes[0]}),
        ]
        journal.submit([records.append(10)], "batch")
        again = _answer(lambda done: journal.load(SESSION, done))
        assert isinstance(again, Restored)
        assert (again.number, again.notes, again.fold.state) == (10, (), records.states[10])


def test_what_cannot_be_read_is_told_and_kept(tmp_path: Path):
    records = sample(4)
    with opened(SqliteStore.open(tmp_path)) as (journal, events):
        journal.submit([records.append(1), Append(SESSION, 2, b"?"), records.append(3), records.append(4)], "batch")
        found = _answer(lambda done: journal.load(SESSION, done))
        assert isinstance(found, JournalCorrupt)
        assert found.session == SESSION
        assert events == []


def test_many_loads_are_done_by_two_threads(tmp_path: Path):
    records = sample(5)
    with opened(SqliteStore.open(tmp_path)) as (journal, _):
        for number in range(30):
            journal.submit([records.append(n, f"s-{number}") for n in range(1, 6)], "memory")
        told = Told()
        for number in range(30):
            journal.load(f"s-{number}", lambda found: told.about(found)(None))
        found = told.wait(30)
        assert all(isinstance(what, Restored) and what.number == 5 for what, _ in found)
        assert sum(thread.name == "procession-reader" for thread in threading.enumerate()) == 2


# --- a full disk --------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-62")
def test_on_a_full_disk_changes_are_refused_until_there_is_room_again():
    store, told = MemoryStore(), Told()
    manual = Manual(store)
    store.is_full = True
    manual.journal.submit([_append(1)], "batch", told.about(1))
    manual.run()
    manual.journal.submit([_append(2)], "sync", told.about(2))
    manual.journal.submit([PutSession(SESSION, b"last words")], "batch", told.about("words"))
    manual.run()
    errors = dict(told.heard)
    assert isinstance(errors[1], DiskFull)
    assert isinstance(errors[2], DiskFull)
    assert errors["words"] is None
    assert store.sessions() == [(SESSION, b"last words")]
    assert isinstance(manual.journal.refusal(), DiskFull)
    assert manual.journal.refusal() is not manual.journal.refusal()
    assert (manual.journal.health, manual.events) == ("full", ["storage.full"])
    manual.run(PROBE_PERIOD_S)
    assert manual.journal.health == "full"
    store.is_full = False
    manual.run(PROBE_PERIOD_S)
    assert (manual.journal.health, manual.journal.refusal()) == ("ok", None)
    assert manual.events == ["storage.full", "storage.recovered", "recovered"]
    manual.journal.submit([_append(1)], "batch", told.about("again"))
    manual.run()
    assert told.heard[-1] == ("again", None)


@pytest.mark.guarantee("R-62")
def test_no_record_is_written_after_one_that_was_refused():
    """Who had not heard yet of the refusal when there was room again would leave a hole in its journal."""
    store, told = MemoryStore(), Told()
    manual = Manual(store)
    store.is_full = True
    manual.journal.submit([_append(1)], "batch", told.about(1))
    manual.journal.submit([_append(1, "third")], "batch", told.about("third"))
    manual.run()
    store.is_full = False
    manual.run(PROBE_PERIOD_S)
    manual.journal.submit([_append(2)], "batch", told.about(2))
    manual.journal.submit([_append(1, "other")], "batch", told.about("other"))
    manual.journal.submit([PutOutcome(SESSION, "c", 1.0, b"")], "batch", told.about("outcome"))
    manual.run()
    errors = dict(told.heard)
    assert isinstance(errors[2], DiskFull)
    assert errors["other"] is None
    assert errors["outcome"] is None
    store.is_full = True
    manual.journal.submit([PutSnapshot(SESSION, 2, b"")], "batch", told.about("refused too"))
    manual.run()
    store.is_full = False
    manual.run(PROBE_PERIOD_S)
    manual.journal.submit([_append(3)], "batch", told.about("still"))
    manual.run()
    errors = dict(told.heard)
    assert isinstance(errors["refused too"], DiskFull)
    assert isinstance(errors["still"], DiskFull)
    manual.journal.submit([PutSnapshot(SESSION, 2, b"")], "batch", told.about("snapshot"))
    manual.journal.submit([_append(3)], "batch", told.about(3))
    manual.journal.submit([DeleteSession("third"), _append(2, "third")], "batch", told.about("begun anew"))
    manual.run()
    errors = dict(told.heard)
    assert errors["snapshot"] is None
    assert errors[3] is None
    assert errors["begun anew"] is None


# --- a disk that fails --------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-61")
def test_after_a_sync_that_failed_nothing_is_acknowledged(monkeypatch: pytest.MonkeyPatch):
    store, told = MemoryStore(), Told()
    manual = Manual(store)
    manual.journal.submit([_append(1)], "batch", told.about("before"))
    manual.journal.submit([_append(2)], "sync", told.about("sync"))
    manual.journal.submit([_append(3)], "memory", told.about("behind it"))
    store.sync_fails = True
    manual.run()
    store.sync_fails = False
    for level in LEVELS:
        manual.journal.submit([_append(4)], level, told.about(level))
    manual.run(PROBE_PERIOD_S)
    assert told.heard[0] == ("before", None)
    assert told.names == ["before", "sync", "behind it", *LEVELS]
    assert [error.code for _, error in told.heard[1:] if error] == ["storage_failed"] * 5
    assert manual.journal.health == "failed"
    refusal = manual.journal.refusal()
    assert type(refusal) is StorageError
    assert manual.events == ["storage.failed"]


def test_any_order_of_levels_faults_and_time_tells_each_once(soak_factor: int):
    """Every submission is told once; what was told None is there; one session's are told in order."""
    for seed in range(100 * soak_factor):
        rng = random.Random(seed)
        store, told = MemoryStore(), Told()
        manual = Manual(store)
        sent: list[tuple[str, int, Durability]] = []
        numbers = {"a": 0, "b": 0}
        for _ in range(60):
            session = rng.choice("ab")
            if rng.random() < 0.1:
                store.is_full = not store.is_full
            if rng.random() < 0.01:
                store.sync_fails = True
            heard = [(what, error) for what, error in told.heard if what[0] == session]  # type: ignore[index]
            if heard and heard[-1][1] is not None and len(heard) == sum(what[0] == session for what in sent):
                kept = (what[1] for what, error in heard if error is None)  # type: ignore[index]
                numbers[session] = max(kept, default=0)  # it has heard of all, and goes on after what is kept
            numbers[session] += 1
            what = (session, numbers[session], rng.choice(LEVELS))
            sent.append(what)
            manual.journal.submit([_append(what[1], session)], what[2], told.about(what))
            if rng.random() < 0.5:
                manual.journal.step()
            manual.now += rng.choice((0.0, 0.01, 1.0))
        manual.run()
        assert sorted(map(str, told.names)) == sorted(map(str, sent)), seed
        if manual.journal.health == "failed":
            store.crash()
        for session in "ab":
            mine = [(what, error) for what, error in told.heard if what[0] == session]  # type: ignore[index]
            assert [what for what, _ in mine] == [what for what in sent if what[0] == session], seed
            least = "sync" if manual.journal.health == "failed" else "memory"
            acked = [what[1] for what, error in mine if error is None and LEVELS.index(what[2]) >= LEVELS.index(least)]  # type: ignore[index]
            there = [n for row in store.rows(session).journal for n in range(row[0], row[1] + 1)]
            assert there == list(range(1, len(there) + 1)), seed
            assert set(acked) <= set(there), seed


# --- ends ---------------------------------------------------------------------------------------------------
def test_a_close_writes_what_was_submitted_and_ends_its_threads(tmp_path: Path):
    told = Told()
    journal = Journal(SqliteStore.open(tmp_path), on_event=lambda *_: None, on_recovered=lambda: None)
    for number in range(1, 501):
        journal.submit([_append(number)], "sync" if number % 100 == 0 else "batch", told.about(number))
    assert journal.close()
    assert told.names == list(range(1, 501))
    assert not [thread for thread in threading.enumerate() if thread.name.startswith("procession-")]
    journal.submit([_append(501)], "batch", told.about("late"))
    what, error = told.heard[-1]
    assert what == "late"
    assert error is not None
    assert error.code == "closed"
    found = _answer(lambda done: journal.load(SESSION, done))
    assert isinstance(found, ProcessionError)
    assert journal.close()


def test_a_close_that_cannot_end_in_time_says_so_and_leaves_the_store():
    store = Gate()
    store.may_write.clear()
    journal = Journal(store, on_event=lambda *_: None, on_recovered=lambda: None)
    journal.submit([_append(1)], "batch")
    assert not journal.close(timeout_s=0.01)
    store.may_write.set()
    assert journal.close()


def test_a_journal_that_nobody_used_has_no_threads(tmp_path: Path):
    before = threading.active_count()
    with opened(SqliteStore.open(tmp_path)):
        assert threading.active_count() == before


def test_items_submitted_together_are_kept_together():
    store = MemoryStore()
    manual = Manual(store)
    items: list[Item] = [_append(1), PutOutcome(SESSION, "c", 1.0, b"o")]
    store.is_full = True
    manual.journal.submit(items, "batch")
    manual.run()
    assert store.rows(SESSION).journal == ()
    assert store.outcome(SESSION, "c") is None


def test_the_sync_of_the_last_batch_needs_no_further_submission(tmp_path: Path):
    store = Gate()
    with opened(store) as (journal, _):
        journal.submit([_append(1)], "batch")
        wait_until(lambda: store.syncs == 1, "the batch was synced by itself")
