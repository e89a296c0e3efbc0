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
    from procession.api.aio import AsyncHost as AsyncHost
    from procession.api.aio import AsyncProcess as AsyncProcess
    from procession.api.aio import AsyncSession as AsyncSession
    from procession.api.executor import IsolatedExecutor as IsolatedExecutor
    from procession.api.futures import CallFuture as CallFuture
    from procession.api.host import Host as Host
    from procession.api.isolated import isolated as isolated
    from procession.api.sandbox import Sandbox as Sandbox
    from procession.api.session import Process as Process
    from procession.api.session import Session as Session
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
    from procession.ipc.core.records import CallInfo as CallInfo
    from procession.ipc.core.records import CodeResult as CodeResult
    from procession.ipc.core.records import CommandResult as CommandResult
    from procession.ipc.core.records import Event as Event
    from procession.ipc.core.records import KillReceipt as KillReceipt
    from procession.ipc.core.records import OutputChunk as OutputChunk
    from procession.ipc.core.records import ProcessInfo as ProcessInfo
    from procession.ipc.core.records import RunReport as RunReport
    from procession.ipc.core.records import SessionStatus as SessionStatus
    from procession.ipc.core.records import Statistics as Statistics
    from procession.ipc.core.records import Transition as Transition

__all__ = [
    "AgentError",
    "AlreadyExists",
    "AsyncHost",
    "AsyncProcess",
    "AsyncSession",
    "CallCancelled",
    "CallCycle",
    "CallFuture",
    "CallInfo",
    "CallTimedOut",
    "CodeResult",
    "CommandResult",
    "DiskFull",
    "Event",
    "ExpiredInQueue",
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
    "MessageTooLarge",
    "NotDelivered",
    "OutcomeUnknown",
    "OutputChunk",
    "PermissionDenied",
    "Process",
    "ProcessInfo",
    "ProcessionError",
    "ProtocolError",
    "RateLimited",
    "RunReport",
    "Sandbox",
    "SandboxUnavailable",
    "Session",
    "SessionDied",
    "SessionLimitReached",
    "SessionNotFound",
    "SessionNotRunning",
    "SessionRestarting",
    "SessionStatus",
    "StartFailed",
    "Statistics",
    "StorageError",
    "StoryDone",
    "ToolCrashed",
    "ToolFailed",
    "ToolLimitExceeded",
    "ToolOutOfMemory",
    "ToolOutcomeUnknown",
    "ToolRaised",
    "ToolResultInvalid",
    "ToolTimedOut",
    "Transition",
    "__version__",
    "isolated",
]

_HOMES = {
    "AsyncHost": "procession.api.aio",
    "AsyncProcess": "procession.api.aio",
    "AsyncSession": "procession.api.aio",
    "CallFuture": "procession.api.futures",
    "CallInfo": "procession.ipc.core.records",
    "CodeResult": "procession.ipc.core.records",
    "CommandResult": "procession.ipc.core.records",
    "Event": "procession.ipc.core.records",
    "Host": "procession.api.host",
    "IsolatedExecutor": "procession.api.executor",
    "KillReceipt": "procession.ipc.core.records",
    "Limits": "procession.ipc.core.limits",
    "OutputChunk": "procession.ipc.core.records",
    "Process": "procession.api.session",
    "ProcessInfo": "procession.ipc.core.records",
    "RunReport": "procession.ipc.core.records",
    "Sandbox": "procession.api.sandbox",
    "Session": "procession.api.session",
    "SessionStatus": "procession.ipc.core.records",
    "Statistics": "procession.ipc.core.records",
    "StoryDone": "procession.ipc.core.operations",
    "Transition": "procession.ipc.core.records",
    "isolated": "procession.api.isolated",
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
