"""One call of a session, as the host holds it from the moment it is accepted to its one outcome."""

from __future__ import annotations

import threading
from collections import deque
from typing import Any, Final

from procession.host.core.call_ledger import Entry
from procession.host.core.journal_entries import Outcome
from procession.ipc.core.backend import Done, Request
from procession.ipc.core.bounds import (
    INLINE_BYTES_MAX,
    INTERPRETER_INT_GRACE_S,
    PROOF_TIMEOUT_S,
    SESSION_OVERRUN_GRACE_S,
    WORKER_TERM_GRACE_S,
)
from procession.ipc.core.operations import SignalBody
from procession.ipc.transport.telling import Telling

#: A run's deadline is the session's to keep; the host steps in this long after it, when every step of the session's own
#: ladder (interrupt, SIGTERM, SIGKILL, proof) has had its time.
RUN_SLACK_S: Final = INTERPRETER_INT_GRACE_S + WORKER_TERM_GRACE_S + PROOF_TIMEOUT_S + SESSION_OVERRUN_GRACE_S
#: A run that the session has not begun this long after its deadline will not be begun: the session is stopped or stuck.
UNSTARTED_SLACK_S: Final = 0.25


class HostCall(Entry):
    """See the module's text. It is its own waiter (channel.py): `outcome` is what came, still encoded, or an error.

    size: what it takes of the mailbox; a payload that lies in the arena is not in there. repeats: how often it may still be
    begun again after the death of a process that had begun it: a cast once, a call never. telling: of one that nobody waits
    for, from its first item on: its outcome is told after them. twins: the same call, made again while it is open; is_twin:
    it is one. kept: its outcome as it is kept, once it is. changed: a change of state that it led to has come, and is
    kept; None: that is not known yet.
    """

    __slots__ = (
        "body",
        "changed",
        "done",
        "gate",
        "is_twin",
        "items",
        "kept",
        "outcome",
        "overdue",
        "region",
        "repeats",
        "request",
        "telling",
        "twins",
    )

    def __init__(self, request: Request, body: bytes, done: Done | None, now: float) -> None:
        op, payload = request.op, request.payload
        size = len(body)
        if payload is not None and len(payload) <= INLINE_BYTES_MAX:
            size += len(payload)
        Entry.__init__(self, op.name, op.lane, now, request.timeout_s, size, request.call_id)
        self.request = request
        self.repeats = 1 if type(request.body) is SignalBody and not request.body.wait else 0
        self.body = body
        self.done = done
        self.outcome: Any = None
        self.items: deque[Any] | None = None
        self.gate: threading.Lock | None = None
        self.overdue = False  # its session is being ended because of it
        self.telling: Telling | None = None
        self.region: int | None = None  # where its payload lies in the arena
        self.twins: list[HostCall] | None = None
        self.is_twin = False
        self.kept: Outcome | None = None
        self.changed: bool | None = False
