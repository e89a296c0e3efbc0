"""How calls ended whose callers gave them ids: a retry is answered from here, and never run again.

Pure; its owner locks. It is *not* the ledger, which only knows words, and not what is on disk (host/storage/). Rules: an answer
that says `ran: no` is not kept, nor one that says that its change was not, for the work may be asked for again; of an answer
that is too large it is only kept that it was given. Bounded by number, age and bytes: the oldest go first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec

from procession.host.core.journal_entries import Outcome
from procession.ipc.core.bounds import OUTCOME_KEPT_S, OUTCOMES_KEPT, KiB, MiB
from procession.ipc.core.errors import (
    ErrorData,
    InvalidRequest,
    OutcomeUnknown,
    ProcessionError,
    from_data,
    to_data,
)
from procession.ipc.core.messages import EMPTY, Inline, Reply, encode

PAYLOAD_KEPT_BYTES_MAX: Final = 1 * MiB
"""Of one answer. A larger one is kept as the bare fact that it was given."""
BOOK_BYTES_MAX: Final = 16 * MiB
"""Of all answers of one session in memory; on disk they are bounded by number and age."""
_ENTRY_BYTES: Final = KiB // 2
_read_error = msgspec.msgpack.Decoder(ErrorData).decode


class OutcomeBook:
    """See the module's text."""

    __slots__ = ("_bytes", "_kept")

    def __init__(self) -> None:
        self._kept: dict[str, Outcome] = {}
        self._bytes = 0

    def __len__(self) -> int:
        return len(self._kept)

    def keep(self, outcome: Outcome) -> None:
        """Keep an outcome, in place of an earlier one of that id."""
        old = self._kept.pop(outcome.call_id, None)
        if old is not None:
            self._bytes -= _size(old)
        self._kept[outcome.call_id] = outcome
        self._bytes += _size(outcome)
        while len(self._kept) > OUTCOMES_KEPT or (self._bytes > BOOK_BYTES_MAX and len(self._kept) > 1):
            self._bytes -= _size(self._kept.pop(next(iter(self._kept))))

    def find(self, call_id: str, now: float) -> Outcome | None:
        """Return the outcome of a call, while it is kept. now: seconds since the epoch."""
        found = self._kept.get(call_id)
        return None if found is None or now - found.at > OUTCOME_KEPT_S else found


def of_reply(call_id: str, op: str, at: float, reply: Reply, payload: bytes | None, *, applied: int = 0) -> Outcome:
    """Make the outcome of a call that was answered."""
    too_large = payload is not None and len(payload) > PAYLOAD_KEPT_BYTES_MAX
    return Outcome(call_id, op, at, bytes(reply.body), None if too_large else payload, b"", applied, too_large)


def of_error(call_id: str, op: str, at: float, error: ProcessionError) -> Outcome | None:
    """Make the outcome of a call that failed; None when it did not run, or came to nothing, and may be asked for again."""
    if error.ran == "no" or error.applied is False:
        return None
    return Outcome(call_id, op, at, error=encode(to_data(error)))


def told(outcome: Outcome, op: str, session: str) -> Reply | ProcessionError:
    """Return what a call with this outcome is answered, when it comes again as `op`."""
    if outcome.op != op:
        return InvalidRequest(
            f"the call id {outcome.call_id!r} was used for {outcome.op}, and this is {op}",
            code="call_id_reused",
            session=session,
            call_id=outcome.call_id,
            hint="give each call an id of its own; the same id means the same call, made again",
        )
    if outcome.error:
        return from_data(_read_error(outcome.error))
    if outcome.too_large:
        return OutcomeUnknown(
            f"{op} was answered, and its answer was too large to be kept for a retry",
            code="outcome_not_kept",
            ran="yes",
            session=session,
            call_id=outcome.call_id,
        )
    payload = None if outcome.payload is None else Inline(outcome.payload)
    return Reply(0, 0, msgspec.Raw(outcome.body) if outcome.body else EMPTY, payload)


def _size(outcome: Outcome) -> int:
    return _ENTRY_BYTES + len(outcome.body) + len(outcome.payload or b"") + len(outcome.error)


Lookup = Callable[[str], Outcome | None]
"""Finds the outcome of a call that a former host kept."""
