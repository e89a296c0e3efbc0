"""The typed records that calls answer with: what happened, to whom, how it ended, what was left.

Plain frozen data, decoded from declared types; nothing here does anything. Times are seconds, sizes bytes.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal, get_args

import msgspec

EndKind = Literal["exit", "signal", "deadline", "memory", "cpu", "output", "disk", "processes", "cancelled", "unknown"]
StreamName = Literal["stdout", "stderr"]
AuditStatus = Literal["ok", "error", "timeout", "blocked"]
AUDIT_STATUSES: Final[tuple[AuditStatus, ...]] = get_args(AuditStatus)


class Record(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Base of the records: immutable, comparable, and turned into plain data by `asdict()`."""

    def asdict(self) -> dict[str, Any]:
        """Return this record as plain dicts, lists and scalars (ready for JSON but for bytes)."""
        return msgspec.to_builtins(self, builtin_types=(bytes,))  # type: ignore[no-any-return]


class KillReceipt(Record, frozen=True, kw_only=True):
    """What ending a process tree did.

    found: processes of the tree that were alive when its end began, its main process not counted.
    left: processes that could not be proved gone (0 unless something is badly wrong).
    method: how the domain was ended (`none` when it was already empty, `scoped`, `sweep`, ...).
    elapsed_s: from the beginning of its end until it was proved over.
    """

    found: int = 0
    left: int = 0
    method: str = "none"
    escalated: bool = False
    keeper_lost: bool = False
    elapsed_s: float = 0.0


class RunReport(Record, frozen=True, kw_only=True):
    """How one run, or one incarnation of a session, ended.

    tool: the function, the program, `run_code` or `session`. pid: of its main process, which is gone; None when none was
    forked. ended: in one word; `exit_code` or `signal` say more where its process ended by itself. peak_memory_bytes: of
    its processes, less what a function's worker began with; a command's is never less than what the fork before it had.
    cpu_s: of all its processes. stderr_tail: the last that it printed there. stack: where it was when a signal ended it,
    as far as that can be known. receipt: what ending its processes did. limits_hit: limits for which the kernel refused
    it something, though they did not end it. restored_to: the number of the last change of state that the next
    incarnation has; applied: whether this call's own change was kept; both None where there is no state to speak of.
    """

    tool: str = ""
    pid: int | None = None
    elapsed_s: float = 0.0
    ended: EndKind = "unknown"
    exit_code: int | None = None
    signal: str | None = None
    peak_memory_bytes: int = 0
    cpu_s: float = 0.0
    stderr_tail: str = ""
    stack: str = ""
    receipt: KillReceipt = KillReceipt()
    limits_hit: tuple[str, ...] = ()
    restored_to: int | None = None
    applied: bool | None = None

    @property
    def processes_found(self) -> int:
        return self.receipt.found

    @property
    def processes_left(self) -> int:
        return self.receipt.left

    def how(self) -> str:
        """Say in words how it ended: `exit code 3`, `SIGSEGV`, `deadline`, ..."""
        if self.ended == "exit":
            return f"exit code {self.exit_code}"
        if self.ended == "signal":
            return self.signal or "a signal"
        return {"memory": "out of memory", "unknown": "unknown (keeper lost)"}.get(self.ended, self.ended)


class CommandResult(Record, frozen=True, kw_only=True):
    """What a command printed and how it exited; `exit_code` is -N for a death by signal N, as in `subprocess`."""

    argv: tuple[str, ...]
    exit_code: int
    stdout: bytes = b""
    stderr: bytes = b""
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    elapsed_s: float = 0.0
    report: RunReport = RunReport()

    @property
    def ok(self) -> bool:
        return self.exit_code == 0

    @property
    def text(self) -> str:
        """The standard output as text; bytes that are not UTF-8 show as U+FFFD."""
        return self.stdout.decode("utf-8", "replace")


class CodeResult(Record, frozen=True, kw_only=True):
    """What a cell of the session's interpreter did.

    value: repr of the last expression, None when there was none or it was None. error: traceback text when it raised.
    exit_code: what it ended the interpreter with (`sys.exit(3)`; of a text it is 1, as in any program), None when it did not.
    fresh: the interpreter was (re)started for this cell, so earlier names are gone.
    """

    stdout: str = ""
    stderr: str = ""
    value: str | None = None
    error: str | None = None
    error_type: str | None = None
    exit_code: int | None = None
    fresh: bool = False
    stdout_dropped: int = 0
    stderr_dropped: int = 0
    elapsed_s: float = 0.0

    @property
    def ok(self) -> bool:
        return self.error is None


class ProcessInfo(Record, frozen=True, kw_only=True):
    """One long-lived command of a session.

    pid: None while it has no process, for the number may be another's by now. running: it is not over for good; a command that
    is started again is, between two processes, too. restarts: how often it was. exit_code, report: of its last end.
    """

    id: str
    argv: tuple[str, ...]
    pid: int | None = None
    running: bool
    started_s_ago: float
    restarts: int = 0
    exit_code: int | None = None
    report: RunReport | None = None


class OutputChunk(Record, frozen=True, kw_only=True):
    """A piece of output. call: the number of the call that printed it; dropped: bytes lost just before it."""

    stream: StreamName
    data: bytes
    call: int = 0
    dropped: int = 0

    @property
    def text(self) -> str:
        return self.data.decode("utf-8", "replace")


class Transition(Record, frozen=True, kw_only=True):
    """One step of a session's story: when (seconds, monotonic), what happened, from which phase to which."""

    at: float
    event: str
    before: str
    after: str
    detail: str = ""


class SessionStatus(Record, frozen=True, kw_only=True):
    """A session at this moment.

    phase: new, starting, ready, backoff, stopping, stopped, down, failed. pid, keeper_pid: of the session
    process and of its keeper, None when there is none. restarts: starts after an end that counted
    (of a lost zygote none does), in all. reason: why it failed, is down or was stopped. parent: the session whose agent's child
    it is. orphaned_from: the one that was, until that was gone. partition: in which its name is one. number: of the last change
    of its agent's state that was acknowledged; `fork(at=...)` takes one.
    """

    id: str
    name: str
    phase: str
    pid: int | None = None
    keeper_pid: int | None = None
    incarnation: int = 0
    restarts: int = 0
    calls: int = 0
    queued: int = 0
    uptime_s: float = 0.0
    created_at: float = 0.0
    project: str | None = None
    restart: str = "transient"
    sandbox: str = "off"
    reason: str = ""
    health: str = ""
    parent: str | None = None
    orphaned_from: str | None = None
    partition: str = ""
    number: int = 0


class CallInfo(Record, frozen=True, kw_only=True):
    """One call of a session, running or recently over.

    id: good for `cancel`. op: the verb. state: queued (in the host), sent, running or over. incarnation: of the process that
    has it. timeout_s: its deadline, from when it was made. outcome: how it ended, in one word.
    """

    id: str
    seq: int
    op: str
    state: str
    incarnation: int
    age_s: float
    timeout_s: float | None = None
    outcome: str = ""


class Event(Record, frozen=True, kw_only=True):
    """One numbered event of the host; `dropped` counts events this subscriber lost just before it."""

    number: int
    at: float
    type: str
    session: str | None = None
    incarnation: int = 0
    data: dict[str, str | int | float | bool | None] = {}
    dropped: int = 0


class ChildInfo(Record, frozen=True, kw_only=True):
    """A child agent of a session: its tag, and the id, name and phase of its own session."""

    tag: str
    session: str
    name: str
    phase: str


class SentSignal(Record, frozen=True, kw_only=True):
    """One numbered signal that a session's agent gave its subscribers, as it travels: `data` is the whole of it, encoded."""

    number: int
    at: float
    data: bytes
    session: str
    dropped: int = 0


class AgentSignal(Record, frozen=True, kw_only=True):
    """One numbered signal that a session's agent gave its subscribers.

    at: when the host took it (seconds since the epoch). type, source, id, subject, data, extensions: as the agent said them.
    session: its id. dropped: how many this reader lost just before it.
    """

    number: int
    at: float
    type: str
    source: str
    id: str
    subject: str | None = None
    data: Any = None
    extensions: dict[str, bool | int | str] = {}
    session: str
    dropped: int = 0


class AsideSignal(Record, frozen=True, kw_only=True):
    """A signal that a session could not handle, kept until somebody retries or drops it.

    at: when it was given to the session. code, reason: why it was set aside. deaths: processes that ended while they had it.
    """

    id: str
    type: str
    at: float
    code: str
    reason: str
    deaths: int = 0


class AuditEntry(Record, frozen=True, kw_only=True):
    """One call of a tool that a model chose.

    at: when it was over. code: of the error, when it did not end well. arguments_hash: of what it was given, the same for the
    same; empty when that could not be read.
    """

    number: int
    at: datetime
    session: str
    tool: str
    status: AuditStatus
    code: str = ""
    duration_ms: int = 0
    arguments_hash: str = ""


class ToolInfo(Record, frozen=True, kw_only=True):
    """A tool of a session. parameters: a JSON schema of type object; tier: what it needs; builtin: it comes with procession."""

    name: str
    tier: str
    description: str = ""
    parameters: dict[str, Any] = {}
    builtin: bool = False


class Permissions(Record, frozen=True, kw_only=True):
    """What calls that a model chose may use in a session. tier: this and less; consented: tools that need more."""

    tier: str
    consented: tuple[str, ...] = ()


class PoolStatus(Record, frozen=True, kw_only=True):
    """A worker pool at this moment: free and lent workers, and how many wait for one. overflow: how many more there may be."""

    size: int
    overflow: int
    free: int
    lent: int
    waiting: int


class Statistics(Record, frozen=True, kw_only=True):
    """Counters of a host since it started.

    sessions: listed, those that were stopped too; running: of those with a process. calls: over by now; failed: of those
    with an error; late: answers that came after their calls were over. restarts: after ends that counted; starts: of
    session processes in all. breaches: session processes that broke the protocol and were ended for it. lag_ms_max: the
    worst delay of its loop; lag_warnings: delays that were an event; lag_culprit: where its loop was in the last of them.
    """

    pid: int
    uptime_s: float
    sessions: int = 0
    running: int = 0
    calls: int = 0
    failed: int = 0
    late: int = 0
    restarts: int = 0
    starts: int = 0
    breaches: int = 0
    events: int = 0
    events_dropped: int = 0
    lag_ms_max: float = 0.0
    lag_warnings: int = 0
    lag_culprit: str = ""
    rss_bytes: int = 0
