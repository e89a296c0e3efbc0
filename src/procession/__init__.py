"""procession: a process for every session.

The public names, each loaded on first use (PEP 562), so that ``import procession`` costs a few milliseconds and loads
no pydantic, asyncio, typer, rich or psutil. What is not in ``__all__`` is not public; the rooms below this package
(``ipc``, ``agent_proc``, ``host``, ``api``) are its inside.

Two lists name every public name, one for tools that read types and one for the interpreter; ``tests/laws`` holds both
to ``__all__``.
"""

from typing import TYPE_CHECKING

from procession._version import __version__

if TYPE_CHECKING:
    from procession.agent_proc.agent.agent import Agent as Agent
    from procession.agent_proc.agent.tools.define import tool as tool
    from procession.agent_proc.agent.tools.results import ToolResult as ToolResult
    from procession.agent_proc.agent.tools.results import tool_messages as tool_messages
    from procession.api.aio import AsyncHost as AsyncHost
    from procession.api.aio import AsyncProcess as AsyncProcess
    from procession.api.aio import AsyncSession as AsyncSession
    from procession.api.aio_pool import AsyncWorkerPool as AsyncWorkerPool
    from procession.api.executor import IsolatedExecutor as IsolatedExecutor
    from procession.api.futures import CallFuture as CallFuture
    from procession.api.host import Host as Host
    from procession.api.isolated import isolated as isolated
    from procession.api.pool import WorkerPool as WorkerPool
    from procession.api.sandbox import Sandbox as Sandbox
    from procession.api.session import Process as Process
    from procession.api.session import Session as Session
    from procession.ipc.core.agent_records import AccessStats as AccessStats
    from procession.ipc.core.agent_records import AgentStatus as AgentStatus
    from procession.ipc.core.agent_records import ContextItem as ContextItem
    from procession.ipc.core.agent_records import DebugEvent as DebugEvent
    from procession.ipc.core.agent_records import Finished as Finished
    from procession.ipc.core.agent_records import Memory as Memory
    from procession.ipc.core.agent_records import Message as Message
    from procession.ipc.core.agent_records import MessagePage as MessagePage
    from procession.ipc.core.agent_records import PendingMemory as PendingMemory
    from procession.ipc.core.agent_records import PromotionStats as PromotionStats
    from procession.ipc.core.agent_records import ReasoningStep as ReasoningStep
    from procession.ipc.core.agent_records import SessionRecord as SessionRecord
    from procession.ipc.core.agent_records import Todo as Todo
    from procession.ipc.core.agent_records import ToolCallRecord as ToolCallRecord
    from procession.ipc.core.errors import AgentError as AgentError
    from procession.ipc.core.errors import AlreadyExists as AlreadyExists
    from procession.ipc.core.errors import CallCancelled as CallCancelled
    from procession.ipc.core.errors import CallCycle as CallCycle
    from procession.ipc.core.errors import CallTimedOut as CallTimedOut
    from procession.ipc.core.errors import DiskFull as DiskFull
    from procession.ipc.core.errors import ExpiredInQueue as ExpiredInQueue
    from procession.ipc.core.errors import HostLost as HostLost
    from procession.ipc.core.errors import HostOverloaded as HostOverloaded
    from procession.ipc.core.errors import InvalidRequest as InvalidRequest
    from procession.ipc.core.errors import InvalidTransition as InvalidTransition
    from procession.ipc.core.errors import JournalCorrupt as JournalCorrupt
    from procession.ipc.core.errors import MailboxFull as MailboxFull
    from procession.ipc.core.errors import MessageTooLarge as MessageTooLarge
    from procession.ipc.core.errors import NotDelivered as NotDelivered
    from procession.ipc.core.errors import OutcomeUnknown as OutcomeUnknown
    from procession.ipc.core.errors import PermissionDenied as PermissionDenied
    from procession.ipc.core.errors import ProcessionError as ProcessionError
    from procession.ipc.core.errors import ProtocolError as ProtocolError
    from procession.ipc.core.errors import RateLimited as RateLimited
    from procession.ipc.core.errors import SandboxUnavailable as SandboxUnavailable
    from procession.ipc.core.errors import SessionDied as SessionDied
    from procession.ipc.core.errors import SessionLimitReached as SessionLimitReached
    from procession.ipc.core.errors import SessionNotFound as SessionNotFound
    from procession.ipc.core.errors import SessionNotRunning as SessionNotRunning
    from procession.ipc.core.errors import SessionRestarting as SessionRestarting
    from procession.ipc.core.errors import StartFailed as StartFailed
    from procession.ipc.core.errors import StorageError as StorageError
    from procession.ipc.core.errors import ToolCrashed as ToolCrashed
    from procession.ipc.core.errors import ToolFailed as ToolFailed
    from procession.ipc.core.errors import ToolLimitExceeded as ToolLimitExceeded
    from procession.ipc.core.errors import ToolOutcomeUnknown as ToolOutcomeUnknown
    from procession.ipc.core.errors import ToolOutOfMemory as ToolOutOfMemory
    from procession.ipc.core.errors import ToolRaised as ToolRaised
    from procession.ipc.core.errors import ToolResultInvalid as ToolResultInvalid
    from procession.ipc.core.errors import ToolTimedOut as ToolTimedOut
    from procession.ipc.core.limits import Limits as Limits
    from procession.ipc.core.operations import StoryDone as StoryDone
    from procession.ipc.core.records import AgentSignal as AgentSignal
    from procession.ipc.core.records import AsideSignal as AsideSignal
    from procession.ipc.core.records import AuditEntry as AuditEntry
    from procession.ipc.core.records import CallInfo as CallInfo
    from procession.ipc.core.records import ChildInfo as ChildInfo
    from procession.ipc.core.records import CodeResult as CodeResult
    from procession.ipc.core.records import CommandResult as CommandResult
    from procession.ipc.core.records import Event as Event
    from procession.ipc.core.records import KillReceipt as KillReceipt
    from procession.ipc.core.records import OutputChunk as OutputChunk
    from procession.ipc.core.records import Permissions as Permissions
    from procession.ipc.core.records import PoolStatus as PoolStatus
    from procession.ipc.core.records import ProcessInfo as ProcessInfo
    from procession.ipc.core.records import RunReport as RunReport
    from procession.ipc.core.records import SessionStatus as SessionStatus
    from procession.ipc.core.records import Statistics as Statistics
    from procession.ipc.core.records import ToolInfo as ToolInfo
    from procession.ipc.core.records import Transition as Transition

__all__ = [
    "AccessStats",
    "Agent",
    "AgentError",
    "AgentSignal",
    "AgentStatus",
    "AlreadyExists",
    "AsideSignal",
    "AsyncHost",
    "AsyncProcess",
    "AsyncSession",
    "AsyncWorkerPool",
    "AuditEntry",
    "CallCancelled",
    "CallCycle",
    "CallFuture",
    "CallInfo",
    "CallTimedOut",
    "ChildInfo",
    "CodeResult",
    "CommandResult",
    "ContextItem",
    "DebugEvent",
    "DiskFull",
    "Event",
    "ExpiredInQueue",
    "Finished",
    "Host",
    "HostLost",
    "HostOverloaded",
    "InvalidRequest",
    "InvalidTransition",
    "IsolatedExecutor",
    "JournalCorrupt",
    "KillReceipt",
    "Limits",
    "MailboxFull",
    "Memory",
    "Message",
    "MessagePage",
    "MessageTooLarge",
    "NotDelivered",
    "OutcomeUnknown",
    "OutputChunk",
    "PendingMemory",
    "PermissionDenied",
    "Permissions",
    "PoolStatus",
    "Process",
    "ProcessInfo",
    "ProcessionError",
    "PromotionStats",
    "ProtocolError",
    "RateLimited",
    "ReasoningStep",
    "RunReport",
    "Sandbox",
    "SandboxUnavailable",
    "Session",
    "SessionDied",
    "SessionLimitReached",
    "SessionNotFound",
    "SessionNotRunning",
    "SessionRecord",
    "SessionRestarting",
    "SessionStatus",
    "StartFailed",
    "Statistics",
    "StorageError",
    "StoryDone",
    "Todo",
    "ToolCallRecord",
    "ToolCrashed",
    "ToolFailed",
    "ToolInfo",
    "ToolLimitExceeded",
    "ToolOutOfMemory",
    "ToolOutcomeUnknown",
    "ToolRaised",
    "ToolResult",
    "ToolResultInvalid",
    "ToolTimedOut",
    "Transition",
    "WorkerPool",
    "__version__",
    "isolated",
    "tool",
    "tool_messages",
]

_HOMES = {
    "AccessStats": "procession.ipc.core.agent_records",
    "Agent": "procession.agent_proc.agent.agent",
    "AgentSignal": "procession.ipc.core.records",
    "AgentStatus": "procession.ipc.core.agent_records",
    "AsyncHost": "procession.api.aio",
    "AsyncProcess": "procession.api.aio",
    "AsyncSession": "procession.api.aio",
    "AsyncWorkerPool": "procession.api.aio_pool",
    "AsideSignal": "procession.ipc.core.records",
    "AuditEntry": "procession.ipc.core.records",
    "CallFuture": "procession.api.futures",
    "CallInfo": "procession.ipc.core.records",
    "ChildInfo": "procession.ipc.core.records",
    "CodeResult": "procession.ipc.core.records",
    "CommandResult": "procession.ipc.core.records",
    "ContextItem": "procession.ipc.core.agent_records",
    "DebugEvent": "procession.ipc.core.agent_records",
    "Event": "procession.ipc.core.records",
    "Finished": "procession.ipc.core.agent_records",
    "Host": "procession.api.host",
    "IsolatedExecutor": "procession.api.executor",
    "KillReceipt": "procession.ipc.core.records",
    "Limits": "procession.ipc.core.limits",
    "Memory": "procession.ipc.core.agent_records",
    "Message": "procession.ipc.core.agent_records",
    "MessagePage": "procession.ipc.core.agent_records",
    "OutputChunk": "procession.ipc.core.records",
    "PendingMemory": "procession.ipc.core.agent_records",
    "Permissions": "procession.ipc.core.records",
    "PoolStatus": "procession.ipc.core.records",
    "Process": "procession.api.session",
    "ProcessInfo": "procession.ipc.core.records",
    "PromotionStats": "procession.ipc.core.agent_records",
    "ReasoningStep": "procession.ipc.core.agent_records",
    "RunReport": "procession.ipc.core.records",
    "Sandbox": "procession.api.sandbox",
    "Session": "procession.api.session",
    "SessionRecord": "procession.ipc.core.agent_records",
    "SessionStatus": "procession.ipc.core.records",
    "Statistics": "procession.ipc.core.records",
    "StoryDone": "procession.ipc.core.operations",
    "Todo": "procession.ipc.core.agent_records",
    "ToolCallRecord": "procession.ipc.core.agent_records",
    "ToolInfo": "procession.ipc.core.records",
    "ToolResult": "procession.agent_proc.agent.tools.results",
    "Transition": "procession.ipc.core.records",
    "WorkerPool": "procession.api.pool",
    "isolated": "procession.api.isolated",
    "tool": "procession.agent_proc.agent.tools.define",
    "tool_messages": "procession.agent_proc.agent.tools.results",
}
"""Public name to the module that defines it; what is not here is an error class."""

_ERRORS = "procession.ipc.core.errors"


if not TYPE_CHECKING:  # a type checker that saw this function would accept any misspelt name

    def __getattr__(name: str) -> object:
        """Load a public name on first use and keep it."""
        if name not in __all__:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        from importlib import import_module

        value: object = getattr(import_module(_HOMES.get(name, _ERRORS)), name)
        globals()[name] = value
        return value


def __dir__() -> list[str]:
    """List what is public."""
    return sorted(__all__)
