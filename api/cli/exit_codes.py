"""From how something ended to the exit code of the command line; pure, one table for each kind of verb.

`run`, `exec` and `python` pass on the program's own code and use docker's for ours; every other verb has small codes that a
script can tell apart. The most special class in an error's family decides.
"""

from __future__ import annotations

import signal
from typing import Final, Literal

from procession.ipc.core import errors
from procession.ipc.core.errors import ProcessionError

Kind = Literal["program", "plain"]

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
NO_SESSION: Final = 3
NO_HOST: Final = 4
REFUSED: Final = 5

DEADLINE: Final = 124
OURS: Final = 125
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
SIGNAL_BASE: Final = 128
#: A limit is enforced with SIGKILL, so a program that went over one ends as one killed by it does.
LIMIT: Final = SIGNAL_BASE + signal.SIGKILL
INTERRUPTED: Final = SIGNAL_BASE + signal.SIGINT
BROKEN_PIPE: Final = SIGNAL_BASE + signal.SIGPIPE

#: Verbs whose exit code is a program's.
PROGRAM_VERBS: Final = frozenset({"run", "exec", "python"})

_PLAIN: Final[dict[type[ProcessionError], int]] = {
    ProcessionError: FAILED,
    errors.InvalidRequest: USAGE,
    errors.SessionNotFound: NO_SESSION,
    errors.HostLost: NO_HOST,
    errors.SandboxUnavailable: REFUSED,
    errors.PermissionDenied: REFUSED,
    errors.SessionLimitReached: REFUSED,
    errors.HostOverloaded: REFUSED,
    errors.RateLimited: REFUSED,
    errors.MailboxFull: REFUSED,
    errors.MessageTooLarge: REFUSED,
    errors.ToolLimitExceeded: REFUSED,
}

_PROGRAM: Final[dict[type[ProcessionError], int]] = {
    ProcessionError: OURS,
    errors.ToolTimedOut: DEADLINE,
    errors.CallTimedOut: DEADLINE,
    errors.ExpiredInQueue: DEADLINE,
    errors.ToolLimitExceeded: LIMIT,
    errors.SandboxUnavailable: NOT_EXECUTABLE,
    errors.PermissionDenied: NOT_EXECUTABLE,
    errors.CallCancelled: INTERRUPTED,
}

#: What a command that could not be started answers, whatever its class.
_PROGRAM_CODES: Final = {"command_not_found": NOT_FOUND, "not_executable": NOT_EXECUTABLE, "no_host": OURS}


def kind_of(verb: str) -> Kind:
    """Say which of the two tables a verb uses."""
    return "program" if verb in PROGRAM_VERBS else "plain"


def usage_code(kind: Kind) -> int:
    """Return the code of a command line that cannot be read; docker's own is 125, so that no program's code is taken."""
    return OURS if kind == "program" else USAGE


def for_error(error: ProcessionError, kind: Kind) -> int:
    """Return the exit code for an error that ended a verb."""
    if kind == "plain":
        return _most_special(error, _PLAIN)
    if error.code in _PROGRAM_CODES:
        return _PROGRAM_CODES[error.code]
    if isinstance(error, errors.ToolCrashed) and error.report is not None and error.report.signal is not None:
        return for_signal(error.report.signal)
    if isinstance(error, errors.ToolCrashed) and error.report is not None and error.report.exit_code is not None:
        return error.report.exit_code or OURS
    return _most_special(error, _PROGRAM)


def for_signal(name: str) -> int:
    """Return 128+N for a signal by name; 125 for a name that this system does not know."""
    known = signal.Signals.__members__.get(name)
    return OURS if known is None else SIGNAL_BASE + known


def for_exit(exit_code: int) -> int:
    """Return what a shell shows for an exit code in `subprocess`'s form, where -N is a death by signal N."""
    return exit_code if exit_code >= 0 else SIGNAL_BASE - exit_code


def _most_special(error: ProcessionError, table: dict[type[ProcessionError], int]) -> int:
    for family in type(error).__mro__:
        if family in table:
            return table[family]
    raise AssertionError("every table has a row for ProcessionError")
