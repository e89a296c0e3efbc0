"""How a run ended, decided from three witnesses: its keeper's record, its worker's message, and what we did to it.

Pure. The one table of the answers a run can have; it sends nothing and ends nothing.

Rules, first match wins:
1. what the keeper ended it for (memory, cpu, processes) and output over its limit: a limit error
2. a run that ended by itself is what it was, even when we were about to end it: a result that is whole counts
3. what we ended it for: deadline, cancel, shutdown
4. an end without a result is a crash, whatever the exit code (a command's exit code is its result)
"""

from __future__ import annotations

import errno
import signal
from dataclasses import dataclass, field
from typing import Final, Literal

from procession.agent_proc.core.worker_messages import (
    AnyMessage,
    Finished,
    NotRun,
    Raised,
    Raising,
    Rejected,
)
from procession.ipc.core.bounds import STDERR_TAIL_BYTES
from procession.ipc.core.errors import ErrorData, cut
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Ended
from procession.ipc.core.records import EndKind, KillReceipt, RunReport

Cause = Literal["none", "deadline", "cancelled", "output", "shutdown"]
#: What the keeper may have ended a run for, and how that is called.
_KEEPER_LIMITS: Final[dict[str, EndKind]] = {"memory": "memory", "cpu": "cpu", "processes": "processes"}
_CAUSE_KINDS: Final[dict[str, EndKind]] = {
    "deadline": "deadline",
    "cancelled": "cancelled",
    "shutdown": "cancelled",
    "output": "output",
}
#: An errno that escaped as the exception, and the limit that must have been hit if it was set.
_ERRNO_LIMITS: Final = {errno.EFBIG: "file_size", errno.EMFILE: "open_files", errno.EAGAIN: "processes"}
_STACK_CHARS_MAX: Final = 8_000
#: faulthandler's first words, in the order they are looked for.
_STACK_BEGINS: Final = ("Fatal Python error:", "Current thread 0x", "Thread 0x")


@dataclass(frozen=True, slots=True)
class Facts:
    """What is known of a run that is over.

    ended: None when its keeper went without its record. message: the worker's last one. whole: a Finished had all its
    bytes. stderr: its last bytes, longer than the tail a report shows. asked: by whom we were made to end it.
    """

    label: str
    elapsed_s: float
    pid: int
    ended: Ended | None
    cause: Cause = "none"
    message: AnyMessage | None = None
    whole: bool = False
    limits: Limits = field(default_factory=Limits)
    stderr: bytes = b""
    timeout_s: float | None = None

    @property
    def ended_by_itself(self) -> bool:
        """Whether nobody ended it."""
        return self.ended is not None and self.ended.cause == "exit"

    @property
    def exit_code(self) -> int | None:
        """Its exit code, -N for a death by signal N; None when unknown."""
        if self.ended is None or self.ended.raw_status < 0:
            return None
        return exit_code_of(self.ended.raw_status)


def exit_code_of(raw_status: int) -> int:
    """Return the exit code in a wait status, -N for a death by signal N."""
    number = raw_status & 0x7F
    return -number if number else raw_status >> 8 & 0xFF


def signal_name(number: int) -> str:
    """Return `SIGSEGV` for 11; a number that has no name as it is."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def must_escalate(facts: Facts) -> bool:
    """Say whether the run could not be proved empty, so that the whole session domain has to end (R-78)."""
    return facts.ended is None or facts.ended.left > 0


def report(facts: Facts) -> RunReport:
    """Write the report of a run."""
    ended = facts.ended
    text = facts.stderr.decode("utf-8", "replace")
    code = facts.exit_code
    died = code is not None and code < 0
    receipt = KillReceipt(
        found=ended.found if ended else 0,
        left=ended.left if ended else 0,
        method=ended.method if ended else "none",
        escalated=must_escalate(facts),
        keeper_lost=ended is None,
        elapsed_s=ended.end_s if ended else 0.0,
    )
    return RunReport(
        tool=cut(facts.label, 200),
        pid=facts.pid or None,
        elapsed_s=facts.elapsed_s,
        ended=_kind(facts),
        exit_code=code if code is not None and code >= 0 else None,
        signal=signal_name(-code) if code is not None and died else None,
        peak_memory_bytes=max(ended.peak_memory_bytes, 0) if ended else 0,
        cpu_s=ended.cpu_s if ended else 0.0,
        stderr_tail=facts.stderr[-STDERR_TAIL_BYTES:].decode("utf-8", "replace"),
        stack=find_stack(text) if died else "",
        receipt=receipt,
        limits_hit=_limits_hit(facts),
    )


def _kind(facts: Facts) -> EndKind:
    if facts.ended is None or facts.ended.cause == "fork":
        return "unknown"
    if facts.ended.cause in _KEEPER_LIMITS:
        return _KEEPER_LIMITS[facts.ended.cause]
    if facts.cause == "output" or (facts.cause != "none" and not facts.ended_by_itself):
        return _CAUSE_KINDS[facts.cause]
    if facts.limits.cpu_s is not None and facts.exit_code == -signal.SIGXCPU:
        return "cpu"
    return "signal" if (facts.exit_code or 0) < 0 else "exit"


def find_stack(text: str) -> str:
    """Return faulthandler's dump out of what was printed on stderr, or nothing."""
    for words in _STACK_BEGINS:
        at = text.rfind(words)
        if at >= 0:
            return _without_our_frames(text[at : at + _STACK_CHARS_MAX]).rstrip()
    return ""


def _without_our_frames(stack: str) -> str:
    """Leave out how the worker came to call the tool: thirty lines that say nothing about it."""
    return "\n".join(line for line in stack.splitlines() if "/procession/agent_proc/" not in line)


def _limits_hit(facts: Facts) -> tuple[str, ...]:
    """Name the limits of which the kernel told the tool, as far as the tool let it show."""
    hit = _ERRNO_LIMITS.get(facts.message.errno) if isinstance(facts.message, Raised) else None
    if hit is None and facts.exit_code == -signal.SIGXFSZ:
        hit = "file_size"
    return (hit,) if hit is not None and getattr(facts.limits, hit) is not None else ()


def judge(facts: Facts, run_report: RunReport) -> ErrorData | None:
    """Return the error a `run` ended with, None when its result counts."""
    if (forced := _forced(facts, run_report)) is not None:
        return forced
    match facts.message:
        case Finished() if facts.whole:
            return None
        case Raised() as raised:
            return _raised(raised, facts, run_report)
        case Raising(kind=kind):
            told = f"{kind}: (making its text ended the worker or took too long)"
            return _error("ToolRaised", told, facts, run_report, exception_type=kind)
        case Rejected(code=code, text=text, hint=hint):
            return _error("ToolResultInvalid", text, facts, run_report, code=code, hint=hint)
        case NotRun() as not_run:
            return not_started(not_run, facts.elapsed_s)
        case _:
            return crashed(facts, run_report)


def judge_command(facts: Facts, run_report: RunReport) -> ErrorData | None:
    """Return the error an `exec` ended with, None when its exit code is the answer."""
    if isinstance(facts.message, NotRun):
        return not_started(facts.message, facts.elapsed_s)
    if (forced := _forced(facts, run_report)) is not None:
        return forced
    return crashed(facts, run_report) if facts.ended is None else None


def judge_cell(facts: Facts, run_report: RunReport) -> ErrorData:
    """Return the error of a cell whose interpreter ended under it."""
    if (forced := _forced(facts, run_report)) is not None:
        return forced
    if facts.cause != "none":  # it ended by itself, but of the interrupt that its deadline or a cancel sent
        return ended_on_purpose(facts.cause, facts, run_report)
    return crashed(facts, run_report)


def _forced(facts: Facts, run_report: RunReport) -> ErrorData | None:
    """Return the error of a run that was ended, by its keeper or by us."""
    if facts.ended is not None and facts.ended.cause == "fork":
        return ErrorData(
            kind="HostOverloaded",
            message=f"{facts.label}: the system refused another process",
            code="resources",
            ran="no",
            elapsed_s=facts.elapsed_s,
        )
    by_keeper = _KEEPER_LIMITS.get(facts.ended.cause) if facts.ended else None
    if by_keeper is not None:
        return _limit_error(by_keeper, facts, run_report)
    if facts.cause == "output":
        return _limit_error("output", facts, run_report)
    if facts.ended_by_itself and facts.limits.cpu_s is not None and facts.exit_code == -signal.SIGXCPU:
        return _limit_error("cpu", facts, run_report)
    if facts.cause == "none" or facts.ended_by_itself:
        return None
    if facts.ended is None and isinstance(facts.message, Finished) and facts.whole:
        return None  # its result is whole; what is unknown is only what was left behind it
    return ended_on_purpose(facts.cause, facts, run_report)


def _seconds(count: float) -> str:
    return f"{round(count, 2):g} s" if count >= 0.01 else f"{count * 1000:.2g} ms"


def ended_on_purpose(cause: Cause, facts: Facts, run_report: RunReport) -> ErrorData:
    """Return the error of work that we ended: at its deadline, for a cancel, or with the session."""
    if cause == "deadline":
        after = "" if facts.timeout_s is None else f" after {_seconds(facts.timeout_s)}"
        return _error("ToolTimedOut", f"{facts.label}: ended at its deadline{after}", facts, run_report)
    why = "the session was stopped" if cause == "shutdown" else "cancelled"
    return _error(
        "CallCancelled",
        f"{facts.label}: {why} while it ran",
        facts,
        run_report,
        code="cancelled_in_session",
        ran="maybe",
    )


def _limit_error(limit: EndKind, facts: Facts, run_report: RunReport) -> ErrorData:
    limits = facts.limits
    if limit == "memory":
        allowed = f" (limit {limits.memory_bytes} bytes)" if limits.memory_bytes else ""
        return _error(
            "ToolOutOfMemory",
            f"{facts.label}: its processes used more memory than allowed{allowed}",
            facts,
            run_report,
            limit=limit,
        )
    allowed = {
        "cpu": f"{limits.cpu_s} s of CPU time",
        "output": f"{limits.output_bytes} bytes of output",
        "processes": f"{limits.processes} processes",
    }.get(limit, limit)
    return _error(
        "ToolLimitExceeded", f"{facts.label}: went over its limit of {allowed}", facts, run_report, limit=limit
    )


def _raised(raised: Raised, facts: Facts, run_report: RunReport) -> ErrorData:
    message = cut(f"{raised.kind}: {raised.text}" if raised.text else raised.kind)
    kind = "ToolOutOfMemory" if raised.memory else "ToolRaised"
    return _error(
        kind,
        message,
        facts,
        run_report,
        limit="memory" if raised.memory else "",
        exception_type=raised.kind,
        traceback=raised.traceback,
    )


def not_started(not_run: NotRun, elapsed_s: float) -> ErrorData:
    """Return the error of what could not even be started."""
    return ErrorData(
        kind="InvalidRequest",
        message=cut(not_run.text),
        code=not_run.code,
        ran="no",
        hint=not_run.hint,
        elapsed_s=elapsed_s,
    )


def crashed(facts: Facts, run_report: RunReport) -> ErrorData:
    """Return the error of an end without a result."""
    if facts.ended is None:
        return _error(
            "ToolCrashed",
            f"{facts.label}: its keeper was lost; how it ended is unknown",
            facts,
            run_report,
            ran="maybe",
        )
    how = run_report.how()
    if isinstance(facts.message, Finished):
        return _error("ToolCrashed", f"{facts.label}: ended in the middle of its result ({how})", facts, run_report)
    if run_report.ended == "signal":
        return _error("ToolCrashed", f"{facts.label}: was ended by {how}", facts, run_report)
    return _error("ToolCrashed", f"{facts.label}: its process ended without a result ({how})", facts, run_report)


def _error(
    kind: str,
    message: str,
    facts: Facts,
    run_report: RunReport,
    *,
    code: str = "",
    ran: str = "yes",
    hint: str = "",
    limit: str = "",
    exception_type: str = "",
    traceback: str = "",
) -> ErrorData:
    return ErrorData(
        kind=kind,
        message=cut(message),
        code=code,
        ran=ran,
        hint=hint,
        limit=limit,
        exception_type=exception_type,
        traceback=traceback,
        elapsed_s=facts.elapsed_s,
        report=run_report,
    )
