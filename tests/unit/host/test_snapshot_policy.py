"""When a snapshot is due: a replay that is bounded, and a disk that is not written full of snapshots."""

import random

import pytest

from procession.host.core.snapshot_policy import (
    JOURNAL_BYTES_MAX,
    RECORDS_MAX,
    RECORDS_MIN,
    SNAPSHOT_SHARE,
    SnapshotPolicy,
)
from procession.ipc.core.bounds import MiB


def _until_due(policy: SnapshotPolicy, record_bytes: int) -> int:
    for count in range(1, RECORDS_MAX + 1):
        if policy.add(record_bytes):
            return count
    raise AssertionError("a snapshot is never due")


@pytest.mark.parametrize(
    ("snapshot_bytes", "record_bytes", "due_after"),
    [
        (0, 1, RECORDS_MIN),
        (1_000, 100, RECORDS_MIN),
        (0, 20_000, -(-JOURNAL_BYTES_MAX // 20_000)),
        (0, 5 * MiB, 1),
        (MiB, 100, -(-MiB // SNAPSHOT_SHARE // 100)),
        (64 * MiB, 100, RECORDS_MAX),
        (64 * MiB, 1 * MiB, 4),
    ],
)
def test_a_snapshot_is_due_after(snapshot_bytes: int, record_bytes: int, due_after: int):
    assert _until_due(SnapshotPolicy(snapshot_bytes), record_bytes) == due_after


def test_it_counts_on_after_a_restart_and_anew_after_a_snapshot():
    policy = SnapshotPolicy(0, records=RECORDS_MIN - 1, journal_bytes=1000)
    assert policy.add(10)
    policy.begin(500)
    assert not policy.is_due
    assert _until_due(policy, 10) == RECORDS_MIN


@pytest.mark.guarantee("R-64")
def test_replay_and_what_is_written_are_bounded_whatever_comes():
    for seed in range(200):
        rng = random.Random(seed)
        size = rng.choice((100, 10_000, MiB, 20 * MiB))
        policy = SnapshotPolicy(size)
        records = journal = 0
        while True:
            record = rng.choice((50, 500, 5_000, 50_000))
            records += 1
            journal += record
            if policy.add(record):
                break
        assert records <= RECORDS_MAX
        assert journal <= max(JOURNAL_BYTES_MAX, size / SNAPSHOT_SHARE) + record
        assert records == RECORDS_MAX or journal * SNAPSHOT_SHARE >= size
