"""What a session's process is still needed for: asked before it is given back, replaced, or ended for want of work.

    busy    something goes on, or is to come and only this process knows of it          nothing is done to it
    holds   nothing goes on, and something would be lost with the process               it is not given back, nor replaced
    due     it has to be up at some time, and whichever process it is then will do      it may be replaced

It is *not* what decides (host/core/idleness.py). What was answered and is only being cleared away keeps nothing awake: the end of
the process waits for it. Nor does a message that an application streams into its session: what came of it is in the state.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from procession.ipc.core.operations import QuietDone

if TYPE_CHECKING:
    from procession.agent_proc.session_ops import Operations


def quiet(operations: Operations) -> QuietDone:
    """Say why the process is still needed; of each kind the first reason there is."""
    return QuietDone(busy=_busy(operations), holds=_holds(operations), due=_due(operations))


def _busy(operations: Operations) -> str:
    effects = operations.agent.effects
    reasons = {
        "commands that it started run": operations.processes.running,
        "calls are open in it": len(operations.agent.context.calls),
        "effects of its agent are to be carried out": effects.pending,
        "calls of other agents are not answered yet": effects.awaited,
        "delayed signals are to come": effects.schedules,
    }
    return next((f"{what}: {count}" for what, count in reasons.items() if count), "")


def _holds(operations: Operations) -> str:
    if operations.cells.guest is not None:
        return "its interpreter (run_code) is alive, with what was defined there"
    if operations.agent.results.is_fresh:
        return "the result of a signal may still be awaited"
    return ""


def _due(operations: Operations) -> str:
    jobs = operations.agent.effects.jobs
    if jobs:
        return f"cron jobs of its agent: {len(jobs)}"
    return "memories are to be promoted" if operations.agent.is_to_promote else ""
