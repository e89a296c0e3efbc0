"""One call of a session, as the host holds it from the moment it is accepted to its one outcome."""

from __future__ import annotations

from typing import Final, Literal

from procession.ipc.core.backend import Done, Request, Response
from procession.ipc.core.bounds import (
    INTERPRETER_INT_GRACE_S,
    PROOF_TIMEOUT_S,
    SESSION_OVERRUN_GRACE_S,
    WORKER_TERM_GRACE_S,
)
from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.messages import Reply
from procession.ipc.transport.channel import Waiter

#: A run's deadline is the session's to keep; the host steps in this long after it, when every step of the session's own
#: ladder (interrupt, SIGTERM, SIGKILL, proof) has had its time.
RUN_SLACK_S: Final = INTERPRETER_INT_GRACE_S + WORKER_TERM_GRACE_S + PROOF_TIMEOUT_S + SESSION_OVERRUN_GRACE_S
#: A run that the session has not begun this long after its deadline will not be begun: the session is stopped or stuck.
UNSTARTED_SLACK_S: Final = 0.25

CallState = Literal["queued", "sent", "over"]


class HostCall(Waiter):
    """See the module's text. Deadlines are monotonic seconds; `outcome` is what came, still encoded, or an error."""

    __slots__ = ("cancelled", "deadline", "done", "due", "incarnation", "opened_at", "overdue", "region", "request", "seq",
                 "size", "state")

    def __init__(self, request: Request, done: Done | None, now: float) -> None:
        super().__init__()
        self.outcome: Reply | Response | ProcessionError | None = None
        self.request = request
        self.done = done
        self.seq = 0
        self.incarnation = 0
        self.opened_at = now
        self.state: CallState = "queued"
        self.cancelled = False
        self.overdue = False  # its session is being ended because of it
        self.region: int | None = None  # where its payload lies in the arena
        self.size = len(request.payload) if request.payload else 0
        timeout_s = request.timeout_s
        self.deadline = now + timeout_s if timeout_s is not None else float("inf")
        self.due = self.deadline
        """When the host looks at it next: its deadline, later the end of the session's own time to keep it."""

    @property
    def call_id(self) -> str:
        return self.request.call_id or f"c{self.seq}"
