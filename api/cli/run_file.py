"""`procession run`: a file run in a host of its own, and the short way there for a plain command line.

It loads no typer: this verb is put before others in scripts and loops, and reading its options costs more than its host.
Rules: a .py file is run by this interpreter exactly as `python FILE ARGS` would be; what the short way does not understand
it leaves to typer, so that there is one help and one way to be told of a mistake.
"""

from __future__ import annotations

import os
import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from procession.api.cli import standard_input
from procession.api.cli.carry import carry_out, ended_by_signals, own_host, read_standard_input
from procession.api.cli.client import check_sandbox, limits_of, timeout_of
from procession.api.cli.output import note
from procession.api.core import plans
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import StartBody

#: The options of `run` that have a value, and those that have none; a test holds them to the verb's own.
OPTIONS: Final = ("--timeout", "--memory", "--cpu", "--cwd", "--sandbox")
FLAGS: Final = {"-n": "no_stdin", "--no-stdin": "no_stdin"}
#: A longer first line of a script is cut by the kernel.
_FIRST_LINE_BYTES: Final = 256
SANDBOX_OFF: Final = "sandbox off: limits and kill domain only, for crashy code, not for hostile code"


class Plain(NamedTuple):
    """A command line of `run` as the short way reads it; `given` are arguments of run_file."""

    given: dict[str, Any]
    file: str
    args: list[str]


def read_plainly(words: Sequence[str]) -> Plain | None:
    """Read `--option VALUE …` or `--option=VALUE …`, FILE and its arguments; None for anything less plain."""
    given: dict[str, Any] = {}
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "-":
        name, equals, value = left.pop(0).partition("=")
        if name in FLAGS and not equals:
            given[FLAGS[name]] = True
            continue
        if name not in OPTIONS or not (equals or left):
            return None
        given[name[2:]] = value if equals else left.pop(0)
    return Plain(given, left[0], left[1:]) if left else None


def run_file(
    file: str,
    args: Sequence[str],
    *,
    timeout: str | None = None,
    memory: str | None = None,
    cpu: str | None = None,
    cwd: str | None = None,
    sandbox: str = "off",
    no_stdin: bool = False,
) -> int:
    """Run a file with its arguments to its end and return the exit code for it."""
    timeout_s = timeout_of(timeout, "exec")
    limits = limits_of(memory, cpu)
    spec = StartBody(sandbox=check_sandbox(sandbox), limits=limits, restart="temporary", temporary=True)
    folder = _folder(cwd)
    argv = command_of(file if cwd is None or file == "-" else os.path.abspath(file), args)
    typed = read_standard_input(None) if file == "-" and os.isatty(0) and not no_stdin else None
    if sandbox == "off" and sys.stderr.isatty():
        note(SANDBOX_OFF)
    with (
        standard_input.handed_on(nothing=no_stdin or typed is not None) as opening,
        ended_by_signals(),
        own_host() as host,
    ):
        session = host.ask(plans.start_session(spec)).id
        plan = plans.exec_command(
            session,
            (*opening, *argv),
            shell=False,
            cwd=folder,
            env=_environment(),
            data=typed,
            limits=Limits(),
            timeout_s=timeout_s,
            check=False,
            on_item=None,
            lossless=True,
        )
        return carry_out(host, plan, file, memory=memory)


def command_of(file: str, args: Sequence[str]) -> tuple[str, ...]:
    """Return the command that runs `file`.

    A .py file is run by this interpreter exactly as `python FILE ARGS` would; `-` is code on standard input.
    """
    if file == "-":
        return sys.executable, "-", *args
    path = Path(file)
    if not path.exists():
        raise InvalidRequest(f"there is no file {file!r}", code="command_not_found", hint=_meant(file, args))
    if path.is_dir() and not (path / "__main__.py").exists():
        raise InvalidRequest(f"{file!r} is a folder", code="not_executable")
    if path.is_dir() or path.suffix == ".py":
        if not os.access(path, os.R_OK):
            raise InvalidRequest(f"{file!r} cannot be read", code="not_executable")
        return sys.executable, file, *args
    if not os.access(path, os.X_OK):
        hint = "a file that does not end in .py has to be executable: chmod +x"
        raise InvalidRequest(f"{file!r} is not executable", code="not_executable", hint=hint)
    _check_interpreter(path)
    return str(path.absolute()), *args


def _meant(file: str, args: Sequence[str]) -> str:
    """Guess what was meant by a FILE that is not there: a command of that name, if there is one."""
    command = shutil.which(file) if os.sep not in file else None
    if command is None:
        return ""
    words = " ".join(("procession run", command, *args[:1], *(["…"] if args[1:] else [])))
    return f"FILE is a path, and {file} is a command: `{words}`, or `procession exec ID -- {file}` in a session"


def _check_interpreter(path: Path) -> None:
    """Refuse a script whose first line names an interpreter that is not there: the kernel says so of the script itself."""
    try:
        with path.open("rb") as script:
            line = script.read(_FIRST_LINE_BYTES).split(b"\n", 1)[0]
    except OSError:  # to be run it need not be readable
        return
    if not line.startswith(b"#!"):
        return
    name = os.fsdecode(re.split(rb"[ \t]+", line[2:].strip(b" \t"), maxsplit=1)[0])
    if name and not os.path.exists(name):
        raise InvalidRequest(
            f"the #! line of {str(path)!r} names an interpreter that is not there: {name!r}",
            code="command_not_found",
            hint="save it with the line ends of Unix"
            if name.endswith("\r")
            else f"correct that line, or say which one: `procession run /path/to/interpreter {path}`",
        )


def _environment() -> dict[str, str]:
    """Return our environment; a variable that is not text cannot cross to the session, and that is said."""
    found = {}
    for name, value in os.environ.items():
        try:
            (name + value).encode()
        except UnicodeEncodeError:
            note(f"the environment variable {name} is not UTF-8 and is left out")
        else:
            found[name] = value
    return found


def _folder(cwd: str | None) -> str:
    folder = Path.cwd() if cwd is None else Path(cwd).absolute()
    if not folder.is_dir():
        raise InvalidRequest(f"--cwd: there is no folder {cwd!r}", code="path_not_found")
    return str(folder)
