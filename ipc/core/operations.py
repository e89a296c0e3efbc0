"""The one table of operations: every verb of a session and of the host, with its types, lane and default timeout.

The faces (sync, async, remote, CLI) are one typed line each over this table, and a test holds them to it. `target` says who
answers: the session process (through its mailbox) or the host itself. Bodies are msgspec Structs; `payload` is opaque bytes.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

import msgspec

from procession.ipc.core.agent_records import AgentStatus, FinishedStatus
from procession.ipc.core.bounds import (
    AWAIT_TIMEOUT_S,
    COPY_TIMEOUT_S,
    QUERY_TIMEOUT_S,
    QUIET_TIMEOUT_S,
    RUN_TIMEOUT_S,
    STOP_GRACE_S,
)
from procession.ipc.core.limits import Limits
from procession.ipc.core.records import (
    AsideSignal,
    AuditEntry,
    CallInfo,
    ChildInfo,
    Event,
    KillReceipt,
    OutputChunk,
    Permissions,
    ProcessInfo,
    RunReport,
    SentSignal,
    SessionStatus,
    Statistics,
    Transition,
)

Durability = Literal["memory", "batch", "sync"]
"""When a change is acknowledged: at once, once it is written (it outlives the host), once it is on disk (and the machine)."""
DURABILITIES: Final[tuple[Durability, ...]] = ("memory", "batch", "sync")


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


class LaunchBody(ExecBody, frozen=True, kw_only=True):
    """A command that lives on its own. restart: when it is started again, with its tree of before ended first."""

    restart: Literal["permanent", "transient", "temporary"] = "temporary"


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


class ActBody(Body, frozen=True, kw_only=True):
    """An action of the session's agent. payload in: its parameters as an encoded map. payload out: its answer, encoded."""

    action: str


class AskBody(Body, frozen=True, kw_only=True):
    """A query, which changes nothing. Payloads as of ActBody."""

    query: str


class SignalBody(Body, frozen=True, kw_only=True):
    """payload in: a signal, encoded. wait: handle it first, and answer with what came of it; else it is only taken in.

    type: of the signal, as texts about the call name it; nothing is decided by it.
    """

    wait: bool = True
    type: str = ""


class SendBody(Body, frozen=True, kw_only=True):
    """A message to the session, which its responder answers; the answer is streamed as stdout. payload out: all of it."""

    text: str
    limits: Limits = Limits()


class SendDone(Body, frozen=True, kw_only=True):
    report: RunReport


class ToolBody(Body, frozen=True, kw_only=True):
    """Run a tool. payload in: its arguments as an encoded map; payload out: its result, encoded.

    call_id: under which a code session keeps it, made when empty. by_model: a model chose it, so the host asks first whether
    it may.
    """

    name: str
    call_id: str = ""
    by_model: bool = False
    limits: Limits = Limits()


class ToolDone(Body, frozen=True, kw_only=True):
    report: RunReport


class AwaitBody(Body, frozen=True, kw_only=True):
    """id: of the signal whose result is awaited; empty: until the agent's own state says that it is finished."""

    id: str = ""


class AwaitDone(Body, frozen=True, kw_only=True):
    """payload out: the result, encoded. status: completed, or failed for an agent that says so of itself."""

    status: FinishedStatus = "completed"


class DebugBody(Body, frozen=True, kw_only=True):
    """keep: how many events to keep from now on (0: none), None to leave that. limit: how many to return."""

    keep: int | None = None
    limit: int | None = None


class QuietDone(Body, frozen=True, kw_only=True):
    """Why a session's process is still needed, in words; empty where nothing is.

    busy: something goes on in it, or is to come that only this process knows. holds: nothing goes on, and something would be
    lost with it. due: it has to be up later, whichever process it is.
    """

    busy: str = ""
    holds: str = ""
    due: str = ""


# --- answered by the host -----------------------------------------------------------------------------------
class StartBody(Body, frozen=True, kw_only=True):
    """A child spec. id and name are chosen when empty; project None gives a private folder.

    agent, agent_code, responder, tools: as in Boot. state: encoded; of the code session all of it, of another agent what it
    is given. idle_timeout_s: it is stopped when it has had nothing to do for so long, None: never. hibernate_after_s: its
    process is given back then; None: never, 0: as the host says. recycle_above: bytes of memory above which its process is
    replaced when it is quiet; None: however many, 0: as the host says. partition: in which its name is one. durability: when a
    change of it is acknowledged (memory, batch, sync), empty: as the host says.
    """

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
    agent: str = ""
    agent_code: bytes = b""
    state: bytes = b""
    responder: bytes = b""
    tools: bytes = b""
    idle_timeout_s: float | None = None
    hibernate_after_s: float | None = 0.0
    recycle_above: int | None = 0
    partition: str = ""
    durability: str = ""


class ImportBody(Body, frozen=True, kw_only=True):
    """payload in: an archive. source: what errors call it. trust_code: what it holds or names of code may be run.

    id is made when empty, name is the archive's when empty; project None gives a private folder, whatever it had. start: have
    a process at once; else the session is down. sandbox, partition: as in StartBody, and not the archive's.
    """

    source: str
    id: str = ""
    name: str = ""
    project: str | None = None
    trust_code: bool = False
    start: bool = True
    sandbox: str = "off"
    partition: str = ""


class ForkBody(Body, frozen=True, kw_only=True):
    """at: the number of the change after which the state is taken, None for now. id, name: chosen when empty.

    project None gives a private folder. copy_project: the folder is made, or empty, and what is in the first one's is copied.
    """

    at: int | None = None
    id: str = ""
    name: str = ""
    project: str | None = None
    copy_project: bool = False


class StateDone(Body, frozen=True, kw_only=True):
    """payload out: the state, encoded, none when the agent has not told it. agent: whose it is, empty for a code session."""

    agent: str = ""


class GrantBody(Body, frozen=True, kw_only=True):
    """What calls that a model chose may use: a higher tier, or consent to one tool, given or taken back. All empty: look."""

    tier: str = ""
    consent: str = ""
    revoke: str = ""


class AuditBody(Body, frozen=True, kw_only=True):
    """Entries newest first, of one tool if named."""

    tool: str | None = None
    limit: int = 1_000


class AuditList(Body, frozen=True, kw_only=True):
    entries: tuple[AuditEntry, ...] = ()


class SessionRef(Body, frozen=True, kw_only=True):
    id: str
    name: str
    project: str | None = None


class FindBody(Body, frozen=True, kw_only=True):
    """partition: where to look; None: ids everywhere, and names where no partition was named.

    stopped_first: of a verb that brings a stopped session back.
    """

    partition: str | None = None
    stopped_first: bool = False


class ListBody(Body, frozen=True, kw_only=True):
    """partition: None lists all of them."""

    all: bool = False
    partition: str | None = None


class SessionList(Body, frozen=True, kw_only=True):
    sessions: tuple[SessionStatus, ...] = ()


class StopBody(Body, frozen=True, kw_only=True):
    grace_s: float = STOP_GRACE_S


class FollowBody(Body, frozen=True, kw_only=True):
    """since: a number after which to begin (events, signals). follow: go on until cancelled."""

    since: int | None = None
    follow: bool = False
    call: int | None = None


class EventList(Body, frozen=True, kw_only=True):
    events: tuple[Event, ...] = ()


class ChunkList(Body, frozen=True, kw_only=True):
    chunks: tuple[OutputChunk, ...] = ()
    dropped: int = 0


class SignalList(Body, frozen=True, kw_only=True):
    signals: tuple[SentSignal, ...] = ()


class AsideList(Body, frozen=True, kw_only=True):
    signals: tuple[AsideSignal, ...] = ()


class AsideBody(Body, frozen=True, kw_only=True):
    """What to do about a signal that was set aside; None of the two: nothing, and list them."""

    retry: str = ""
    drop: str = ""


class ChildList(Body, frozen=True, kw_only=True):
    children: tuple[ChildInfo, ...] = ()


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


#: What a call has to do with the agent's state: it may change it, its answer may show it, or neither.
OfAgent = Literal["", "reads", "changes"]


class Operation(NamedTuple):
    """One row of the table. timeout_s: the default; None only for what streams until it is cancelled."""

    name: str
    target: Target
    params: type[msgspec.Struct]
    result: type[msgspec.Struct]
    lane: Lane
    timeout_s: float | None
    streams: bool = False
    agent: OfAgent = ""


_QUICK: Final = QUERY_TIMEOUT_S
_LONG: Final = RUN_TIMEOUT_S

_ROWS: Final = (
    Operation("ping", "session", Nothing, Nothing, "control", _QUICK),
    Operation("quiet", "session", Nothing, QuietDone, "control", QUIET_TIMEOUT_S),
    Operation("echo", "session", Nothing, Nothing, "query", _QUICK),
    Operation("modules", "session", Nothing, ModuleList, "query", _QUICK),
    Operation("run", "session", RunBody, RunDone, "run", _LONG, True),
    Operation("exec", "session", ExecBody, ExecDone, "run", _LONG, True),
    Operation("run_code", "session", CodeBody, CodeDone, "run", _LONG, True),
    Operation("start", "session", LaunchBody, ProcessInfo, "query", _QUICK, True),
    Operation("interrupt", "session", Nothing, Nothing, "control", _QUICK),
    Operation("processes", "session", Nothing, ProcessList, "query", _QUICK),
    Operation("process_wait", "session", ProcessBody, ProcessInfo, "run", _LONG),
    Operation("process_signal", "session", ProcessSignalBody, ProcessInfo, "query", _QUICK),
    Operation("process_write", "session", ProcessWriteBody, Nothing, "query", _QUICK),
    Operation("act", "session", ActBody, Nothing, "query", _QUICK, agent="changes"),
    Operation("ask", "session", AskBody, Nothing, "query", _QUICK, agent="reads"),
    Operation("signal", "session", SignalBody, Nothing, "query", _QUICK, agent="changes"),
    Operation("send_message", "session", SendBody, SendDone, "run", 60.0, True, agent="changes"),
    Operation("tool", "session", ToolBody, ToolDone, "run", _LONG, True, agent="changes"),
    Operation("tools", "session", Nothing, Nothing, "query", _QUICK),
    Operation("await_result", "session", AwaitBody, AwaitDone, "run", AWAIT_TIMEOUT_S, agent="reads"),
    Operation("agent_status", "session", Nothing, AgentStatus, "query", _QUICK, agent="reads"),
    Operation("connect", "session", Nothing, Nothing, "query", _QUICK),
    Operation("debug_events", "session", DebugBody, Nothing, "query", _QUICK, agent="reads"),
    Operation("start_session", "host", StartBody, SessionRef, "host", _LONG),
    Operation("find_session", "host", FindBody, SessionRef, "host", _QUICK),
    Operation("list_sessions", "host", ListBody, SessionList, "host", _QUICK),
    Operation("resume_session", "host", Nothing, SessionRef, "host", _LONG),
    Operation("export_session", "host", Nothing, Nothing, "host", _LONG),
    Operation("import_session", "host", ImportBody, SessionRef, "host", _LONG),
    Operation("fork_session", "host", ForkBody, SessionRef, "host", COPY_TIMEOUT_S),
    Operation("remove_session", "host", Nothing, Nothing, "host", _LONG),
    Operation("stop_session", "host", StopBody, KillReceipt, "host", _LONG),
    Operation("kill_session", "host", Nothing, KillReceipt, "host", _LONG),
    Operation("hibernate_session", "host", Nothing, Nothing, "host", _LONG),
    Operation("restart_session", "host", Nothing, SessionRef, "host", _LONG),
    Operation("status", "host", Nothing, SessionStatus, "host", _QUICK),
    Operation("state", "host", Nothing, StateDone, "host", _QUICK),
    Operation("story", "host", Nothing, StoryDone, "host", _QUICK),
    Operation("last_report", "host", Nothing, ReportDone, "host", _QUICK),
    Operation("calls", "host", Nothing, CallList, "host", _QUICK),
    Operation("cancel", "host", CancelBody, CancelDone, "host", _QUICK),
    Operation("logs", "host", FollowBody, ChunkList, "host", _QUICK, True),
    Operation("events", "host", FollowBody, EventList, "host", _QUICK, True),
    Operation("signals", "host", FollowBody, SignalList, "host", _QUICK, True),
    Operation("children", "host", Nothing, ChildList, "host", _QUICK),
    Operation("follow_agent_status", "host", FollowBody, Nothing, "host", None, True),
    Operation("attach", "host", FollowBody, Nothing, "host", None, True),
    Operation("permissions", "host", GrantBody, Permissions, "host", _QUICK),
    Operation("audit", "host", AuditBody, AuditList, "host", _QUICK),
    Operation("aside", "host", AsideBody, AsideList, "host", _QUICK),
    Operation("touch", "host", Nothing, Nothing, "host", _QUICK),
    Operation("statistics", "host", Nothing, Statistics, "host", _QUICK),
    Operation("shutdown", "host", StopBody, Nothing, "host", _LONG),
    Operation("restart_host", "host", Nothing, Nothing, "host", _LONG),
)

#: name -> operation
OPERATIONS: Final[dict[str, Operation]] = {row.name: row for row in _ROWS}


def is_work(op: Operation, body: msgspec.Struct) -> bool:
    """Say whether a call is work, which takes as long as it takes, and not a look or an order that a flood must not keep out."""
    if op.target == "session":
        return op.lane != "control"
    return op.name == "start_session" or (isinstance(body, FollowBody) and body.follow)
