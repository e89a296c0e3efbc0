"""One call of a client, from the moment it is made to its one outcome; and the errors a lost host ends it with.

Values only; remote.py sends and waits.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

from procession.ipc.core.backend import Done, Outcome, Request
from procession.ipc.core.errors import CallTimedOut, HostLost
from procession.ipc.core.item_ring import ItemRing
from procession.ipc.transport.channel import Waiter
from procession.ipc.transport.telling import Telling

if TYPE_CHECKING:
    from procession.api.remote import RemoteBackend
    from procession.ipc.transport.reactor import Timer

#: The host keeps a call's deadline; the client steps in this long after it, when every ladder of the host has had its time.
DEADLINE_SLACK_S: Final = 5.0


class RemoteCall(Waiter):
    """See the module's text; it is its own ticket. `deadline` is monotonic seconds, for ever when it has none.

    telling: of one that nobody waits for, from its first item on: its outcome is told after them.
    """

    __slots__ = ("_backend", "deadline", "done", "over", "request", "ring", "sent", "seq", "telling", "timer")

    def __init__(self, backend: RemoteBackend, request: Request, done: Done | None, now: float) -> None:
        super().__init__()
        self._backend = backend
        self.outcome: Outcome | None = None
        self.request = request
        self.done = done
        self.seq = 0
        self.sent = False
        self.over = False
        self.timer: Timer | None = None
        self.telling: Telling | None = None
        self.ring: ItemRing | None = ItemRing() if done is None and request.on_item is not None else None
        self.items = self.ring  # type: ignore[assignment]  # the channel only asks whether it is empty
        timeout_s = request.timeout_s
        self.deadline = now + timeout_s + DEADLINE_SLACK_S if timeout_s is not None else float("inf")

    @property
    def call_id(self) -> str:
        return self.request.call_id or f"r{self.seq}"

    def cancel(self) -> None:
        self._backend.cancel(self)

    def __repr__(self) -> str:
        state = "over" if self.over else "sent" if self.sent else "queued"
        return f"<RemoteCall {self.request.op.name} {self.call_id} {state}>"


def no_host(data_dir: Path) -> HostLost:
    """Say that nobody serves this folder."""
    return HostLost(
        f"no host is running for {data_dir}", code="no_host", ran="no", hint="start one with `procession up -d`"
    )


def host_gone(host_pid: int, code: str = "", *, sent: bool) -> HostLost:
    """Say that the host went away under a call, or before it."""
    return HostLost(
        f"the host (pid {host_pid}) ended or closed the connection", code=code, ran="maybe" if sent else "no"
    )


def no_answer(call: RemoteCall) -> CallTimedOut:
    """Say that the host itself kept silent past the deadline it was given."""
    timeout_s = call.request.timeout_s or 0.0
    return CallTimedOut(
        f"{call.request.op.name}: the host did not answer within {timeout_s:g} s and {DEADLINE_SLACK_S:g} s more",
        call_id=call.call_id,
        hint="the host process may be stopped or stuck",
    )
