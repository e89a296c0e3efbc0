"""What a host keeps of a session besides its state: who it is, how it is started, and what became of it.

Plain data, decoded strictly; a field that a newer host added is not an error to an older one. Pure.
"""

from __future__ import annotations

from typing import Final

import msgspec

from procession.ipc.core.agent_records import FinishedStatus
from procession.ipc.core.errors import JournalCorrupt
from procession.ipc.core.operations import StartBody
from procession.ipc.core.records import OutputChunk, RunReport

TAIL_BYTES_MAX: Final = 16 * 1024
"""Of what its runs printed last, kept with it."""


class SessionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """See the module's text.

    phase: in which it came to rest, or `ready` while it is up: a host that finds that was not closed. was_up: it had a
    process when its host was closed. incarnation: of its last process. number: of its last change when this was written, for
    people; the journal knows. output: the last that its runs printed. tier, consented: what calls that a model chose may use.
    has_jobs: its agent has cron jobs, so that it is not left asleep. finished: how its agent said that it finished, with its
    answer, encoded.
    """

    id: str
    name: str
    created_at: float
    spec: StartBody
    phase: str = "new"
    was_up: bool = False
    reason: str = ""
    incarnation: int = 0
    restarts: int = 0
    number: int = 0
    last_report: RunReport | None = None
    output: tuple[OutputChunk, ...] = ()
    tier: str = ""
    consented: tuple[str, ...] = ()
    has_jobs: bool = False
    finished: tuple[FinishedStatus, bytes] | None = None


_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(SessionRecord).decode


def encode_session(record: SessionRecord) -> bytes:
    """Return a record as bytes."""
    return _encode(record)


def decode_session(session: str, data: bytes) -> SessionRecord:
    """Read a record. Raises JournalCorrupt for what is none, or is another session's."""
    try:
        record = _decode(data)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as problem:
        raise JournalCorrupt(f"the record of session {session} cannot be read: {str(problem)[:200]}") from None
    if record.id != session:
        raise JournalCorrupt(f"the record of session {session} is that of {record.id[:80]}")
    return record


def tail_of(chunks: tuple[OutputChunk, ...]) -> tuple[OutputChunk, ...]:
    """Return the last chunks that fit."""
    kept: list[OutputChunk] = []
    left = TAIL_BYTES_MAX
    for chunk in reversed(chunks):
        left -= len(chunk.data)
        if left < 0:
            break
        kept.append(chunk)
    return tuple(reversed(kept))
