"""The one table of operations: every verb of a session and of the host, with its types, lane and default timeout.

The faces (sync, async, remote, CLI) are one typed line each over this table, and a test holds them to it. `target` says who
answers: the session process (through its mailbox) or the host itself. Bodies are msgspec Structs; `payload` is opaque bytes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from procession.ipc.core.bounds import QUERY_TIMEOUT_S, RUN_TIMEOUT_S, STOP_GRACE_S
from procession.ipc.core.limits import Limits
from procession.ipc.core.records import (
    CallInfo,
    Event,
    KillReceipt,
    OutputChunk,
    ProcessInfo,
    RunReport,
    SessionStatus,
    Statistics,
    Transition,
)


class Body(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the request and result bodies."""


class Nothing(Body, frozen=True, kw_only=True):
    """No parameters, or no result."""


# --- answered by the session process ------------------------------------------------------------------------
class RunBody(Body, frozen=True, kw_only=True):
    """payload in: the pickled (function, args, kwargs). payload out: the encoded value. lossy: records become data."""

    label: str = ""
    limits: Limits = Limits()
    lossy: bool = False


class RunDone(Body, frozen=True, kw_only=True):
    report: RunReport


class ExecBody(Body, frozen=True, kw_only=True):
    """argv, or one string for `sh -c`. payload in: bytes for standard input.

    argv_bytes, cwd_bytes: the same where something in it is not UTF-8; argv and cwd are then only for reading.

    lossless: stream every byte; a caller that takes them slowly slows the command down instead of losing any.
    """

    argv: tuple[str, ...]
    shell: bool = False
    cwd: str | None = None
    env: dict[str, str] | None = None
    limits: Limits = Limits()
    lossless: bool = False
    argv_bytes: tuple[bytes, ...] = ()
    cwd_bytes: bytes = b""


class ExecDone(Body, frozen=True, kw_only=True):
    """payload out: msgpack array of stdout and stderr bytes (each the last part that fits its ring)."""

    exit_code: int
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    report: RunReport = RunReport()


class CodeBody(Body, frozen=True, kw_only=True):
    code: str
    limits: Limits = Limits()


class CodeDone(Body, frozen=True, kw_only=True):
    """payload out: an encoded CodeResult."""

    report: RunReport = RunReport()


class ProcessBody(Body, frozen=True, kw_only=True):
    process: str


class ProcessSignalBody(Body, frozen=True, kw_only=True):
    """how: interrupt (SIGINT to the command), terminate (SIGTERM, grace, SIGKILL to its tree), kill (SIGKILL to its tree)."""

    process: str
    how: Literal["interrupt", "terminate", "kill"]


class ProcessWriteBody(Body, frozen=True, kw_only=True):
    """payload in: bytes for the command's standard input; close: end of input after them."""

    process: str
    close: bool = False


class ProcessList(Body, frozen=True, kw_only=True):
    processes: tuple[ProcessInfo, ...] = ()


class ModuleList(Body, frozen=True, kw_only=True):
    modules: tuple[str, ...]


# --- answered by the host -----------------------------------------------------------------------------------
class StartBody(Body, frozen=True, kw_only=True):
    """A child spec. id and name are chosen when empty; project None gives a private folder."""

    project: str | None = None
    name: str = ""
    id: str = ""
    sandbox: str = "off"
    limits: Limits = Limits()
    restart: Literal["permanent", "transient", "temporary"] = "transient"
    exclusive: bool = True
    import_paths: tuple[str, ...] = ()
    preload: tuple[str, ...] = ()
    parallel_runs: int = 16
    existing: bool = False
    temporary: bool = False


class SessionRef(Body, frozen=True, kw_only=True):
    id: str
    name: str
    project: str | None = None


class ListBody(Body, frozen=True, kw_only=True):
    all: bool = False


class SessionList(Body, frozen=True, kw_only=True):
    sessions: tuple[SessionStatus, ...] = ()


class StopBody(Body, frozen=True, kw_only=True):
    grace_s: float = STOP_GRACE_S


class FollowBody(Body, frozen=True, kw_only=True):
    """since: a number after which to begin (events). follow: go on until cancelled."""

    since: int | None = None
    follow: bool = False
    call: int | None = None


class EventList(Body, frozen=True, kw_only=True):
    events: tuple[Event, ...] = ()


class ChunkList(Body, frozen=True, kw_only=True):
    chunks: tuple[OutputChunk, ...] = ()
    dropped: int = 0


class CallList(Body, frozen=True, kw_only=True):
    calls: tuple[CallInfo, ...] = ()


class CancelBody(Body, frozen=True, kw_only=True):
    call: str


class CancelDone(Body, frozen=True, kw_only=True):
    """verdict: not_sent, cancelling (the call's own outcome says the rest), too_late or unknown_call."""

    verdict: str


class ReportDone(Body, frozen=True, kw_only=True):
    report: RunReport | None = None


class StoryDone(Body, frozen=True, kw_only=True):
    """How a session came to be as it is: its status, its last steps, its last end, and what was printed before that."""

    status: SessionStatus
    story: tuple[Transition, ...] = ()
    report: RunReport | None = None
    output_tail: str = ""


Target = Literal["session", "host"]
#: `control` overtakes everything, `query` is answered by the loop at once, `run` is guarded by a worker's deadline.
Lane = Literal["control", "query", "run", "host"]


class Operation(NamedTuple):
    """One row of the table. timeout_s: the default; None only for what streams until it is cancelled."""

    name: str
    target: Target
    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    lane: Lane
    timeout_s: float | None
    streams: bool = False


_QUICK: Final = QUERY_TIMEOUT_S
_LONG: Final = RUN_TIMEOUT_S

_ROWS: Final = (
    Operation("ping", "session", Nothing, Nothing, "control", _QUICK),
    Operation("echo", "session", Nothing, Nothing, "query", _QUICK),
    Operation("modules", "session", Nothing, ModuleList, "query", _QUICK),
    Operation("run", "session", RunBody, RunDone, "run", _LONG, True),
    Operation("exec", "session", ExecBody, ExecDone, "run", _LONG, True),
    Operation("run_code", "session", CodeBody, CodeDone, "run", _LONG, True),
    Operation("start", "session", ExecBody, ProcessInfo, "query", _QUICK, True),
    Operation("interrupt", "session", Nothing, Nothing, "control", _QUICK),
    Operation("processes", "session", Nothing, ProcessList, "query", _QUICK),
    Operation("process_wait", "session", ProcessBody, ProcessInfo, "run", _LONG),
    Operation("process_signal", "session", ProcessSignalBody, ProcessInfo, "query", _QUICK),
    Operation("process_write", "session", ProcessWriteBody, Nothing, "query", _QUICK),
    Operation("start_session", "host", StartBody, SessionRef, "host", _LONG),
    Operation("find_session", "host", Nothing, SessionRef, "host", _QUICK),
    Operation("list_sessions", "host", ListBody, SessionList, "host", _QUICK),
    Operation("resume_session", "host", Nothing, SessionRef, "host", _LONG),
    Operation("remove_session", "host", Nothing, Nothing, "host", _LONG),
    Operation("stop_session", "host", StopBody, KillReceipt, "host", _LONG),
    Operation("kill_session", "host", Nothing, KillReceipt, "host", _LONG),
    Operation("restart_session", "host", Nothing, SessionRef, "host", _LONG),
    Operation("status", "host", Nothing, SessionStatus, "host", _QUICK),
    Operation("story", "host", Nothing, StoryDone, "host", _QUICK),
    Operation("last_report", "host", Nothing, ReportDone, "host", _QUICK),
    Operation("calls", "host", Nothing, CallList, "host", _QUICK),
    Operation("cancel", "host", CancelBody, CancelDone, "host", _QUICK),
    Operation("logs", "host", FollowBody, ChunkList, "host", _QUICK, True),
    Operation("events", "host", FollowBody, EventList, "host", _QUICK, True),
    Operation("statistics", "host", Nothing, Statistics, "host", _QUICK),
    Operation("shutdown", "host", StopBody, Nothing, "host", _LONG),
)

#: name -> operation
OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}


def is_work(op: Operation, body: msgspec.Struct) -> bool:
    """Say whether a call is work, which takes as long as it takes, and not a look or an order that a flood must not keep out."""
    if op.target == "session":
        return op.lane != "control"
    return op.name == "start_session" or (isinstance(body, FollowBody) and body.follow)
