"""The verbs whose exit code is a program's: `run` a file in a host of its own, `exec` a command, `python` for code.

Rules: what the program prints goes to our stdout and stderr byte for byte as it comes; what procession has to say is a line
on stderr; the program's exit code is passed on, and what is not the program's doing has docker's codes.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Final

import typer

from procession.api.cli import exit_codes
from procession.api.cli.app import AsJson, Cpu, DataDir, Memory, SandboxName, SessionName
from procession.api.cli.client import Asker, check_sandbox, connected, limits_of, timeout_of
from procession.api.cli.output import colours, complain, count, note, plain, print_json, receipt_words, seconds
from procession.api.core import plans
from procession.ipc.core import errors
from procession.ipc.core.backend import Item
from procession.ipc.core.bounds import PAYLOAD_BYTES_MAX
from procession.ipc.core.errors import InvalidRequest, ProcessionError
from procession.ipc.core.limits import Limits
from procession.ipc.core.operations import StartBody
from procession.ipc.core.records import CodeResult, CommandResult, OutputChunk

#: One read of standard input.
_READ_BYTES: Final = 1 << 20

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
    cwd: Annotated[Path | None, typer.Option("--cwd", metavar="DIR", help="Where it runs (here).")] = None,
    sandbox: SandboxName = "off",
) -> int:
    """Run a script or program isolated: it ends on time, whole, and its exit code is passed on. Needs no host.

    Options come before FILE; everything after it is the script's. Exit codes: the program's own, 124 at its deadline,
    137 over a limit, 125 when procession failed, 126 not executable, 127 not found, 128+N for signal N.
    """
    timeout_s = timeout_of(timeout, "exec")
    limits = limits_of(memory, cpu)
    spec = StartBody(sandbox=check_sandbox(sandbox), limits=limits, restart="temporary", temporary=True)
    folder = _folder(cwd)
    argv, data = _command_of(file if cwd is None or file == "-" else os.path.abspath(file), args or [])
    if data is None:
        data = _standard_input(timeout_s)
    if sandbox == "off" and sys.stderr.isatty():
        note("sandbox off: limits and kill domain only, for crashy code, not for hostile code")
    with _ended_by_signals(), _own_host() as host:
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
        )
        return _carry_out(host, plan, file)


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
    with connected(data_dir) as host:
        host.ask(plans.find_session(session))  # an unknown session is told before standard input is read
        plan = plans.exec_command(
            session,
            argv,
            shell=False,
            cwd=cwd,
            env=None,
            data=_standard_input(timeout_s),
            limits=limits,
            timeout_s=timeout_s,
            check=False,
            on_item=None,
        )
        with _ended_by_signals():
            return _carry_out(host, plan, argv[0])


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
    with connected(data_dir) as host, _ended_by_signals():
        host.ask(plans.find_session(session))
        if code is None and sys.stdin.isatty():
            from procession.api.cli.console import talk

            return talk(lambda cell: _cell(host, session, cell, timeout_s, as_json))
        if code is None or code == "-":
            code = (_standard_input(timeout_s, terminal=True) or b"").decode("utf-8", "replace")
        return _cell(host, session, code, timeout_s, as_json)


# --- carrying out -------------------------------------------------------------------------------------------
class OutputClosed(KeyboardInterrupt):
    """Nobody reads our output any more: as Ctrl-C, the work is ended, but nothing is said."""


class Terminated(KeyboardInterrupt):
    """A signal asked us to end: as Ctrl-C, the work is ended first."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


class Pump:
    """Writes what comes to our own stdout and stderr, whole, and counts what never came."""

    def __init__(self) -> None:
        self.dropped = {"stdout": 0, "stderr": 0}

    def __call__(self, item: Item) -> None:
        assert isinstance(item, OutputChunk)
        self.dropped[item.stream] += item.dropped
        view = memoryview(item.data)
        try:
            while view:
                view = view[os.write(1 if item.stream == "stdout" else 2, view) :]
        except BrokenPipeError:
            raise OutputClosed from None

    def tell_dropped(self) -> None:
        """Say what was lost, to the byte: nothing is lost in silence."""
        for stream, lost in self.dropped.items():
            if lost:
                note(f"{stream} came faster than it is passed on: {lost} bytes of it were dropped")


def _carry_out(host: Asker, plan: plans.Plan[CommandResult], name: str) -> int:
    """Run a command, pass on what it prints, and say how it ended where its exit code does not."""
    pump = Pump()
    plan.request.on_item = pump
    try:
        result = host.ask(plan)
    except OutputClosed:
        return exit_codes.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, name)
    except ProcessionError as error:
        pump.tell_dropped()
        return _told(error, name)
    pump.tell_dropped()
    left = result.report.processes_left
    if left:
        note(f"{count(left, 'process', 'processes')} of it could not be proved gone")
    return exit_codes.for_exit(result.exit_code)


def _told(error: ProcessionError, name: str) -> int:
    """Say in one line what ended the program, and return its code."""
    report = error.report
    after = f" after {seconds(report.elapsed_s)}" if report is not None else ""
    receipt = f": {receipt_words(report.receipt)}" if report is not None else ""
    code = exit_codes.for_error(error, "program")
    match error:
        case errors.ToolTimedOut():
            complain(f"killed {name} at its deadline{after}{receipt}", "--timeout SECONDS gives it longer")
        case errors.ToolLimitExceeded():
            complain(f"killed {name} over its {error.limit or 'memory'} limit{after}{receipt}")
        case errors.InvalidRequest(code="command_not_found" | "not_executable" | "cwd_missing"):
            complain(error.message, error.hint)
        case _:
            raise error
    return code


def _interrupted(interrupt: KeyboardInterrupt, name: str) -> int:
    """Say what became of the program after Ctrl-C or a signal to us."""
    for text in getattr(interrupt, "__notes__", ()):
        note(text.removeprefix("procession: "))
    number = interrupt.number if isinstance(interrupt, Terminated) else signal.SIGINT
    complain(f"{signal.Signals(number).name}: killed {name} and all it started")
    return exit_codes.SIGNAL_BASE + number


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let SIGTERM and SIGHUP end the work as Ctrl-C does, while this is open."""

    def end(number: int, _: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)  # a second one is not waited for; what we started ends with us
        raise Terminated(number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _own_host() -> Iterator[Asker]:
    """Open a private host, gone with its folder when this closes; a second Ctrl-C meanwhile leaves at once."""
    from procession.host.engine import Engine
    from procession.host.options import HostOptions

    engine = Engine(HostOptions(sandbox="off", max_sessions=1, serve=False))
    try:
        yield Asker(engine)
    finally:
        try:
            engine.close()
        except KeyboardInterrupt:
            os._exit(exit_codes.INTERRUPTED)  # every process of ours ends with us: the keepers see to it


# --- what is to be run --------------------------------------------------------------------------------------
def _command_of(file: str, args: list[str]) -> tuple[tuple[str, ...], bytes | None]:
    """Return the command that runs `file`, and its input when that has been read already.

    A .py file is run by this interpreter exactly as `python FILE ARGS` would; `-` is code on standard input.
    """
    if file == "-":
        return (sys.executable, "-", *args), _standard_input(None, terminal=True) or b""
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


def _folder(cwd: Path | None) -> str:
    folder = Path.cwd() if cwd is None else cwd.absolute()
    if not folder.is_dir():
        raise InvalidRequest(f"--cwd: there is no folder {str(cwd)!r}", code="path_not_found")
    return str(folder)


def _standard_input(timeout_s: float | None, *, terminal: bool = False) -> bytes | None:
    """Read our standard input to its end, at most what a payload may hold; None when there is none.

    It is read before the program starts. terminal: also when it is one.
    """
    import select
    import time

    try:
        if os.isatty(0) and not terminal:
            return None
        until = None if timeout_s is None else time.monotonic() + timeout_s
        parts, held = [], 0
        while True:
            left = None if until is None else max(0.0, until - time.monotonic())
            if not select.select([0], [], [], left)[0]:
                raise errors.ExpiredInQueue(
                    f"standard input did not end within {timeout_s:g} s, so nothing was started",
                    hint="end it, or give </dev/null",
                )
            data = os.read(0, _READ_BYTES)
            if not data:
                return b"".join(parts)
            held += len(data)
            if held > PAYLOAD_BYTES_MAX:
                raise errors.MessageTooLarge(
                    f"standard input is over the limit of {PAYLOAD_BYTES_MAX} bytes",
                    code="payload_too_large",
                    hint="give the program a file instead",
                )
            parts.append(data)
    except OSError:  # closed: a program without an input
        return None


# --- code ---------------------------------------------------------------------------------------------------
def _cell(host: Asker, session: str, code: str, timeout_s: float | None, as_json: bool) -> int:
    """Run one cell; print what it prints, its value, and its traceback."""
    pump = Pump()
    plan = plans.run_code(session, code, limits=Limits(), timeout_s=timeout_s, on_item=None if as_json else pump)
    try:
        result = host.ask(plan)
    except OutputClosed:
        return exit_codes.BROKEN_PIPE
    except KeyboardInterrupt as interrupt:
        return _interrupted(interrupt, "the cell")
    except ProcessionError as error:
        return _told(error, "the cell")
    pump.tell_dropped()
    if as_json:
        print_json(plain(result))
    else:
        _show(result)
    return exit_codes.OK if result.ok else exit_codes.FAILED


def _show(result: CodeResult) -> None:
    if result.fresh and sys.stderr.isatty():
        note("a fresh interpreter: names of earlier calls are gone")
    if result.value is not None:
        print(result.value, flush=True)
    if result.error is not None:
        red, off = ("\x1b[31m", "\x1b[0m") if colours(sys.stderr) else ("", "")
        sys.stderr.write(f"{red}{result.error.rstrip()}{off}\n")
        sys.stderr.flush()
