"""The public face, as data: what can be imported from `procession`, and nothing else. A new name is added here too."""

import ast
import importlib

import pytest

import procession
import procession.testing
from helpers.runs import SOURCE

ERRORS = """
    AgentError AlreadyExists CallCancelled CallCycle CallTimedOut DiskFull ExpiredInQueue HostLost HostOverloaded
    InvalidRequest InvalidTransition JournalCorrupt MailboxFull MessageTooLarge NotDelivered OutcomeUnknown
    PermissionDenied ProcessionError ProtocolError RateLimited SandboxUnavailable SessionDied SessionLimitReached
    SessionNotFound SessionNotRunning SessionRestarting StartFailed StorageError ToolCrashed ToolFailed
    ToolLimitExceeded ToolOutOfMemory ToolOutcomeUnknown ToolRaised ToolResultInvalid ToolTimedOut
""".split()

FACES = """
    AsyncHost AsyncProcess AsyncSession AsyncWorkerPool CallFuture Host IsolatedExecutor Process Session WorkerPool isolated
    Agent tool tool_messages
""".split()

VALUES = """
    AccessStats AgentSignal AgentStatus AsideSignal AuditEntry CallInfo ChildInfo CodeResult CommandResult ContextItem DebugEvent
    Event Finished KillReceipt Limits Memory Message MessagePage OutputChunk PendingMemory Permissions PoolStatus
    ProcessInfo PromotionStats ReasoningStep RunReport Sandbox SessionRecord SessionStatus Statistics StoryDone Todo
    ToolCallRecord ToolInfo ToolResult Transition
""".split()

PUBLIC = sorted([*ERRORS, *FACES, *VALUES, "__version__"])


def test_all_is_exactly_the_listed_names() -> None:
    assert sorted(procession.__all__) == PUBLIC
    assert dir(procession) == PUBLIC


def test_no_other_name_is_public() -> None:
    rooms_and_modules = {"ipc", "host", "api", "agent_proc", "agent", "testing"}
    visible = {name for name in vars(procession) if not name.startswith("_")}
    assert visible - set(PUBLIC) - rooms_and_modules == {"TYPE_CHECKING"}


@pytest.mark.parametrize("name", PUBLIC)
def test_a_public_name_can_be_imported(name: str) -> None:
    assert getattr(procession, name) is not None


@pytest.mark.parametrize("name", [name for name in PUBLIC if not name.startswith("_")])
def test_the_help_of_a_public_name_begins_with_what_it_is(name: str) -> None:
    text = getattr(procession, name).__doc__ or ""
    assert len(text) > 20
    assert not text.startswith(("See the module", f"{name}("))  # the latter is what a dataclass without one gets


@pytest.mark.parametrize("name", ERRORS)
def test_an_error_is_of_the_one_tree(name: str) -> None:
    assert issubclass(getattr(procession, name), procession.ProcessionError)


def test_every_error_of_the_tree_is_public() -> None:
    errors = importlib.import_module("procession.ipc.core.errors")
    tree = {
        name
        for name, value in vars(errors).items()
        if isinstance(value, type) and issubclass(value, procession.ProcessionError) and not name.startswith("_")
    }
    assert tree == set(ERRORS)


def test_the_names_that_type_checkers_see_are_the_ones_that_run() -> None:
    seen = {}
    for node in ast.walk(ast.parse((SOURCE / "procession" / "__init__.py").read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("procession."):
            seen.update({alias.asname: node.module for alias in node.names if alias.asname})
    assert sorted([*seen, "__version__"]) == PUBLIC
    for name, module in seen.items():
        assert getattr(importlib.import_module(module), name) is getattr(procession, name)


def test_an_unknown_name_is_an_attribute_error_that_names_it() -> None:
    with pytest.raises(AttributeError, match="no attribute 'Hosst'"):
        getattr(procession, "Hosst")  # noqa: B009 - the lookup is what is tested
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        getattr(procession.testing, "nothing")  # noqa: B009 - as above


def test_testing_has_its_listed_names() -> None:
    assert procession.testing.__all__ == ["shutdown_default_host"]
    assert callable(procession.testing.shutdown_default_host)
