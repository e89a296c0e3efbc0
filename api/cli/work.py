"""The verbs whose exit code is a program's: `run` a file, `exec` a command, `python` for code.

Rules: what the program prints goes to our stdout and stderr byte for byte as it comes; what procession has to say is a line
on stderr; the program's exit code is passed on, and what is not the program's doing has docker's codes.
"""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, Cpu, DataDir, Memory, SandboxName, SessionName
from procession.api.cli.carry import OutputClosed, Pump, carry_out, ended_by_signals, interrupted, standard_input, told
from procession.api.cli.client import Asker, connected, limits_of, timeout_of
from procession.api.cli.output import colours, note, print_json, say
from procession.api.cli.run_file import run_file
from procession.api.core import plans
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.records import CodeResult

Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="SECONDS", help="Kill it, and all it started, after this (30).")
]


def run(
    file: Annotated[
        str, typer.Argument(metavar="FILE", help="A .py file, an executable file, or - for standard input.")
    ],
    args: Annotated[list[str] | None, typer.Argument(metavar="[ARGS]...", help="Its arguments.")] = None,
    timeout: Timeout = None,
    memory: Memory = None,
    cpu: Cpu = None,
    cwd: Annotated[str | None, typer.Option("--cwd", metavar="DIR", help="Where it runs (here).")] = None,
    sandbox: SandboxName = "off",
) -> int:
    """Run a script or program isolated: it ends on time, whole, and its exit code is passed on. Needs no host.

    Options come before FILE; everything after it is the script's. Standard input is read to its end first, unless it is a
    terminal. Exit codes: the program's own, 124 at its deadline, 137 over a limit, 125 when procession failed, 126 not
    executable, 127 not found, 128+N for signal N.
    """
    return run_file(file, args or [], timeout=timeout, memory=memory, cpu=cpu, cwd=cwd, sandbox=sandbox)


def execute(
    session: SessionName,
    command: Annotated[list[str], typer.Argument(metavar="[--] CMD...", help="The command and its arguments.")],
    timeout: Timeout = None,
    memory: Memory = None,
    cpu: Cpu = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Where it runs (the session's project).")
    ] = None,
    data_dir: DataDir = None,
) -> int:
    """Run a command in a session: it ends on time, whole, and its exit code is passed on.

    Options come before ID. Exit codes as of `run`.
    """
    argv = tuple(command[1:] if command[0] == "--" else command)
    if not argv:
        raise InvalidRequest("no command was given", hint="procession exec ID -- CMD ARGS")
    timeout_s = timeout_of(timeout, "exec")
    limits = limits_of(memory, cpu)
    with connected(data_dir, ends_with_us=True) as host, ended_by_signals():
        host.ask(plans.find_session(session))  # an unknown session is told before standard input is read
        plan = plans.exec_command(
            session,
            argv,
            shell=False,
            cwd=cwd,
            env=None,
            data=standard_input(timeout_s),
            limits=limits,
            timeout_s=timeout_s,
            check=False,
            on_item=None,
        )
        return carry_out(host, plan, argv[0])


def python(
    session: SessionName,
    code: Annotated[str | None, typer.Argument(metavar="[CODE|-]", help="Code, or - to read it from stdin.")] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Run Python code in a session's own interpreter, which keeps its names from one call to the next.

    Without CODE: read it from standard input, line by line when that is a terminal.
    """
    timeout_s = timeout_of(timeout, "run_code")
    with connected(data_dir, ends_with_us=True) as host, ended_by_signals():
        host.ask(plans.find_session(session))
        if code is None and sys.stdin.isatty():
            from procession.api.cli.console import talk

            return talk(lambda cell: _cell(host, session, cell, timeout_s, as_json))
        if code is None or code == "-":
            code = (standard_input(timeout_s, terminal=True) or b"").decode("utf-8", "replace")
        return _cell(host, session, code, timeout_s, as_json)


def _cell(host: Asker, session: str, code: str, timeout_s: float | None, as_json: bool) -> int:
    """Run one cell; print what it prints, its value, and its traceback."""
    pump = Pump()
    plan = plans.run_code(session, code, limits=Limits(), timeout_s=timeout_s, on_item=None if as_json else pump)
    try:
        result = host.ask(plan)
    except OutputClosed:
        return exit_codes.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        return interrupted(interrupt, "the cell")
    except ProcessionError as error:
        return told(error, "the cell")
    pump.tell_dropped()
    if as_json:
        print_json(result)
    else:
        _show(result)
    return exit_codes.OK if result.ok else exit_codes.FAILED


def _show(result: CodeResult) -> None:
    if result.fresh and sys.stderr.isatty():
        note("a fresh interpreter: names of earlier calls are gone")
    if result.value is not None:
        say(result.value)
    if result.error is not None:
        red, off = ("\x1b[31m", "\x1b[0m") if colours(sys.stderr) else ("", "")
        sys.stderr.write(f"{red}{result.error.rstrip()}{off}\n")
        sys.stderr.flush()
