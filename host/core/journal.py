"""A session's journal as bytes, and the one way back: records and snapshots framed, and a state from what was kept of both.

    record, snapshot  ──▶  [ length u32 | crc32 u32 | payload ]  ──▶  Rows  ── restore() ──▶  StateFold

Pure. It is *not* where the bytes are kept (host/storage/) nor when a snapshot is due (snapshot_policy.py). Rules: a state is
what its newest readable snapshot says and every record after it, without a gap. Bytes that do not read back as they were written
are never passed over in silence: an unreadable snapshot costs a longer replay and is told; the torn end of the last row is cut
off, told, and kept aside; anything else is JournalCorrupt, which says how far the state can be read. Never an empty state.
"""

from __future__ import annotations

import struct
from typing import Final, NamedTuple
from zlib import crc32

import msgspec

from procession.host.core.journal_entries import Record, Rows
from procession.host.core.state_fold import StateFold
from procession.ipc.core.breach import ProtocolBreach
from procession.ipc.core.errors import InvalidRequest, JournalCorrupt

SNAPSHOT_FORMAT: Final = 1
"""Written into every snapshot. An older one is read for ever, a newer one is refused by name."""
_HEADER: Final = struct.Struct("<II")
_RECORD_START: Final = b"\x96"
"""The first byte of a Record: an array of six."""
_SEARCH_SHARE: Final = 16
"""A search for records after a damaged one checks no more bytes than this many times what it looks through."""
_encode: Final = msgspec.msgpack.Encoder().encode
_decode_record: Final = msgspec.msgpack.Decoder(Record).decode


class _Snapshot(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    format: int
    number: int
    state: bytes


_decode_snapshot: Final = msgspec.msgpack.Decoder(_Snapshot).decode
_decode_format: Final = msgspec.msgpack.Decoder(list[msgspec.Raw]).decode


class Repair(NamedTuple):
    """A torn end, cut off. journal: the rows that take the place of all that are there. aside: what was cut off."""

    journal: tuple[tuple[int, int, bytes], ...]
    aside: bytes
    why: str


class Restored(NamedTuple):
    """A state as it was kept. number: of its last record. snapshot: of the one it began from, -1 when there was none.

    replayed, replayed_bytes: records since. notes: what was not as it should be. repair: is to be written before any record.
    """

    fold: StateFold
    number: int
    snapshot: int
    replayed: int
    notes: tuple[str, ...]
    repair: Repair | None
    replayed_bytes: int = 0


# --- bytes --------------------------------------------------------------------------------------------------
def encode_record(record: Record) -> bytes:
    """Return a record, framed."""
    return _framed(_encode(record))


def encode_snapshot(number: int, state: bytes) -> bytes:
    """Return the state that record `number` left, framed; `state` as StateFold.encoded gives it."""
    return _framed(_encode(_Snapshot(SNAPSHOT_FORMAT, number, state)))


def read_snapshot(number: int, data: bytes) -> bytes:
    """Return the state of a snapshot, as it was given. Raises JournalCorrupt, also for a format of later versions."""
    payload, end = _payload(memoryview(data), 0)
    if payload is None or end != len(data):
        raise JournalCorrupt(f"snapshot {number} does not have its checksum")
    try:
        found = _decode_snapshot(payload)
    except msgspec.MsgspecError:
        raise JournalCorrupt(f"snapshot {number} is of format {_format_of(payload)}, not {SNAPSHOT_FORMAT}") from None
    if found.format != SNAPSHOT_FORMAT:
        raise JournalCorrupt(f"snapshot {number} is of format {found.format}, not {SNAPSHOT_FORMAT}")
    if found.number != number:
        raise JournalCorrupt(f"snapshot {number} says that it is {found.number}")
    return found.state


def _format_of(payload: memoryview) -> str:
    try:
        return str(msgspec.msgpack.decode(_decode_format(payload)[0], type=int))
    except (msgspec.MsgspecError, IndexError):
        return "none that is known"


def _framed(payload: bytes) -> bytes:
    return _HEADER.pack(len(payload), crc32(payload)) + payload


def _payload(data: memoryview, offset: int) -> tuple[memoryview | None, int]:
    """Return the payload of the frame at `offset` and where it ends; None when there is no good one.

    An empty one is none: zeroes, as torn writes leave them, have the checksum of nothing.
    """
    start = offset + _HEADER.size
    if start > len(data):
        return None, offset
    length, checksum = _HEADER.unpack_from(data, offset)
    payload = data[start : start + length]
    if not length or len(payload) != length or crc32(payload) != checksum:
        return None, offset
    return payload, start + length


# --- a state from what was kept -----------------------------------------------------------------------------
def restore(rows: Rows, *, at: int | None = None) -> Restored:
    """Return the state that the last record left, or that record `at` did.

    Raises JournalCorrupt: what was kept does not give it, and says how far it does; all of it stays where it is. Raises
    InvalidRequest (`sequence_gone`): there is nothing kept from which the state at that record could be had.
    """
    notes: list[str] = []
    fold, snapshot = _begun(rows, at, notes)
    replay = _Replay(fold, at)
    try:
        replay.read(rows.journal)
        if at is None:
            _check_reach(rows, replay)
    except _Broken as broken:
        number = replay.number
        raise JournalCorrupt(
            f"{broken}; the state can be read up to record {number}",
            hint=f"fork(at={number}) brings that into a new session; the data is kept as it is",
        ) from None
    if at is not None and replay.number != at:
        raise _gone(rows, at, replay.number)
    repair = replay.repair if at is None else None
    if repair is not None:
        notes.append(repair.why)
    return Restored(fold, fold.number, snapshot, replay.records, tuple(notes), repair, replay.bytes)


def _begun(rows: Rows, at: int | None, notes: list[str]) -> tuple[StateFold, int]:
    """Return the fold to begin with, and the number of its snapshot."""
    for number, data in rows.snapshots:
        if at is not None and number > at:
            continue
        try:
            fold = StateFold(read_snapshot(number, data))
            _ = fold.state  # decoded now: bytes that are no state are found while there is another snapshot
        except (JournalCorrupt, ProtocolBreach) as problem:
            notes.append(f"snapshot {number} cannot be read ({problem}); the one before it was taken")
            continue
        fold.number = number
        return fold, number
    if _began_with_nothing(rows):
        return StateFold(), -1
    if at is not None and not notes:
        raise _gone(rows, at, rows.snapshots[0][0] if rows.snapshots else 0)
    why = "; ".join(notes) or rows.unreadable
    raise JournalCorrupt(f"no snapshot can be read: {why}", hint="the data is kept as it is")


def _began_with_nothing(rows: Rows) -> bool:
    """Whether the state before record 1 was none, and record 1 is here: nothing is dropped while there is one snapshot."""
    if rows.unreadable:
        return False
    if not rows.snapshots:
        return True
    return len(rows.snapshots) == 1 and rows.snapshots[0][0] > 0 and bool(rows.journal) and rows.journal[0][0] == 1


def _check_reach(rows: Rows, replay: _Replay) -> None:
    if rows.unreadable:
        raise _Broken(rows.unreadable)
    newest = max((number for number, _ in rows.snapshots), default=0)
    if replay.number < newest:
        raise _Broken(f"records {replay.number + 1} to {newest} are missing")


def _gone(rows: Rows, at: int, last: int) -> InvalidRequest:
    kept = [number for number, data in rows.snapshots if _is_readable(number, data)]
    first = 0 if _began_with_nothing(rows) else min(kept, default=0)
    if at < first:
        last = max([*kept, *(row[1] for row in rows.journal), 0])
    return InvalidRequest(
        f"the state as record {at} left it is not kept: there are those from {first} to {last}", code="sequence_gone"
    )


def _is_readable(number: int, data: bytes) -> bool:
    try:
        read_snapshot(number, data)
    except JournalCorrupt:
        return False
    return True


class _Broken(Exception):
    """What was kept is not what was written; how far it was good is known by then."""


class _Replay:
    """Folds records in order, up to the end, the first that is not good, or record `at`."""

    def __init__(self, fold: StateFold, at: int | None) -> None:
        self.repair: Repair | None = None
        self.number = fold.number
        self.records = 0
        self.bytes = 0
        self._fold = fold
        self._at = at

    def read(self, journal: tuple[tuple[int, int, bytes], ...]) -> None:
        """Fold every record after the state; rows of which all are older are not looked at. Raises _Broken."""
        needed = [place for place, row in enumerate(journal) if row[1] > self.number]
        for place in needed:
            if self.number == self._at:
                return
            first = journal[place][0]
            if first > self.number + 1:
                raise _Broken(f"records {self.number + 1} to {first - 1} are missing")
            if first <= self.number and place != needed[0]:
                raise _Broken(f"record {first} is there twice")
            damaged = self._read_row(*journal[place])
            if damaged is None:
                continue
            number, offset = damaged
            first, last, data = journal[place]
            if place != len(journal) - 1 or _has_record(memoryview(data)[offset:], number + 1, last):
                raise _Broken(f"record {number} does not have its checksum")
            self.repair = _repair(journal, number, offset)

    def _read_row(self, first: int, last: int, data: bytes) -> tuple[int, int] | None:
        """Fold a row. Returns number and offset of the first record that is torn."""
        view = memoryview(data)
        offset = 0
        for number in range(first, last + 1):
            if self.number == self._at:
                return None
            payload, end = _payload(view, offset)
            if payload is None:
                return number, offset
            self._fold_record(number, payload)
            offset = end
        if offset != len(view):
            raise _Broken(f"there is more after record {last} than was written")
        return None

    def _fold_record(self, number: int, payload: memoryview) -> None:
        try:
            record = _decode_record(payload)
        except msgspec.MsgspecError:
            raise _Broken(f"record {number} is none") from None
        if record.number != number:
            raise _Broken(f"in place of record {number} there is {record.number}")
        if number <= self.number:
            return
        try:
            self._fold.commit(record.ops)
            self._fold.settle()
        except ProtocolBreach as breach:
            raise _Broken(f"record {number} does not apply: {breach.reason}") from None
        self.number = number
        self.records += 1
        self.bytes += _HEADER.size + len(payload)


def _repair(journal: tuple[tuple[int, int, bytes], ...], number: int, offset: int) -> Repair:
    *rows, (first, last, data) = journal
    if number > first:
        rows.append((first, number - 1, data[:offset]))
    lost = f"record {number}" if number == last else f"records {number} to {last}"
    return Repair(
        tuple(rows), data[offset:], f"{lost} torn at the end of the journal; {len(data) - offset} bytes kept aside"
    )


def _has_record(rest: memoryview, first: int, last: int) -> bool:
    """Whether a good record with one of these numbers stands somewhere in `rest`: then what is before it is no torn end.

    What takes too long to look through counts as one: on the safe side.
    """
    data = bytes(rest)
    budget = _SEARCH_SHARE * len(data)
    start = data.find(_RECORD_START, _HEADER.size)
    while start >= 0 and first <= last:
        length, checksum = _HEADER.unpack_from(data, start - _HEADER.size)
        if 0 < length <= len(data) - start:
            budget -= length
            if budget < 0 or (
                crc32(rest[start : start + length]) == checksum and _is_of(rest, start, length, first, last)
            ):
                return True
        start = data.find(_RECORD_START, start + 1)
    return False


def _is_of(rest: memoryview, start: int, length: int, first: int, last: int) -> bool:
    try:
        return first <= _decode_record(rest[start : start + length]).number <= last
    except msgspec.MsgspecError:
        return False
