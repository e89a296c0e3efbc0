"""The exit codes of the command line, as tables: what each ending is, for a program's verb and for any other."""

import signal

import pytest

from procession.api.cli import exit_codes
from procession.api.cli.app import VERBS
from procession.ipc.core import errors
from procession.ipc.core.errors import ERROR_TYPES, ProcessionError
from procession.ipc.core.records import RunReport

PLAIN = {
    "ProcessionError": 1, "NotDelivered": 1, "SessionNotFound": 3, "SessionNotRunning": 1, "SessionRestarting": 1,
    "MailboxFull": 5, "ExpiredInQueue": 1, "MessageTooLarge": 5, "HostOverloaded": 5, "InvalidRequest": 2,
    "AlreadyExists": 1, "SessionLimitReached": 5, "PermissionDenied": 5, "RateLimited": 5, "CallCycle": 1,
    "OutcomeUnknown": 1, "CallTimedOut": 1, "SessionDied": 1, "HostLost": 4, "ToolOutcomeUnknown": 1, "ToolFailed": 1,
    "ToolRaised": 1, "ToolTimedOut": 1, "ToolCrashed": 1, "ToolLimitExceeded": 5, "ToolOutOfMemory": 5,
    "ToolResultInvalid": 1, "AgentError": 1, "CallCancelled": 1, "StartFailed": 1, "SandboxUnavailable": 5,
    "ProtocolError": 1, "StorageError": 1, "DiskFull": 1, "JournalCorrupt": 1, "InvalidTransition": 1,
}  # fmt: skip
PROGRAM = dict.fromkeys(PLAIN, 125) | {
    "ToolTimedOut": 124, "CallTimedOut": 124, "ExpiredInQueue": 124, "ToolLimitExceeded": 137, "ToolOutOfMemory": 137,
    "SandboxUnavailable": 126, "PermissionDenied": 126, "CallCancelled": 130,
}  # fmt: skip


def test_the_tables_name_every_error() -> None:
    assert set(PLAIN) == set(PROGRAM) == set(ERROR_TYPES)


@pytest.mark.parametrize(("name", "code"), PLAIN.items())
def test_code_of_a_plain_verb(name: str, code: int) -> None:
    assert exit_codes.for_error(ERROR_TYPES[name]("no"), "plain") == code


@pytest.mark.parametrize(("name", "code"), PROGRAM.items())
def test_code_of_a_programs_verb(name: str, code: int) -> None:
    assert exit_codes.for_error(ERROR_TYPES[name]("no"), "program") == code


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.InvalidRequest("x", code="command_not_found"), 127),
        (errors.InvalidRequest("x", code="not_executable"), 126),
        (errors.InvalidRequest("x", code="cwd_missing"), 125),
        (errors.HostLost("x", code="no_host"), 125),
        (errors.ToolCrashed("x", report=RunReport(ended="signal", signal="SIGSEGV")), 139),
        (errors.ToolCrashed("x", report=RunReport(ended="signal", signal="SIGNEW")), 125),
        (errors.ToolCrashed("x", report=RunReport(ended="exit", exit_code=3)), 3),
        (errors.ToolCrashed("x", report=RunReport(ended="exit", exit_code=0)), 125),
    ],
)
def test_code_of_a_program_that_could_not_start_or_crashed(error: ProcessionError, code: int) -> None:
    assert exit_codes.for_error(error, "program") == code


@pytest.mark.parametrize(
    ("given", "code"), [(0, 0), (3, 3), (255, 255), (-signal.SIGSEGV, 139), (-signal.SIGKILL, 137)]
)
def test_a_programs_own_code_is_passed_on(given: int, code: int) -> None:
    assert exit_codes.for_exit(given) == code


def test_only_run_exec_and_python_have_dockers_codes() -> None:
    assert {verb for verb in VERBS if exit_codes.kind_of(verb) == "program"} == {"run", "exec", "python"}
    assert (exit_codes.usage_code("program"), exit_codes.usage_code("plain")) == (125, 2)
