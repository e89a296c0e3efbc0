"""What the forked child of `exec` and `start` does: set the stage for a command and become it.

Whatever keeps the command from starting is told on the result pipe, which closes by itself when the exec succeeds: so
"there is no such command" is never mistaken for a command that exits with 127.
"""

from __future__ import annotations

import errno
import os
import signal
from dataclasses import dataclass
from typing import Final, NoReturn

from procession.agent_proc import rlimits
from procession.agent_proc.context import read_payload
from procession.agent_proc.core.worker_messages import NotRun
from procession.agent_proc.worker import ChildFds, plain, settle_streams, tell
from procession.ipc.core.limits import Limits
from procession.ipc.core.messages import Payload

_MISSING: Final = frozenset({errno.ENOENT, errno.ENOTDIR})


@dataclass(frozen=True, slots=True)
class CommandOrder:
    """What the session hands to the child. cwd: relative to the session's, None for that itself. env: the whole one."""

    argv: tuple[str, ...]
    cwd: str | None
    env: dict[str, str]
    limits: Limits
    payload: Payload = None
    arena_in_fd: int = -1


def run_command(order: CommandOrder, fds: ChildFds) -> NoReturn:
    """Become the command; does not return."""
    problem = _become(order, fds)
    tell(fds.result, problem)
    os._exit(127)


def _become(order: CommandOrder, fds: ChildFds) -> NotRun:
    settle_streams(fds)
    if order.payload is not None:
        _feed_input(read_payload(order.payload, order.arena_in_fd))
        if order.arena_in_fd >= 0:
            os.close(order.arena_in_fd)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):  # Python ignores them, and an ignored signal stays so in a program
        signal.signal(number, signal.SIG_DFL)
    if order.cwd is not None:
        try:
            os.chdir(order.cwd)
        except OSError as error:
            text = f"the working directory {order.cwd!r} cannot be entered: {os.strerror(error.errno or 0)}"
            return NotRun("cwd_missing", plain(text))
    rlimits.apply_rlimits(order.limits)
    name = order.argv[0]
    try:
        os.execvpe(name, order.argv, order.env)
    except OSError as error:
        why = os.strerror(error.errno or 0)
        if error.errno in _MISSING:
            hint = "give its full path" if os.sep in name else "is it on PATH inside the session?"
            return NotRun("command_not_found", plain(f"there is no command {name!r}: {why}"), hint)
        return NotRun("not_executable", plain(f"the command {name!r} cannot be executed: {why}"))


def _feed_input(data: bytes) -> None:
    """Make `data` the standard input: a file in memory, so that nobody has to write while the command reads."""
    fd = os.memfd_create("procession-input", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    os.dup2(fd, 0)
    os.close(fd)
