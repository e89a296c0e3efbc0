"""The verbs whose exit code is a program's: `run` a file, `exec` a command, `python` for code.

Rules: what the program prints goes to our stdout and stderr byte for byte as it comes; what procession has to say is a line
on stderr; the program's exit code is passed on, and what is not the program's doing has docker's codes.
"""

from __future__ import annotations

import sys
from typing import Annotated, Final, NamedTuple

import typer

from procession.api.cli import exit_codes, standard_input
from procession.api.cli.app import AsJson, Cpu, DataDir, Memory, SandboxName, SessionName
from procession.api.cli.carry import (
    OutputClosed,
    Pump,
    Terminated,
    carry_out,
    ended_by_signals,
    interrupted,
    read_standard_input,
    told,
)
from procession.api.cli.client import Asker, connected, limits_of, timeout_of
from procession.api.cli.output import colours, complain, note, print_json, say, seconds
from procession.api.cli.run_file import run_file
from procession.api.core import plans
from procession.ipc.core.errors import InvalidRequest, ProcessionError, ToolTimedOut
from procession.ipc.core.limits import Limits
from procession.ipc.core.records import CodeResult, KillReceipt

Timeout = Annotated[
    str | None, typer.Option("--timeout", metavar="SECONDS", help="Kill it, and all it started, after this (30).")
]
NoStdin = Annotated[bool, typer.Option("-n", "--no-stdin", help="Give it an empty standard input.")]

#: How long Ctrl-C waits at most to learn what it did to an interpreter.
_LOOK_S: Final = 5.0


class CellEnd(NamedTuple):
    """How a cell ended. leaves: with sys.exit(), so a prompt ends too."""

    code: int
    leaves: bool = False


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
    no_stdin: NoStdin = False,
) -> int:
    """Run a script or program isolated: it ends on time, whole, and its exit code is passed on. Needs no host.

    Options come before FILE; everything after it is the script's. It reads our standard input as it goes and leaves the
    rest; at a terminal it has an empty one, so that input() raises EOFError. Ctrl-C ends it with SIGTERM, then SIGKILL.
    Exit codes: the program's own, 124 at its deadline, 137 over a limit, 125 when procession failed, 126 not executable,
    127 not found, 128+N for signal N.
    """
    return run_file(
        file, args or [], timeout=timeout, memory=memory, cpu=cpu, cwd=cwd, sandbox=sandbox, no_stdin=no_stdin
    )


def execute(
    session: SessionName,
    command: Annotated[list[str], typer.Argument(metavar="[--] CMD...", help="The command and its arguments.")],
    timeout: Timeout = None,
    memory: Memory = None,
    cpu: Cpu = None,
    cwd: Annotated[
        str | None, typer.Option("--cwd", metavar="DIR", help="Where it runs (the session's project).")
    ] = None,
    no_stdin: NoStdin = False,
    data_dir: DataDir = None,
) -> int:
    """Run a command in a session: it ends on time, whole, and its exit code is passed on.

    Options come before ID. Standard input and exit codes as of `run`.
    """
    argv = _command(session, command)
    timeout_s = timeout_of(timeout, "exec")
    limits = limits_of(memory, cpu)
    with connected(data_dir, ends_with_us=True) as host, ended_by_signals():
        host.ask(plans.find_session(session))  # an unknown session is told before anything else
        with standard_input.handed_on(nothing=no_stdin) as opening:
            plan = plans.exec_command(
                session,
                (*opening, *argv),
                shell=False,
                cwd=cwd,
                env=None,
                data=None,
                limits=limits,
                timeout_s=timeout_s,
                check=False,
                on_item=None,
            )
            return carry_out(host, plan, argv[0], memory=memory)


def _command(session: str, words: list[str]) -> tuple[str, ...]:
    """Return the command that `exec` was given; an option of ours that came too late is not one."""
    if words[0] == "--":
        words = words[1:]
    elif words[0].startswith("-"):
        raise InvalidRequest(
            f"{words[0]!r} comes after the session's name, where the command begins",
            code="invalid_command",
            hint=f"options come before ID: `procession exec {words[0]} … {session} -- CMD ARGS`",
        )
    if not words:
        raise InvalidRequest("no command was given", hint="procession exec ID -- CMD ARGS")
    return tuple(words)


def python(
    session: SessionName,
    code: Annotated[str | None, typer.Argument(metavar="[CODE|-]", help="Code, or - to read it from stdin.")] = None,
    timeout: Timeout = None,
    as_json: AsJson = False,
    data_dir: DataDir = None,
) -> int:
    """Run Python code in a session's own interpreter, which keeps its names from one call to the next.

    Without CODE: read it from standard input, line by line when that is a terminal. The exit code is 0, 1 when the code
    raised, or what it gave to sys.exit().
    """
    timeout_s = timeout_of(timeout, "run_code")
    with connected(data_dir, ends_with_us=True) as host, ended_by_signals():
        host.ask(plans.find_session(session))
        if code is None and sys.stdin.isatty():
            from procession.api.cli.console import talk

            return talk(lambda cell: _cell(host, session, cell, timeout_s, as_json))
        if code is None or code == "-":
            code = read_standard_input(timeout_s).decode("utf-8", "replace")
        return _cell(host, session, code, timeout_s, as_json).code


def _cell(host: Asker, session: str, code: str, timeout_s: float | None, as_json: bool) -> CellEnd:
    """Run one cell; print what it prints, its value, and its traceback."""
    pump = Pump()
    plan = plans.run_code(session, code, limits=Limits(), timeout_s=timeout_s, on_item=None if as_json else pump)
    try:
        result = host.ask(plan)
    except OutputClosed as closed:
        return CellEnd(closed.told())
    except KeyboardInterrupt as interrupt:
        became = "ended the cell" if isinstance(interrupt, Terminated) else _became(host, session)
        return CellEnd(interrupted(interrupt, "the cell", became))
    except ProcessionError as error:
        return CellEnd(_told(error))
    pump.tell_dropped()
    if as_json:
        print_json(result)
    else:
        _show(result)
    if result.exit_code is not None:
        return CellEnd(result.exit_code, leaves=True)
    return CellEnd(exit_codes.OK if result.ok else exit_codes.FAILED)


def _told(error: ProcessionError) -> int:
    """Say what ended a cell; at its deadline that may have been an interrupt that its interpreter outlived."""
    report = error.report
    if isinstance(error, ToolTimedOut) and report is not None and report.receipt == KillReceipt():
        complain(
            f"interrupted the cell at its deadline after {seconds(report.elapsed_s)}; its names are kept",
            "--timeout SECONDS gives it longer",
        )
        return exit_codes.DEADLINE
    return told(error, "the cell and its interpreter")


def _became(host: Asker, session: str) -> str:
    """Find out what Ctrl-C did: a cell that heeds it leaves its interpreter alive, with all names."""
    try:
        probe = host.ask(plans.run_code(session, "", limits=Limits(), timeout_s=_LOOK_S, on_item=None))
    except (ProcessionError, KeyboardInterrupt):
        return "interrupted the cell; what became of it is not known yet"
    if probe.fresh:
        return "killed the cell, which did not heed the interrupt, and its interpreter: the names are gone"
    return "interrupted the cell; its names are kept"


def _show(result: CodeResult) -> None:
    if result.fresh:
        note("a fresh interpreter: it has no names of earlier calls")
    if result.value is not None:
        say(result.value)
    error = result.error
    if result.exit_code is not None and error is not None:
        error = said_at_exit(error, result.exit_code)
    if error:
        red, off = ("\x1b[31m", "\x1b[0m") if colours(sys.stderr) else ("", "")
        sys.stderr.write(f"{red}{error.rstrip()}{off}\n")
        sys.stderr.flush()


def said_at_exit(error: str, exit_code: int) -> str:
    """Return what Python prints for a SystemExit: its text, nothing for a number."""
    text = error.removeprefix("SystemExit").removeprefix(": ")
    try:
        return "" if int(text) & 0xFF == exit_code else text
    except ValueError:
        return text
