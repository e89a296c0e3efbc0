"""A backend of a few lines for the faces: it answers by rule, or when the test says so. No processes.

The real ones are tested by the same suite in tests/process/test_faces.py; this one forces what they only do by chance: an
outcome from another thread, before `submit` returns, after a cancel, or never.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from procession.ipc.core.backend import Done, Outcome, Request, Response
from procession.ipc.core.errors import CallCancelled, ProcessionError

encode = msgspec.msgpack.Encoder().encode


@dataclass(eq=False)
class FakeTicket:
    """A call that the test answers."""

    request: Request
    done: Done
    call_id: str
    cancelled: int = 0
    on_cancel: Callable[["FakeTicket"], None] | None = None

    def cancel(self) -> None:
        self.cancelled += 1
        if self.on_cancel is not None:
            self.on_cancel(self)

    def answer(self, body: msgspec.Struct, payload: bytes | None = None) -> None:
        """Succeed."""
        self.done(Response(encode(body), payload, self.call_id))


@dataclass(eq=False)
class FakeBackend:
    """rule: answers a request at once; without one, calls stay open in `open` until the test answers them."""

    rule: Callable[[Request], Outcome] | None = None
    requests: list[Request] = field(default_factory=list)
    open: list[FakeTicket] = field(default_factory=list)
    on_cancel: Callable[[FakeTicket], None] | None = None
    closed: bool = False
    data_dir: Path = Path("/data")

    def call(self, request: Request) -> Response:
        self.requests.append(request)
        assert self.rule is not None
        outcome = self.rule(request)
        if isinstance(outcome, ProcessionError):
            raise outcome
        return outcome

    def submit(self, request: Request, done: Done) -> FakeTicket:
        self.requests.append(request)
        ticket = FakeTicket(request, done, f"c{len(self.requests)}", on_cancel=self.on_cancel)
        if self.rule is not None:
            done(self.rule(request))
        else:
            self.open.append(ticket)
        return ticket

    def close(self) -> None:
        self.closed = True


def confirm_cancel(ticket: FakeTicket) -> None:
    """Answer a cancel as a session does."""
    ticket.done(CallCancelled("cancelled while it ran", code="cancelled_in_session", ran="maybe"))
