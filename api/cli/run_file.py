"""`procession run`: a file run in a host of its own, and the short way there for a plain command line.

It loads no typer: this verb is put before others in scripts and loops, and reading its options costs more than its host.
Rules: a .py file is run by this interpreter exactly as `python FILE ARGS` would be; what the short way does not understand
it leaves to typer, so that there is one help and one way to be told of a mistake.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from procession.api.cli.carry import carry_out, ended_by_signals, own_host, standard_input
from procession.api.cli.client import check_sandbox, limits_of, timeout_of
from procession.api.cli.output import note
from procession.api.core import plans
from procession.ipc.core.errors import InvalidRequest
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import StartBody

#: The options of `run`, all with a value; a test holds them to the verb's own.
OPTIONS: Final = ("--timeout", "--memory", "--cpu", "--cwd", "--sandbox")
SANDBOX_OFF: Final = "sandbox off: limits and kill domain only, for crashy code, not for hostile code"


def read_plainly(words: Sequence[str]) -> tuple[dict[str, str], str, list[str]] | None:
    """Read `--option VALUE …` or `--option=VALUE …`, FILE and its arguments; None for anything less plain."""
    options: dict[str, str] = {}
    left = list(words)
    while left and left[0].startswith("-") and left[0] != "-":
        name, equals, value = left.pop(0).partition("=")
        if name not in OPTIONS or not (equals or left):
            return None
        options[name[2:]] = value if equals else left.pop(0)
    return (options, left[0], left[1:]) if left else None


def run_file(
    file: str,
    args: Sequence[str],
    *,
    timeout: str | None = None,
    memory: str | None = None,
    cpu: str | None = None,
    cwd: str | None = None,
    sandbox: str = "off",
) -> int:
    """Run a file with its arguments to its end and return the exit code for it."""
    timeout_s = timeout_of(timeout, "exec")
    limits = limits_of(memory, cpu)
    spec = StartBody(sandbox=check_sandbox(sandbox), limits=limits, restart="temporary", temporary=True)
    folder = _folder(cwd)
    argv, data = command_of(file if cwd is None or file == "-" else os.path.abspath(file), args)
    if data is None:
        data = standard_input(timeout_s)
    if sandbox == "off" and sys.stderr.isatty():
        note(SANDBOX_OFF)
    with ended_by_signals(), own_host() as host:
        session = host.ask(plans.start_session(spec)).id
        plan = plans.exec_command(
            session,
            argv,
            shell=False,
            cwd=folder,
            env=dict(os.environ),
            data=data,
            limits=Limits(),
            timeout_s=timeout_s,
            check=False,
            on_item=None,
            lossless=True,
        )
        return carry_out(host, plan, file)


def command_of(file: str, args: Sequence[str]) -> tuple[tuple[str, ...], bytes | None]:
    """Return the command that runs `file`, and its input when that has been read already.

    A .py file is run by this interpreter exactly as `python FILE ARGS` would; `-` is code on standard input.
    """
    if file == "-":
        return (sys.executable, "-", *args), standard_input(None, terminal=True) or b""
    path = Path(file)
    if not path.exists():
        raise InvalidRequest(f"there is no file {file!r}", code="command_not_found")
    if path.is_dir() or path.suffix != ".py":
        if path.is_dir() and (path / "__main__.py").exists():
            return (sys.executable, file, *args), None
        if path.is_dir() or not os.access(path, os.X_OK):
            hint = "" if path.is_dir() else "a file that does not end in .py has to be executable: chmod +x"
            raise InvalidRequest(
                f"{file!r} is {'a folder' if path.is_dir() else 'not executable'}", code="not_executable", hint=hint
            )
        return (str(path.absolute()), *args), None
    if not os.access(path, os.R_OK):
        raise InvalidRequest(f"{file!r} cannot be read", code="not_executable")
    return (sys.executable, file, *args), None


def _folder(cwd: str | None) -> str:
    folder = Path.cwd() if cwd is None else Path(cwd).absolute()
    if not folder.is_dir():
        raise InvalidRequest(f"--cwd: there is no folder {cwd!r}", code="path_not_found")
    return str(folder)
