"""What is written together, what stands in one row, and what may not follow something that was refused."""

import itertools
from collections import deque

from procession.host.core.group_commit import (
    GROUP_BYTES_MAX,
    GROUP_ITEMS_MAX,
    HEALTH,
    Gaps,
    JournalRow,
    Submission,
    size_of,
    take_group,
    with_rows,
)
from procession.host.core.journal_entries import (
    Append,
    DeleteCast,
    DeleteSession,
    Item,
    PutNote,
    PutSession,
    PutSnapshot,
)


def _submission(*items: Item) -> Submission:
    return Submission(items, "batch", None, size_of(items))


def _append(number: int, session: str = "a") -> Append:
    return Append(session, number, b"%d;" % number)


def test_a_group_is_what_fits_in_the_order_of_submission():
    queue = deque([_submission(PutNote(str(n), b"")) for n in range(GROUP_ITEMS_MAX + 1)])
    assert len(take_group(queue)) == GROUP_ITEMS_MAX
    assert [one.items for one in take_group(queue)] == [(PutNote(str(GROUP_ITEMS_MAX), b""),)]
    assert take_group(queue) == []


def test_what_was_submitted_together_stays_together_and_what_is_large_goes_alone():
    many = _submission(*(PutNote(str(n), b"") for n in range(GROUP_ITEMS_MAX + 5)))
    large = _submission(PutNote("large", bytes(GROUP_BYTES_MAX)))
    small = _submission(PutNote("small", b""))
    queue = deque([small, large, small, many, small])
    assert [take_group(queue) for _ in range(5)] == [[small], [large], [small], [many], [small]]


def test_records_that_follow_each_other_are_one_row():
    note = PutNote("n", b"")
    items: list[Item] = [_append(1), note, _append(1, "b"), _append(2), _append(3), _append(2, "b")]
    assert with_rows(items) == [
        JournalRow("a", 1, 3, b"1;2;3;"),
        note,
        JournalRow("b", 1, 2, b"1;2;"),
    ]


def _rows_of(*items: Item) -> list[tuple[str, int, int]]:
    return [row[:3] for row in with_rows(items) if isinstance(row, JournalRow)]


def test_a_gap_a_snapshot_or_an_end_keeps_records_apart():
    assert _rows_of(_append(1), _append(3)) == [("a", 1, 1), ("a", 3, 3)]
    assert _rows_of(_append(1), PutSnapshot("a", 1, b""), _append(2)) == [("a", 1, 1), ("a", 2, 2)]
    assert _rows_of(_append(1), DeleteSession("a"), _append(2)) == [("a", 1, 1), ("a", 2, 2)]
    assert _rows_of(_append(1), PutSnapshot("b", 1, b""), _append(2)) == [("a", 1, 2)]


def test_after_a_record_that_was_refused_none_is_admitted_until_it_comes_again():
    gaps = Gaps()
    assert gaps.admits([_append(5)])
    gaps.refused([_append(3), PutNote("n", b"")])
    gaps.refused([_append(4)])
    assert not gaps.admits([_append(4)])
    assert not gaps.admits([PutSession("a", b""), _append(4)])
    assert gaps.admits([_append(9, "b"), PutSession("a", b""), PutNote("n", b"")])
    assert gaps.admits([_append(3), _append(4)])
    assert gaps.admits([_append(5)])


def test_a_snapshot_that_says_what_the_record_did_closes_the_gap():
    gaps = Gaps()
    gaps.refused([_append(3)])
    assert gaps.admits([PutSnapshot("a", 2, b"")])
    assert not gaps.admits([_append(4)])
    assert gaps.admits([PutSnapshot("a", 3, b""), _append(4)])
    gaps.refused([_append(5)])
    assert gaps.admits([DeleteSession("a"), _append(7)])


def test_what_was_admitted_and_not_written_leaves_the_gap_open():
    gaps = Gaps()
    gaps.refused([_append(3)])
    saved = gaps.save()
    assert gaps.admits([PutSnapshot("a", 8, b"")])
    gaps.restore(saved)
    assert not gaps.admits([_append(9)])


def test_last_words_are_what_makes_room_or_says_how_things_stand():
    assert _submission(PutSession("a", b""), DeleteCast("a", "c")).is_last_words
    assert not _submission(PutSession("a", b""), _append(1)).is_last_words
    assert not _submission(PutSnapshot("a", 1, b"")).is_last_words


def test_every_cell_of_the_health_table_is_there_and_a_failure_is_the_end():
    states, events = ("ok", "full", "failed"), ("no_room", "room", "failure")
    assert set(HEALTH) == set(itertools.product(states, events))
    assert {HEALTH["failed", event] for event in events} == {"failed"}  # type: ignore[index]
