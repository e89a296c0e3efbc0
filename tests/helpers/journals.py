"""Small journals for tests: records whose states are known, put into rows as groups would, with snapshots anywhere.

Values only; nothing here is random by itself. Rule: `states[n]` is the state that record n left, `states[0]` the first one.
"""

import random
from collections.abc import Sequence
from dataclasses import dataclass

from procession.host.core.journal import encode_record, encode_snapshot
from procession.host.core.journal_entries import Append, Record, Rows
from procession.ipc.core.state_ops import AnyOp, AppendItems, DeleteKeys, PutEntry, SetPath, State, apply, encode_ops
from procession.ipc.core.values import encode_value

SESSION = "s-1"
FIRST_STATE: State = {"n": 0, "messages": []}


@dataclass(frozen=True)
class Sample:
    """Records 1 to n of a session, framed, and the state after each of them."""

    frames: tuple[bytes, ...]
    states: tuple[State, ...]

    @property
    def last(self) -> int:
        return len(self.frames)

    def snapshot(self, number: int) -> tuple[int, bytes]:
        """Return the snapshot at `number`."""
        return number, encode_snapshot(number, encode_value(dict(self.states[number]), path="state"))

    def row(self, first: int, last: int) -> tuple[int, int, bytes]:
        """Return records first to last as one row."""
        return first, last, b"".join(self.frames[first - 1 : last])

    def rows(self, ends: Sequence[int], first: int = 1) -> tuple[tuple[int, int, bytes], ...]:
        """Return rows that end at these numbers."""
        starts = [first, *(end + 1 for end in ends)]
        return tuple(self.row(start, end) for start, end in zip(starts, ends, strict=False))

    def kept(self, *snapshots: int, every: int = 8) -> Rows:
        """Return all records in rows of `every`, with these snapshots."""
        ends = [*range(every, self.last, every), self.last]
        newest_first = sorted(snapshots, reverse=True)
        return Rows(tuple(self.snapshot(number) for number in newest_first), self.rows(ends))

    def append(self, number: int, session: str = SESSION) -> Append:
        """Return what writes record `number`."""
        return Append(session, number, self.frames[number - 1])


def sample(count: int, rng: random.Random | None = None) -> Sample:
    """Make a journal of `count` records: a counter each, or with chance any ops."""
    states: list[State] = [FIRST_STATE]
    frames = []
    for number in range(1, count + 1):
        ops = [SetPath(("n",), number)] if rng is None else _ops(number, rng)
        encoded = encode_ops(ops)
        states.append(apply(states[-1], ops))
        frames.append(encode_record(Record(number, 1, number, 1.0 * number, encoded, f"c{number}")))
    return Sample(tuple(frames), tuple(states))


def _ops(number: int, rng: random.Random) -> list[AnyOp]:
    every: list[AnyOp] = [
        SetPath(("n",), number),
        AppendItems(("messages",), ({"id": number, "text": "é" * rng.randrange(40)},), keep_last=20),
        PutEntry(("seen",), f"k{number % 7}", number, keep_last=5),
        SetPath(("deep", "er"), bytes(rng.randrange(30))),
        DeleteKeys(("deep",)),
    ]
    return rng.sample(every, rng.randint(1, 3))
