"""What a host keeps on disk, as values: records of a session's journal, and the other things that are written beside them.

Plain frozen data, decoded strictly. How records become bytes and a state again is journal.py's; where they are kept is
host/storage/. A session's records are numbered from 1, without a gap, over all its incarnations and all hosts that had it.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import msgspec

CastStatus = Literal["taken", "aside"]
"""taken: in the mailbox, until it was handled. aside: it was running at two deaths, and waits for somebody to decide."""


class Record(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """One acknowledged change of a session's state.

    number: of this record. inc, seq: the incarnation and the number of the call that led to it, 0 for none. at: seconds since
    the epoch. ops: encoded state ops. call_id: what its caller called it, empty for none.
    """

    number: int
    inc: int
    seq: int
    at: float
    ops: bytes
    call_id: str = ""


class Outcome(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """How a call ended whose caller gave it an id: asked again, it is answered with this.

    op: the operation. body, payload: of the response, encoded. error: an encoded ErrorData, empty for a response. applied:
    the number of the record with its changes, 0 for none. too_large: it was, so that only this is known of it.
    """

    call_id: str
    op: str
    at: float
    body: bytes = b""
    payload: bytes | None = None
    error: bytes = b""
    applied: int = 0
    too_large: bool = False


class Cast(msgspec.Struct, array_like=True, frozen=True, forbid_unknown_fields=True, gc=False):
    """A signal that was taken in and has not been handled to its end. order: they are given to the session in this order.

    deaths: how many processes ended while they had it. code, text: why it was set aside.
    """

    id: str
    order: int
    at: float
    type: str
    signal: bytes
    status: CastStatus = "taken"
    deaths: int = 0
    code: str = ""
    text: str = ""


# --- what is written ----------------------------------------------------------------------------------------
class Append(msgspec.Struct, frozen=True, gc=False):
    """A record, framed by journal.frame()."""

    session: str
    number: int
    data: bytes


class PutSnapshot(msgspec.Struct, frozen=True, gc=False):
    """The state as record `number` left it, framed. Older ones than the one before it go, and what only they needed."""

    session: str
    number: int
    data: bytes


class PutSession(msgspec.Struct, frozen=True, gc=False):
    """What the host knows of a session besides its state: replaces what was there."""

    session: str
    data: bytes


class DeleteSession(msgspec.Struct, frozen=True, gc=False):
    """Everything of a session goes."""

    session: str


class PutOutcome(msgspec.Struct, frozen=True, gc=False):
    """An Outcome, encoded. Those over the bounds (age, number) go with it."""

    session: str
    call_id: str
    at: float
    data: bytes


class PutCast(msgspec.Struct, frozen=True, gc=False):
    """A Cast, encoded: replaces the one with this id."""

    session: str
    cast: str
    order: int
    data: bytes


class DeleteCast(msgspec.Struct, frozen=True, gc=False):
    """It was handled, or dropped."""

    session: str
    cast: str


class PutNote(msgspec.Struct, frozen=True, gc=False):
    """Something of the host's own, by name."""

    key: str
    data: bytes


Item = Append | PutSnapshot | PutSession | DeleteSession | PutOutcome | PutCast | DeleteCast | PutNote


# --- what is read -------------------------------------------------------------------------------------------
class Rows(NamedTuple):
    """What is kept of one session's state. snapshots: (number, framed bytes), the newest first, at most two.

    journal: (first number, last number, framed records one after the other), oldest first; rows go back to the oldest snapshot
    at least, or to record 1. unreadable: what the storage itself could not read of it, in words; empty as a rule.
    """

    snapshots: tuple[tuple[int, bytes], ...]
    journal: tuple[tuple[int, int, bytes], ...]
    unreadable: str = ""
