"""How a call is shown in a listing, open or over. Values only."""

from __future__ import annotations

from typing import Final

from procession.host.core.call_ledger import Entry, Past, State
from procession.ipc.core.records import CallInfo

#: What a listing calls a state.
_SHOWN: Final[dict[State, str]] = {
    "waiting": "queued",
    "queued": "queued",
    "sent": "sent",
    "started": "running",
    "answered": "running",
    "joined": "queued",
    "closed": "over",
}


def call_info(call: Entry, now: float) -> CallInfo:
    """Describe an open call."""
    return CallInfo(
        id=call.call_id,
        seq=call.seq,
        op=call.op,
        state=_SHOWN[call.state],
        incarnation=call.inc,
        age_s=round(now - call.opened_at, 6),
        timeout_s=call.timeout_s,
        outcome="",
    )


def past_info(past: Past, now: float) -> CallInfo:
    """Describe a call that is over."""
    seq, given_id, op, incarnation, opened_at, timeout_s, how = past
    return CallInfo(
        id=given_id or f"c{seq}",
        seq=seq,
        op=op,
        state="over",
        incarnation=incarnation,
        age_s=round(now - opened_at, 6),
        timeout_s=timeout_s,
        outcome=how,
    )
