"""What every face stands on: one request, one response, and the two ways to make one out of the other.

The host's engine and the control-socket client both are a `Backend`, so the sync, async, remote and CLI faces are written
once. Types only; nothing here does anything.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from procession.ipc.core.errors import ProcessionError
from procession.ipc.core.operations import Operation
from procession.ipc.core.records import Event, OutputChunk, SentSignal

Item = OutputChunk | Event | SentSignal


@dataclass(slots=True)
class Request:
    """One call of an operation.

    session: id or name, "" for the host's own operations. timeout_s: seconds, already validated. wait: queue when the
    mailbox is full instead of MailboxFull. fail_fast: SessionRestarting at once instead of waiting for the next
    incarnation. on_item: receives what the operation streams (output, events, signals); it is called in the waiting thread by
    `call` and in the backend's own thread by `submit`, and must not block there. chain: ids of the sessions whose work waits
    for this call (call_chain.py). wakes: start a process for it; else it waits until something else does. call_id: what its
    caller calls it: made again with the same one, it is answered as it was, and not run again. durability: of the change that
    it leads to, if it is not to be the session's own.
    """

    op: Operation
    session: str
    body: msgspec.Struct
    payload: bytes | None = None
    timeout_s: float | None = None
    on_item: Callable[[Item], None] | None = None
    wait: bool = False
    fail_fast: bool = False
    chain: tuple[str, ...] = ()
    wakes: bool = True
    call_id: str = ""
    durability: str = ""


@dataclass(slots=True)
class Response:
    """The still encoded result: `body` decodes as the operation's result type, `payload` is its bytes."""

    body: msgspec.Raw | bytes
    payload: bytes | None = None
    call_id: str = ""


Outcome = Response | ProcessionError
Done = Callable[[Outcome], None]


class Ticket(Protocol):
    """A call under way."""

    @property
    def call_id(self) -> str: ...

    def cancel(self) -> None:
        """Ask for the call to be stopped; its outcome still comes, once."""


class Backend(Protocol):
    """Where requests go. data_dir: the host's folder, in which private folders of sessions are made."""

    @property
    def data_dir(self) -> Path: ...

    def call(self, request: Request) -> Response:
        """Make the call and wait for its outcome; raises the ProcessionError it ended with.

        On KeyboardInterrupt the work is cancelled, its end awaited (bounded), and the interrupt raised on with a note.
        """

    def submit(self, request: Request, done: Done) -> Ticket:
        """Start the call; `done` is called exactly once, from any thread, also when it is refused at once."""

    def close(self) -> None:
        """Let go. For an engine: end everything it runs. For a client: end the connection only."""
