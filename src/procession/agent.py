"""What agents are written with: `from procession.agent import Agent, Change, action`.

Everything here is pure: an agent can be tested with `cmd` and `on_signal` alone, without a host or a process.
"""

from procession.agent_proc.agent.actions import action
from procession.agent_proc.agent.agent import Agent
from procession.agent_proc.agent.change import Change, Moment
from procession.agent_proc.agent.cmd import cmd
from procession.agent_proc.agent.code_session_agent import CodeSessionAgent
from procession.agent_proc.agent.completion import Completion
from procession.agent_proc.agent.directives import (
    AdoptChild,
    CallAgent,
    Cron,
    CronCancel,
    Emit,
    Error,
    Reply,
    RunInstruction,
    RunTool,
    Schedule,
    SpawnAgent,
    Stop,
    StopChild,
    ToChild,
    ToSession,
)
from procession.agent_proc.agent.error_policy import Custom, EmitErrors, LogOnly, MaxErrors, StopOnError
from procession.agent_proc.agent.instructions import Instruction
from procession.agent_proc.agent.outcome import Outcome
from procession.agent_proc.agent.phases import begin, on_signal
from procession.agent_proc.agent.router import Route
from procession.agent_proc.agent.signals import Signal
from procession.agent_proc.agent.skills import Handled, Mount, Prepared, Skill
from procession.agent_proc.agent.turn import Turn, echo
from procession.ipc.core.state_ops import (
    AppendItems,
    AppendText,
    DeleteKeys,
    DeletePath,
    PrependItems,
    PutEntry,
    RemoveItems,
    ReplaceState,
    SetPath,
    SetState,
    UpdateItem,
)

__all__ = [
    "AdoptChild",
    "Agent",
    "AppendItems",
    "AppendText",
    "CallAgent",
    "Change",
    "CodeSessionAgent",
    "Completion",
    "Cron",
    "CronCancel",
    "Custom",
    "DeleteKeys",
    "DeletePath",
    "Emit",
    "EmitErrors",
    "Error",
    "Handled",
    "Instruction",
    "LogOnly",
    "MaxErrors",
    "Moment",
    "Mount",
    "Outcome",
    "Prepared",
    "PrependItems",
    "PutEntry",
    "RemoveItems",
    "ReplaceState",
    "Reply",
    "Route",
    "RunInstruction",
    "RunTool",
    "Schedule",
    "SetPath",
    "SetState",
    "Signal",
    "Skill",
    "SpawnAgent",
    "Stop",
    "StopChild",
    "StopOnError",
    "ToChild",
    "ToSession",
    "Turn",
    "UpdateItem",
    "action",
    "begin",
    "cmd",
    "echo",
    "on_signal",
]
