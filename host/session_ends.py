"""What a keeper's record of an end means: which kind of exit it was, and the report that people read. Values only."""

from __future__ import annotations

import os
import signal
from typing import Final

from procession.ipc.core.bounds import ESCALATE_EXIT
from procession.ipc.core.messages import Ended
from procession.ipc.core.records import EndKind, KillReceipt, RunReport
from procession.ipc.core.restart_policy import Exit, ExitKind, exit_of

_CAUSES: Final[dict[str, EndKind]] = {
    "memory": "memory",
    "cpu": "cpu",
    "processes": "processes",
    "asked": "cancelled",
}


def exit_of_record(record: Ended | None, *, pending: bool) -> Exit:
    """Read a record as an exit; None: the keeper was lost. pending: it had taken up calls and not answered them."""
    if record is None:
        return Exit(ExitKind.KEEPER_LOST, "the keeper was lost", pending)
    if record.cause == "parent_gone":
        return Exit(ExitKind.ZYGOTE_LOST, "the zygote was lost", pending)
    if record.cause == "memory":
        return Exit(ExitKind.MEMORY, "", pending)
    if record.cause == "fork":  # the keeper was forked, the session was refused; the status is -errno
        why = f"the session process could not be forked: {os.strerror(-record.raw_status)}"
        return Exit(ExitKind.START_FAILED, why)
    found = exit_of(record.raw_status, pending=pending)
    if os.WIFEXITED(record.raw_status) and os.WEXITSTATUS(record.raw_status) == ESCALATE_EXIT:
        return Exit(ExitKind.ESCALATED, "a run could not be proved ended", pending)
    if found.kind is ExitKind.SIGNAL:
        return Exit(ExitKind.SIGNAL, _signal_name(os.WTERMSIG(record.raw_status)), pending)
    return found


def report_of(
    record: Ended | None, ended_as: Exit, pid: int | None, elapsed_s: float, text: str, restored_to: int | None
) -> RunReport:
    """Describe the end of a session process.

    elapsed_s: since it was asked for, where no record says how long it lived. text: what it printed last. restored_to: the
    number of the last change that its next incarnation has.
    """
    if record is None:
        return RunReport(
            tool="session",
            pid=pid,
            elapsed_s=elapsed_s,
            ended="unknown",
            stderr_tail=text,
            receipt=KillReceipt(keeper_lost=True, method="unknown"),
            restored_to=restored_to,
        )
    if record.cause == "fork":
        return RunReport(tool="session", stderr_tail=ended_as.detail)
    raw = record.raw_status
    signalled = os.WIFSIGNALED(raw)
    ended: EndKind = _CAUSES.get(record.cause, "signal" if signalled else "exit")
    return RunReport(
        tool="session",
        pid=pid,
        elapsed_s=record.elapsed_s,
        ended=ended,
        exit_code=None if signalled else os.WEXITSTATUS(raw),
        signal=_signal_name(os.WTERMSIG(raw)) if signalled else None,
        peak_memory_bytes=record.peak_memory_bytes,
        cpu_s=record.cpu_s,
        stderr_tail=text,
        stack=text[text.find("Fatal Python error") :] if "Fatal Python error" in text else "",
        receipt=KillReceipt(
            found=record.found,
            left=record.left,
            method=record.method,
            elapsed_s=record.end_s,
            escalated=ended_as.kind is ExitKind.ESCALATED,
        ),
        restored_to=restored_to,
    )


def _signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
