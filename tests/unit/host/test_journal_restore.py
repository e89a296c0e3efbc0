"""A state from what was kept of it: every cut, any flip, any rows and snapshots; and never a state that never was."""

import random
import time
import zlib
from itertools import accumulate

import pytest

from helpers.journals import FIRST_STATE, Sample, sample
from procession.host.core.journal import Restored, encode_record, encode_snapshot, read_snapshot, restore
from procession.host.core.journal_entries import Record, Rows
from procession.host.core.snapshot_policy import RECORDS_MAX
from procession.ipc.core.errors import InvalidRequest, JournalCorrupt
from procession.ipc.core.state_ops import SetPath, encode_ops
from procession.ipc.core.values import encode_value

FLIPS = 2_000

Damage = tuple[int, int]
"""A place in a row of the journal: which row, which byte."""


@pytest.fixture(scope="module")
def small() -> Sample:
    return sample(60)


# --- whole journals -----------------------------------------------------------------------------------------
def test_a_session_of_which_nothing_is_kept_begins_with_an_unknown_state():
    restored = restore(Rows((), ()))
    assert (restored.number, restored.snapshot, restored.replayed) == (0, -1, 0)
    assert not restored.fold.is_known
    assert not restored.notes
    assert restored.repair is None


def test_the_newest_snapshot_and_the_records_after_it_are_taken(small: Sample):
    restored = restore(small.kept(16, 40))
    assert restored.fold.state == small.states[60]
    assert (restored.number, restored.fold.number, restored.snapshot, restored.replayed) == (60, 60, 40, 20)
    assert restored.replayed_bytes == sum(map(len, small.frames[40:]))


def test_a_snapshot_of_the_first_state_has_the_number_0(small: Sample):
    restored = restore(small.kept(0))
    assert (restored.snapshot, restored.replayed) == (0, 60)
    assert restored.fold.state == small.states[60]


@pytest.mark.guarantee("R-29")
def test_any_rows_and_snapshots_give_the_state_that_apply_gives(soak_factor: int):
    for seed in range(40 * soak_factor):
        rng = random.Random(seed)
        journal = sample(rng.randint(1, 60), rng)
        ends = sorted({*rng.sample(range(1, journal.last + 1), rng.randint(0, journal.last - 1)), journal.last})
        snapshots = sorted(rng.sample(range(journal.last + 1), rng.randint(1, min(2, journal.last))), reverse=True)
        rows = tuple(row for row in journal.rows(ends) if row[1] > snapshots[-1])
        kept = Rows(tuple(map(journal.snapshot, snapshots)), rows)
        assert restore(kept).fold.state == journal.states[-1], seed
        at = rng.randint(snapshots[-1], journal.last)
        restored = restore(kept, at=at)
        assert (restored.number, restored.fold.state) == (at, journal.states[at]), seed
        assert restored.snapshot == max(number for number in snapshots if number <= at), seed


def test_an_earlier_state_can_be_had_while_something_before_it_is_kept(small: Sample):
    kept = Rows((small.snapshot(40), small.snapshot(16)), small.kept().journal[2:])
    for gone in (-1, 0, 15, 61, 10**12):
        with pytest.raises(InvalidRequest, match="from 16 to 60") as caught:
            restore(kept, at=gone)
        assert caught.value.code == "sequence_gone"
    assert restore(kept, at=16).fold.state == small.states[16]
    assert restore(Rows((), small.kept().journal), at=0).number == 0


def test_a_journal_without_its_first_snapshot_is_read_from_record_1(small: Sample):
    """A program's own agent tells its state with its first change: then there is no snapshot before the first one."""
    begun = encode_record(Record(1, 1, 1, 1.0, encode_ops([SetPath(("messages",), []), SetPath(("n",), 1)])))
    rows = ((1, 1, begun), *small.rows([60], first=2))
    bad = (40, b"no snapshot")
    restored = restore(Rows((bad,), rows))
    assert (restored.number, restored.snapshot, restored.fold.state["n"]) == (60, -1, 60)
    assert "snapshot 40" in restored.notes[0]


# --- torn ends ----------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-59")
def test_a_journal_cut_at_any_byte_is_cut_to_its_last_good_record():
    journal = sample(1_000)
    every = 4  # a snapshot before each row keeps the replay short: what is cut is the row after it
    cuts = 0
    for first in range(1, journal.last, every):
        row = journal.row(first, first + every - 1)
        ends = list(accumulate(map(len, journal.frames[first - 1 : first + every - 1]), initial=0))
        snapshots = (journal.snapshot(first - 1),)
        for cut in range(len(row[2])):
            whole = max(place for place, end in enumerate(ends) if end <= cut)
            restored = restore(Rows(snapshots, ((first, row[1], row[2][:cut]),)))
            assert restored.number == first - 1 + whole
            assert restored.fold.state == journal.states[restored.number]
            assert restored.repair is not None
            assert restored.repair.aside == row[2][ends[whole] : cut]
            assert restored.repair.journal == (() if not whole else (journal.row(first, first - 1 + whole),))
            assert restored.notes == (restored.repair.why,)
            cuts += 1
    assert cuts == sum(map(len, journal.frames))


@pytest.mark.guarantee("R-59")
@pytest.mark.parametrize("filling", [b"", b"\0", b"\xff", b"\x96"])
def test_a_torn_end_of_a_large_row_is_repaired_and_then_whole(small: Sample, filling: bytes):
    rows = small.kept(16, every=30)
    first, last, data = rows.journal[-1]
    ends = list(accumulate(map(len, small.frames[first - 1 :]), initial=0))
    for cut in range(0, len(data), 7):
        torn = data[:cut] + filling * (len(data) - cut)
        restored = restore(Rows(rows.snapshots, (*rows.journal[:-1], (first, last, torn))))
        whole = sum(1 for end in ends[1:] if end <= cut)
        assert restored.number == first - 1 + whole
        assert restored.repair is not None
        again = restore(Rows(rows.snapshots, restored.repair.journal))
        assert (again.number, again.repair, again.notes) == (restored.number, None, ())
        assert b"".join(row[2] for row in restored.repair.journal) + restored.repair.aside == rows.journal[0][2] + torn


def test_an_end_is_not_torn_when_there_is_something_after_it(small: Sample):
    rows = small.kept(0)
    with pytest.raises(JournalCorrupt, match="up to record 55"):
        restore(Rows(rows.snapshots, (*rows.journal[:-2], (49, 56, rows.journal[-2][2][:-1]), rows.journal[-1])))


# --- damage in the middle -----------------------------------------------------------------------------------
def _damaged(rows: Rows, place: Damage, new: bytes) -> Rows:
    number, byte = place
    first, last, data = rows.journal[number]
    changed = (first, last, data[:byte] + new + data[byte + len(new) :])
    return Rows(rows.snapshots, (*rows.journal[:number], changed, *rows.journal[number + 1 :]))


def _record_at(small: Sample, rows: Rows, place: Damage) -> int:
    first, last, _ = rows.journal[place[0]]
    ends = accumulate(map(len, small.frames[first - 1 : last]))
    return first + sum(1 for end in ends if end <= place[1])


def _tried(rows: Rows) -> tuple[JournalCorrupt | None, Restored | None]:
    try:
        return None, restore(rows)
    except JournalCorrupt as corrupt:
        return corrupt, None


def _check_damaged(small: Sample, rows: Rows, damaged: Rows, first_hit: int, last_hit: int) -> None:
    """One stretch of records is damaged: it is told, or it was not needed; and the state is one that was."""
    base = rows.snapshots[0][0]
    needed_row = next(row for row in rows.journal if row[1] > base)
    corrupt, restored = _tried(damaged)
    if corrupt is not None:
        readable = max(base, first_hit - 1)
        assert f"up to record {readable}" in str(corrupt)
        assert f"fork(at={readable})" in corrupt.hint
        assert restore(damaged, at=readable).fold.state == small.states[readable]
        return
    assert restored is not None
    assert restored.fold.state == small.states[restored.number]
    if restored.repair is None:
        assert restored.number == small.last
        assert last_hit < needed_row[0], "damage was passed over in silence"
    else:
        assert last_hit == small.last, "records after the damage were thrown away"
        assert restored.number == max(base, first_hit - 1)
        assert restored.notes


@pytest.mark.guarantee("R-60")
def test_a_flipped_bit_is_never_passed_over(small: Sample, soak_factor: int):
    rows = small.kept(16, 43)  # in the middle of a row
    rng = random.Random(60)
    for _ in range(FLIPS * soak_factor):
        number = rng.randrange(len(rows.journal))
        data = rows.journal[number][2]
        byte = rng.randrange(len(data))
        damaged = _damaged(rows, (number, byte), bytes([data[byte] ^ 1 << rng.randrange(8)]))
        hit = _record_at(small, rows, (number, byte))
        _check_damaged(small, rows, damaged, hit, hit)


@pytest.mark.guarantee("R-60")
def test_a_run_of_zeroes_is_never_passed_over(small: Sample, soak_factor: int):
    rows = small.kept(16, 43)  # in the middle of a row
    rng = random.Random(61)
    for _ in range(FLIPS * soak_factor):
        number = rng.randrange(len(rows.journal))
        data = rows.journal[number][2]
        byte = rng.randrange(len(data))
        length = min(rng.choice((1, 4, 16, 64, 512)), len(data) - byte)
        damaged = _damaged(rows, (number, byte), bytes(length))
        if damaged == rows:
            continue
        changed = [at for at in range(byte, byte + length) if data[at]]
        hits = (_record_at(small, rows, (number, changed[0])), _record_at(small, rows, (number, changed[-1])))
        _check_damaged(small, rows, damaged, *hits)


@pytest.mark.guarantee("R-60")
@pytest.mark.parametrize(
    ("journal", "what"),
    [
        (lambda s: s.rows([10, 20])[:1] + s.rows([30], first=21), "records 11 to 20 are missing"),
        (lambda s: s.rows([20], first=2), "records 1 to 1 are missing"),
        (lambda s: s.rows([20]) + s.rows([30], first=15), "record 15 is there twice"),
        (lambda s: s.rows([20]) + s.rows([18], first=15), "record 15 is there twice"),
        (lambda s: ((1, 2, s.frames[0] + s.frames[2]), s.row(3, 4)), "in place of record 2 there is 3"),
        (lambda s: ((1, 1, s.frames[0] + s.frames[1]),), "more after record 1"),
        (lambda s: ((1, 1, s.snapshot(1)[1]),), "record 1 is none"),
        (lambda s: ((1, 1, encode_record(Record(1, 1, 1, 1.0, b"\xc1"))), s.row(2, 3)), "record 1 does not apply"),
    ],
    ids=lambda value: value.replace(" ", "-") if isinstance(value, str) else "",
)
def test_what_does_not_fit_together_is_corrupt(small: Sample, journal, what: str):
    with pytest.raises(JournalCorrupt, match=what) as caught:
        restore(Rows((small.snapshot(0),), journal(small)))
    assert "the data is kept" in caught.value.hint


def test_what_the_storage_could_not_read_makes_the_session_unreadable(small: Sample):
    kept = small.kept(16, 40)
    with pytest.raises(JournalCorrupt, match="malformed; the state can be read up to record 48"):
        restore(Rows(kept.snapshots, kept.journal[:6], "malformed"))
    assert restore(Rows(kept.snapshots, kept.journal[:6], "malformed"), at=48).fold.state == small.states[48]
    with pytest.raises(JournalCorrupt, match="malformed"):
        restore(Rows((), (), "malformed"))


# --- snapshots ----------------------------------------------------------------------------------------------
def _framed(payload: bytes) -> bytes:
    return len(payload).to_bytes(4, "little") + zlib.crc32(payload).to_bytes(4, "little") + payload


BAD_SNAPSHOTS = {
    "empty": b"",
    "cut": encode_snapshot(40, encode_value({"n": 40}, path="state"))[:-1],
    "longer": encode_snapshot(40, encode_value({"n": 40}, path="state")) + b"\0",
    "of another number": encode_snapshot(41, encode_value({"n": 40}, path="state")),
    "no state": encode_snapshot(40, encode_value([1], path="state")),
    "no value": encode_snapshot(40, b"\xc1"),
    "no bytes of ours": b"SQLite format 3\0",
    "format 2": _framed(bytes.fromhex("930228c40180")),  # [2, 40, b"\x80"]: as ours, of a later version
    "format 3": _framed(bytes.fromhex("94032880a56c61746572")),  # [3, 40, {}, "later"]: of another shape
}
SNAPSHOT_OF_FORMAT_1 = bytes.fromhex("11000000854b07c2930102c40c82a16e01a474657874a2c3a9")
RECORD_OF_FORMAT_1 = bytes.fromhex("1d000000ae01615a96030107cb41d954fc40200000c40a9193a373657491a16e02a3632d33")
"""As the first version wrote them: they are on somebody's disk, and stay readable."""


@pytest.mark.guarantee("R-18")
@pytest.mark.parametrize("name", BAD_SNAPSHOTS)
def test_an_unreadable_snapshot_costs_a_longer_replay(small: Sample, name: str):
    kept = small.kept(16)
    restored = restore(Rows(((40, BAD_SNAPSHOTS[name]), *kept.snapshots), kept.journal))
    assert (restored.snapshot, restored.replayed, restored.fold.state) == (16, 44, small.states[60])
    assert "snapshot 40 cannot be read" in restored.notes[0]


@pytest.mark.guarantee("R-18")
@pytest.mark.parametrize("name", BAD_SNAPSHOTS)
def test_two_unreadable_snapshots_are_never_an_empty_session(small: Sample, name: str):
    bad = Rows(((40, BAD_SNAPSHOTS[name]), (16, b"?")), small.kept().journal)
    with pytest.raises(JournalCorrupt, match="no snapshot can be read: snapshot 40") as caught:
        restore(bad)
    assert "the data is kept" in caught.value.hint
    with pytest.raises(JournalCorrupt):
        restore(bad, at=50)
    with pytest.raises(JournalCorrupt):
        restore(Rows(bad.snapshots[:1], ()))


@pytest.mark.guarantee("R-18")
def test_what_the_first_version_wrote_is_read():
    restored = restore(Rows(((2, SNAPSHOT_OF_FORMAT_1),), ((3, 3, RECORD_OF_FORMAT_1),)))
    assert (restored.number, restored.fold.state) == (3, {"n": 2, "text": "é"})


@pytest.mark.guarantee("R-18")
def test_an_unreadable_snapshot_whose_records_are_gone_is_corrupt(small: Sample):
    """A session that could not be written for a while catches up with a snapshot: there are no records up to it."""
    rows = small.rows([20])
    good = restore(Rows((small.snapshot(40), small.snapshot(16)), rows))
    assert (good.number, good.fold.state) == (40, small.states[40])
    with pytest.raises(JournalCorrupt, match="records 21 to 40 are missing; the state can be read up to record 20"):
        restore(Rows(((40, b""), small.snapshot(16)), rows))


@pytest.mark.guarantee("R-18")
@pytest.mark.parametrize("text", ["format 2", "format 3"])
def test_a_snapshot_of_a_later_version_is_refused_by_its_format(text: str):
    with pytest.raises(JournalCorrupt, match=rf"of {text}, not 1"):
        read_snapshot(40, BAD_SNAPSHOTS[text])


@pytest.mark.guarantee("R-18")
def test_a_state_that_a_later_snapshot_cannot_give_is_still_there_for_a_fork(small: Sample):
    damaged = _damaged(small.kept(0, 40), (6, 20), b"\0\0\0\0")
    assert restore(damaged, at=30).fold.state == small.states[30]


def test_first_state_is_what_a_snapshot_gives_back():
    encoded = encode_value(dict(FIRST_STATE), path="state")
    assert read_snapshot(0, encode_snapshot(0, encoded)) == encoded


# --- time ---------------------------------------------------------------------------------------------------
@pytest.mark.guarantee("R-64")
def test_the_longest_replay_that_there_is_takes_less_than_half_a_second():
    """Both snapshots are kept, so even an unreadable one is no more than twice the records of the policy."""
    journal = sample(2 * RECORDS_MAX)
    kept = Rows((journal.snapshot(RECORDS_MAX), journal.snapshot(0)), journal.kept(every=64).journal)
    took = []
    for rows in (kept, Rows(((RECORDS_MAX, b""), *kept.snapshots[1:]), kept.journal)):
        began = time.perf_counter()
        assert restore(rows).fold.state == journal.states[-1]
        took.append(time.perf_counter() - began)
    assert min(took) < 0.5
    assert took[1] < 1.0
